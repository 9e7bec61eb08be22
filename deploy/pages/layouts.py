"""The layouts that the reinstall page offers, each drawn on this server or with the reason why it cannot be had."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from deploy.context import image_needs, storage_plan, unseen_image
from images.models import Image
from servers.facts import Facts
from servers.storage.draw import Drawing, drawing
from servers.storage.layout import Layout
from servers.storage.named import NAMES, Suiting, encrypted, named_layout, suiting
from servers.storage.refusal import StorageRefused
from servers.storage.sizes import GIB
from servers.storage.written import Place, TextRefused, read_layout, write_layout

from .draft import CUSTOM, Draft

SWAPS: Mapping[str, int] = {"0": 0, "1": GIB, "4": 4 * GIB, "8": 8 * GIB, "16": 16 * GIB, "32": 32 * GIB}
"""The sizes of swap that are offered, by the word in the form."""

LAYOUT_WORDS: Mapping[str, tuple[str, str]] = {
    "raid1": ("RAID1", "Everything is kept twice: either disk may die, and the server still boots."),
    "lvm-on-raid1": (
        "LVM on RAID1", "Kept twice as well, and the volumes on it can grow, shrink and move while the system runs.",
    ),
    "raid10-data": (
        "RAID1, and RAID10 for data",
        "The system on a pair of disks, or on a part of each; /srv on the rest, which is kept twice as well.",
    ),
    "plain": ("One disk, no RAID", "All of the first disk. When it dies, what is on it is gone."),
}  # fmt: skip
"""What the named layouts are called, and what they mean."""

OVERWRITTEN_PER_HOUR = 3600 * 160 * 10**6
"""Bytes, on a hard disk: about 160 MB/s over all of it. All disks are overwritten at the same time."""

CUSTOM_WORDS = ("Your own", "File systems, RAID, LVM and disk groups as you write them, drawn while you type.")


@dataclass(frozen=True, slots=True)
class LayoutChoice:
    """A layout that is offered: drawn where this server can have it, with the reason where it cannot."""

    name: str
    title: str
    note: str
    layout: Layout | None = None
    drawing: Drawing | None = None
    summary: str = ""
    notes: tuple[str, ...] = ()
    why: str = ""
    fix: str = ""
    place: Place | None = None
    """Where in a text that somebody wrote it goes wrong."""
    is_default: bool = False
    """Whether it is the one to begin with."""

    @property
    def is_custom(self) -> bool:
        """Whether it is the one that somebody writes."""
        return self.name == CUSTOM

    @property
    def marked_line(self) -> tuple[str, str, str] | None:
        """The line that goes wrong: what stands before the mistake, the mistake, and what follows; shortened."""
        if not (place := self.place):
            return None
        begin, end = place.column - 1, min(place.column - 1 + place.end - place.start, len(place.text))
        before, after = place.text[:begin], place.text[end:]
        short = f"…{before[-40:]}" if len(before) > 40 else before.lstrip()
        return short, place.text[begin:end][:80] or " ", after[:40]


def choices(draft: Draft, facts: Facts, image: Image | None) -> tuple[LayoutChoice, ...]:
    """Every layout, on this machine with this image, with the draft's swap, disks and encryption.

    One that does not fit both has the reason. The one to begin with is the first of those that do, as `suiting` has it.
    """
    found = _suiting(draft, facts, image)
    named = [_named(name, found, draft, facts, image) for name in NAMES]
    fitting = [one.name for one in named if not one.why]
    default = found.default if found.default in fitting else next(iter(fitting), "")
    marked = (replace(one, is_default=one.name == default) for one in named)
    return (*marked, custom(draft, facts, image))


def custom(draft: Draft, facts: Facts, image: Image | None) -> LayoutChoice:
    """The layout as it was written, or what is wrong with the text, and where."""
    empty = LayoutChoice(CUSTOM, *CUSTOM_WORDS)
    try:
        written = read_layout(text_of(draft, facts, image))
        # a disk that was said to be kept is kept, whatever the text says; one to be used, where it names none
        keep = tuple(dict.fromkeys((*written.keep, *draft.keep)))
        wanted = replace(written, disks=written.disks or draft.use, keep=keep)
        return _drawn(empty, _with_options(wanted, draft), facts, image)
    except TextRefused as refused:
        return replace(empty, why=refused.why, fix=refused.fix, place=refused.place)
    except StorageRefused as refused:
        return replace(empty, why=refused.why, fix=refused.fix)


def text_of(draft: Draft, facts: Facts, image: Image | None) -> str:
    """The layout that somebody writes; before they have begun, the chosen one as a text to go on from."""
    return beginning(draft.layout, draft, facts, image) if draft.custom is None else draft.custom


def beginning(name: str, draft: Draft, facts: Facts, image: Image | None) -> str:
    """The named layout as a text to go on from; the default one where that does not fit, or there is none."""
    found = _suiting(draft, facts, image)
    plainest = named_layout("plain", facts, _swap(draft), draft.use, draft.keep)
    layout = found.layouts.get(name) or found.layouts.get(found.default) or plainest
    return write_layout(replace(layout, name="custom"))


def erase_words(facts: Facts) -> str:
    """How a secure erase goes on these disks, and how long it takes, in a sentence."""
    rotating = [disk.size for disk in facts.disks if disk.rotational]
    ways = []
    if len(rotating) < len(facts.disks):
        ways.append("SSDs by a command of their own, in seconds or minutes")
    if rotating:
        hours = max(rotating) / OVERWRITTEN_PER_HOUR
        took = f"{hours:.0f} hours" if hours >= 1.5 else f"{max(hours * 60, 1):.0f} minutes"
        ways.append(f"hard disks by overwriting all of them, here in about {took}")
    return f"{' and '.join(ways)}. A disk that knows no such command is overwritten too."


def _suiting(draft: Draft, facts: Facts, image: Image | None) -> Suiting:
    """What suits, on the disks that were chosen; where none were, on those that suit each layout."""
    return suiting(facts, image_needs(image or unseen_image()), _swap(draft), draft.use, draft.keep)


def _swap(draft: Draft) -> int:
    return SWAPS.get(draft.swap, 0)


def _named(name: str, found: Suiting, draft: Draft, facts: Facts, image: Image | None) -> LayoutChoice:
    choice = LayoutChoice(name, *LAYOUT_WORDS[name])
    try:
        if name in found.refused:
            raise found.refused[name]
        return _drawn(choice, _with_options(found.layouts[name], draft), facts, image)
    except StorageRefused as refused:
        return replace(choice, why=refused.why, fix=refused.fix)


def _with_options(layout: Layout, draft: Draft) -> Layout:
    layout = encrypted(layout) if draft.encrypt else layout
    return replace(layout, secure_erase=layout.secure_erase or draft.secure_erase)


def _drawn(choice: LayoutChoice, layout: Layout, facts: Facts, image: Image | None) -> LayoutChoice:
    # The image may not be chosen yet: then the plan is that of the smallest one.
    plan = storage_plan(layout, facts, image or unseen_image(), UUID(int=0))
    summary = "; ".join(plan.summary())
    return replace(choice, layout=layout, drawing=drawing(plan), summary=summary, notes=plan.notes)
