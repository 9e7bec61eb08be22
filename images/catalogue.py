"""The catalogue as a person reads it: images by family and version, and how their installs went."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from images.capabilities import SAID
from images.flavours import FLAVOURS
from images.inputs import Input, InputsRefused, parse_inputs
from images.life import Life, life
from images.models import Image

STATISTICS_DAYS = 30


@dataclass(frozen=True, slots=True)
class CatalogueRow:
    """An image, and how its installs of the last 30 days went."""

    image: Image
    installs: int
    succeeded: int
    failed: int
    ends: Life

    @property
    def tested_here(self) -> bool:
        """Whether a machine of the lab was installed with its flavour, and logged into."""
        return self.image.flavour in FLAVOURS and FLAVOURS[self.image.flavour].tested_here

    @property
    def rate(self) -> int | None:
        """How many of a hundred finished installs succeeded, cancelled ones apart; None before one has finished."""
        finished = self.succeeded + self.failed
        # rounded down: 100 means that none has failed
        return 100 * self.succeeded // finished if finished else None

    @property
    def rate_tone(self) -> str:
        """The tone of the rate: amber below 95, red below 80."""
        return "idle" if self.rate is None else "ok" if self.rate >= 95 else "warn" if self.rate >= 80 else "bad"


@dataclass(frozen=True, slots=True)
class Family:
    """The images of one distribution in one version."""

    title: str
    rows: tuple[CatalogueRow, ...]


def with_statistics(images: QuerySet[Image]) -> QuerySet[Image]:
    """The images with the numbers of their installs of the last 30 days, in the same query.

    `installs` is the reverse of a relation that `deploy` has with images: known here by its name alone.
    """
    recent = Q(installs__created_at__gte=timezone.now() - timedelta(days=STATISTICS_DAYS))
    return images.annotate(
        recent_installs=Count("installs", filter=recent),
        recent_succeeded=Count("installs", filter=recent & Q(installs__status="succeeded")),
        recent_failed=Count("installs", filter=recent & Q(installs__status="failed")),
    )


def find(images: QuerySet[Image], q: str = "", state: str = "") -> QuerySet[Image]:
    """Those of the images that a filter means."""
    for word in q.split():
        images = images.filter(
            Q(name__icontains=word) | Q(flavour__icontains=word) | Q(sha256__startswith=word.lower())
        )
    return images.filter(state=state) if state else images


def row_of(image: Image, today: date) -> CatalogueRow:
    """The row of an image that has its statistics."""
    numbers = {name: getattr(image, f"recent_{name}") for name in ("installs", "succeeded", "failed")}
    return CatalogueRow(image, ends=life(image.end_of_life, today), **numbers)


def families(images: Iterable[Image], today: date) -> list[Family]:
    """The images by distribution and version, newest version first within a distribution."""
    ordered = sorted(images, key=lambda image: (_family_key(image.flavour), image.state, image.name))
    return [
        Family(flavour_title(flavour), tuple(row_of(image, today) for image in those))
        for flavour, those in groupby(ordered, key=lambda image: image.flavour)
    ]


def flavour_title(name: str) -> str:
    """The flavour as people write it: Debian 12."""
    return FLAVOURS[name].title if name in FLAVOURS else name


def _family_key(flavour: str) -> tuple[str, int, str]:
    family, _, version = flavour.partition("-")
    number = re.match(r"\d+", version)
    return family, -int(number[0]) if number else 0, flavour


def capabilities_in_words(capabilities: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was found inside, as pairs of words: lists joined, truths as yes and no, blanks left out."""
    return [
        (_words(name), _value(value))
        for name, value in capabilities.items()
        if name not in SAID and value not in ("", None, [], {})
    ]


def said_in_words(capabilities: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What people say that the image can, where it is not as its flavour has it."""
    said = []
    if types := capabilities.get("filesystems"):
        said.append(("File systems", ", ".join(types)))
    levels = capabilities.get("raid", True)
    if levels is not True:
        said.append(("RAID", ", ".join(level.upper() for level in levels or ()) or "none: it has no mdadm"))
    if capabilities.get("lvm", True) is False:
        said.append(("LVM", "none: it has no lvm2"))
    return said


def questions(image: Image) -> tuple[Input, ...]:
    """What the image asks before it is installed."""
    try:
        return parse_inputs(image.capabilities.get("inputs"))
    except InputsRefused:
        return ()


def _words(name: str) -> str:
    words = name.replace("_", " ").replace("-", " ").replace("efi ", "EFI ")
    return words[:1].upper() + words[1:]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_value(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{str(name).replace('_', ' ')} {_value(one)}" for name, one in value.items() if one != "")
    return str(value)
