"""Disks drawn to scale as inline SVG, and sizes for a person.

The SVG has no view box: places and widths are percentages, heights and type are pixels. So a bar is as wide as the
page and its words stay as large as the rest, on a phone too. What does not fit into a segment stands below the bar.
"""

from dataclasses import dataclass
from typing import Any

from django import template

from servers.storage.draw import Bar, Drawing, Segment, SegmentKind, table
from servers.storage.sizes import human, human_disk

register = template.Library()

TIES = 6
"""How many colours there are for arrays; a seventh begins again with the first, and still has its own name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A segment with its place within the bar in percent; `room` says for how much text."""

    segment: Segment
    x: str
    width: str
    room: str
    classes: str

    @property
    def detail(self) -> str:
        """All of it in a line: `/ ext4, 890 GiB, RAID1 root, /dev/sda2`."""
        one = self.segment
        named = " ".join(filter(None, (one.label, one.fstype if one.fstype != one.label else "")))
        return ", ".join(filter(None, (named, one.human, one.array, one.path)))


@dataclass(frozen=True, slots=True)
class Row:
    """A disk, its width in percent of the drawing, and its shapes from left to right."""

    bar: Bar
    width: str
    shapes: tuple[Shape, ...]

    @property
    def untouched(self) -> bool:
        """Whether nothing is known or said of what is on the disk: one segment that is the whole of it."""
        return len(self.shapes) == 1 and self.shapes[0].segment.kind is SegmentKind.KEPT

    @property
    def kept(self) -> str:
        """Why the disk is left alone, beside a lock; empty where it is not."""
        if not self.bar.kept:
            return ""
        return self.shapes[0].segment.label if self.untouched else "kept, will not be touched"

    @property
    def spoken(self) -> str:
        """The bar as a sentence for those who hear it."""
        kept = f" ({self.kept})" if self.kept else ""
        return f"{self.bar.name}, {self.bar.human}{kept}: {'; '.join(shape.detail for shape in self.shapes) or 'empty'}"


@register.inclusion_tag("servers/_disks.html")
def disks(drawing: Drawing, name: str = "disks") -> dict[str, Any]:
    """The drawing with its table folded below; `name` must differ where a page draws more than one."""
    return {"rows": [_row(bar, drawing) for bar in drawing.bars], "table": table(drawing), "name": name}


@register.filter("bytes")
def binary_size(value: int | None) -> str:
    """A size for a person, binary: `512 MiB`; a dash when it is not known."""
    return human(value) if value else "–"


@register.filter
def disk_size(value: int | None) -> str:
    """A disk's size as its label gives it: `960 GB`."""
    return human_disk(value) if value else "–"


def _row(bar: Bar, drawing: Drawing) -> Row:
    return Row(bar, _percent(bar.width, drawing.width), tuple(_shape(one, bar, drawing) for one in bar.segments))


def _shape(one: Segment, bar: Bar, drawing: Drawing) -> Shape:
    # the room is that on the page, which the bar may not fill
    share = one.width / drawing.width
    room = "much" if share >= 0.3 else "some" if share >= 0.11 else "none"
    room = "none" if one.kind is SegmentKind.KEPT else room
    kind = SegmentKind.KEPT if bar.kept else one.kind
    tie = f" tie-{(one.tie - 1) % TIES + 1}" if one.tie and not bar.kept else ""
    return Shape(one, _percent(one.x, bar.width), _percent(one.width, bar.width), room, f"seg-{kind.value}{tie}")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / (whole or 1):.2f}%"
