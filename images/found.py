"""A file that is in the store and inspected, and not yet in the catalogue: between the two steps of adding an image.

Nothing of it is in the database. The page carries what the inspection found, signed, from the first step to the second.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from django.conf import settings
from django.core import signing

from .flavours import FLAVOURS
from .importing import file_name, silent
from .inspect import claimed_format, inspect
from .inspection import LIMITS, Limits
from .models import Image
from .refusal import ImageRefused
from .store import Progress, Store, public_source

_SALT: Final = "images.found"
TOKEN_LIFE: Final = 24 * 3600
"""Seconds that one may think about a found file."""


class TokenRefused(Exception):
    """A text that `Found.token` did not make, or too long ago."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a file, as the catalogue will have it."""

    source: str
    sha256: str
    format: str
    size: int
    virtual_size: int
    root_bytes: int
    capabilities: dict[str, Any]
    checksum: str = ""
    """What the file was compared with: sha256:… or sha512:…."""
    said_flavour: str = ""
    """What the system inside says that it is, where the inspection could read that."""

    @property
    def likely_flavour(self) -> str:
        """The flavour that the file's name speaks of, or the system inside; empty when neither does."""
        name = file_name(self.source).lower().replace("_", "-")
        said = self.said_flavour if self.said_flavour in FLAVOURS else ""
        return next((flavour for flavour in sorted(FLAVOURS) if flavour in name), said)

    @property
    def given_sha512(self) -> str:
        """The SHA-512 that the file was compared with; empty where it was its SHA-256."""
        return self.checksum.removeprefix("sha512:") if self.checksum.startswith("sha512:") else ""

    def token(self) -> str:
        """All of it as a text that `from_token` reads back, and nobody else can make."""
        return signing.dumps(asdict(self), salt=_SALT, compress=True)

    @classmethod
    def from_token(cls, token: str) -> "Found":
        """What was found a step ago; TokenRefused when the text is not ours, or older than a day."""
        try:
            return cls(**signing.loads(token, salt=_SALT, max_age=TOKEN_LIFE))
        except (signing.BadSignature, TypeError) as error:
            raise TokenRefused from error

    def image(self) -> Image:
        """An unsaved entry with all that the file says of itself."""
        columns = asdict(self)
        del columns["checksum"], columns["said_flavour"]
        return Image(path=self.sha256, **columns)


def fetch(
    source: str,
    checksum: str,
    limits: Limits = LIMITS,
    *,
    progress: Progress = silent,
    looking: Callable[[int], None] = lambda size: None,
) -> Found:
    """The file, now in the store; ImageRefused says what is wrong with it, and then the store has not changed.

    Takes as long as the file takes to come in and to be hashed. `looking` is called with its size once it is here.
    """
    store = Store(settings.LANDFALL_IMAGES_DIR)
    try:
        with store.receive(source, limits.file_size, progress, sha512=checksum.startswith("sha512:")) as arrival:
            arrival.refuse_other(checksum)
            looking(arrival.size)
            seen = inspect(arrival.path, claimed_format(file_name(source)), limits)
            store.keep(arrival)
    except OSError as error:
        raise ImageRefused(
            f"{error.filename or 'The image store'}: {error.strerror or error}.",
            "Mend that on the server, then try again.",
        ) from error
    return Found(
        public_source(source)[:1000],
        arrival.sha256,
        seen.format.value,
        seen.size,
        seen.virtual_size,
        seen.root_bytes,
        seen.capabilities(),
        checksum,
        seen.likely_flavour,
    )


def discard(found: Found) -> None:
    """Takes the file out of the store again, unless the catalogue has it."""
    if not Image.objects.filter(sha256=found.sha256).exists():
        Store(settings.LANDFALL_IMAGES_DIR).path(found.sha256).unlink(missing_ok=True)
