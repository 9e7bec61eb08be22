"""Bytes: aligned, read from a person, and written for one.

Two units, on purpose. A disk is named as its label names it (960 GB, powers of ten); what lies on it is given in powers
of two (20 GiB), because partitions are aligned to whole MiB.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40

_UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": KIB,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": TIB,
    # what people type who mean the binary unit, as lsblk, lvcreate and fdisk read it
    "K": KIB,
    "M": MIB,
    "G": GIB,
    "T": TIB,
}
_SIZE: Final = re.compile(r"(\d{1,19})(?:\.(\d{1,6}))?\s*([A-Za-z]*)", re.ASCII)


class SizeRefused(ValueError):
    """The text is no size; the message says what one looks like."""


def align_up(size: int, to: int = MIB) -> int:
    """The smallest multiple of `to` that is not less than `size`."""
    return -(-size // to) * to


def align_down(size: int, to: int = MIB) -> int:
    """The largest multiple of `to` that is not more than `size`."""
    return size // to * to


def parse_size(text: str) -> int:
    """The bytes that a person meant by `20 GiB`, `1.5 TB`, `512M` or `1048576`; SizeRefused otherwise."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[3].upper()) if match else None
    if match is None or unit is None:
        raise SizeRefused(f"'{text[:40]}' is not a size: write a number and a unit, such as 20 GiB or 500 GB.")
    fraction = match[2] or ""
    size: int = int(match[1] + fraction) * unit // 10 ** len(fraction)
    if size < 1:
        raise SizeRefused(f"'{text[:40]}' is less than one byte.")
    return size


def exact(size: int) -> str:
    """A text that `parse_size` reads back as exactly `size`, as short as that allows."""
    for unit in ("TiB", "GiB", "MiB", "TB", "GB", "MB"):
        if size % _UNITS[unit.upper()] == 0 and size:
            return f"{size // _UNITS[unit.upper()]} {unit}"
    return f"{size} B"


def human(size: int) -> str:
    """`size` for a person, three digits and a binary unit: `893 GiB`."""
    return _three_digits(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def human_disk(size: int) -> str:
    """The size of a disk as its label gives it: `960 GB`; a virtual disk of whole GiB stays `8 GiB`."""
    if size and size % GIB == 0 and size < 1000 * GIB:
        return f"{size // GIB} GiB"
    return _three_digits(size, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def _three_digits(size: int, base: int, units: tuple[str, ...]) -> str:
    value = float(size)
    for unit in units:
        if value < base - 0.5 or unit == units[-1]:
            break
        value /= base
    places = 0 if value >= 99.95 or unit == units[0] else 1 if value >= 9.995 else 2
    number = f"{value:.{places}f}"
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"
