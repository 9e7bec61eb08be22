"""The members of a tar, read strictly from a stream: what is damaged or cut off is an error, never the end.

Python's own `tarfile` takes a header that it cannot read for the end of the archive, and so half a download for a whole
one. Pure: bytes in, values out. The formats are POSIX.1-2017 (`pax`) and what GNU tar adds to it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .refusal import ImageRefused

BLOCK: Final = 512
MOST_HEADER: Final = 2**20
"""Bytes that the long names or the further attributes of one member may have."""

Read = Callable[[int], bytes]
"""The next bytes of the stream; fewer at its end alone."""

REGULAR, HARD_LINK, LINK, CHARACTER_DEVICE, BLOCK_DEVICE, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"
_REGULAR_TOO: Final = ("\0", "7")
_GNU_SPARSE: Final = "S"
_KNOWN: Final = (REGULAR, HARD_LINK, LINK, CHARACTER_DEVICE, BLOCK_DEVICE, FOLDER, FIFO, *_REGULAR_TOO, _GNU_SPARSE)
_PAX_RECORD: Final = re.compile(rb"(\d{1,7}) ([^=]{1,200})=")


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `offset` is where its data begins in the stream; `size` what the file takes when it is unpacked."""

    name: str
    type: str
    mode: int
    size: int
    link: str = ""
    offset: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    is_sparse: bool = False
    stored: int = 0


class Tar:
    """A tar that is read from its beginning to its end, once."""

    def __init__(self, read: Read, skip: Callable[[int], None]) -> None:
        self._read = read
        self._skip = skip
        self._at = 0
        self._left = 0  # bytes of the current member that were not read, its padding included

    def __iter__(self) -> Iterator[Member]:
        """The members in their order; ImageRefused when the tar is damaged, or ends before its end."""
        common: dict[str, str] = {}
        while (header := self._next_header()) is not None:
            extra = dict(common)
            while header[156:157] in (b"x", b"g", b"L", b"K"):
                data = self._long(header)
                match header[156:157]:
                    case b"g":
                        common.update(_pax(data))
                        extra.update(common)
                    case b"x":
                        extra.update(_pax(data))
                    case kind:
                        extra["path" if kind == b"L" else "linkpath"] = _text(data.split(b"\0")[0])
                header = self._next_header()
                if header is None:
                    raise damaged("it ends behind a long name")
            yield self._member(header, extra)

    def data(self, member: Member) -> bytes:
        """The bytes of the member that was yielded last: for small ones."""
        data = self._exactly(member.stored)
        self._left -= member.stored
        return data

    def _next_header(self) -> bytes | None:
        self._skip(self._left)
        self._at += self._left
        self._left = 0
        header = self._exactly(BLOCK)
        if not any(header):
            return None
        said = _number(header[148:156])
        if sum(header) - sum(header[148:156]) + 8 * 32 != said:
            raise damaged("the checksum of a header is wrong")
        return header

    def _long(self, header: bytes) -> bytes:
        size = _number(header[124:136])
        if size > MOST_HEADER:
            raise damaged("a name in it is longer than any name")
        data = self._exactly(size)
        self._left = -size % BLOCK
        return data

    def _member(self, header: bytes, extra: dict[str, str]) -> Member:
        kind = header[156:157].decode("latin-1")
        if kind not in _KNOWN:
            raise ImageRefused(f"The tar has an entry of an unknown kind, {kind!r}.", "Make it with: tar --format=pax")
        name = _text(header[:100].split(b"\0")[0])
        if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
            name = f"{_text(prefix)}/{name}"
        stored = _digits(extra["size"]) if "size" in extra else _number(header[124:136])
        size, is_sparse = stored, kind == _GNU_SPARSE
        if is_sparse:
            size = _number(header[483:495])
            more = header[482]
            while more:
                more = self._exactly(BLOCK)[504]
        elif real := extra.get("GNU.sparse.realsize", extra.get("GNU.sparse.size")):
            size, is_sparse = _digits(real), True
        if kind in (HARD_LINK, LINK, CHARACTER_DEVICE, BLOCK_DEVICE, FOLDER, FIFO):
            size = stored = 0
        self._left = stored + -stored % BLOCK
        return Member(
            name=extra.get("GNU.sparse.name", extra.get("path", name)),
            type=REGULAR if kind in (*_REGULAR_TOO, _GNU_SPARSE) else kind,
            mode=_number(header[100:108]) & 0o7777,
            size=size,
            link=extra.get("linkpath", _text(header[157:257].split(b"\0")[0])),
            offset=self._at,
            attributes=extra,
            is_sparse=is_sparse,
            stored=stored,
        )

    def _exactly(self, length: int) -> bytes:
        data = self._read(length)
        if len(data) != length:
            raise damaged("it ends early")
        self._at += length
        return data


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or binary ones where they would not fit."""
    if field[0] == 0x80:
        number = int.from_bytes(field[1:], "big")
    else:
        text = field.split(b"\0")[0].strip()
        if not re.fullmatch(rb"[0-7]*", text):
            raise damaged("a number in a header is none")
        number = int(text or b"0", 8)
    if number >= 2**60:
        raise damaged("a number in a header is impossible")
    return number


def _digits(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise damaged("a number in a header is none")
    return int(text)


def _pax(data: bytes) -> dict[str, str]:
    """The attributes of a member in the pax format: `<length> <name>=<value>` and a line's end, one after the other."""
    attributes: dict[str, str] = {}
    at = 0
    while at < len(data):
        match = _PAX_RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise damaged("the attributes of a member are none")
        attributes[_text(match[2])] = _text(data[match.end() : end - 1])
        at = end
    return attributes


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def damaged(how: str) -> ImageRefused:
    """The refusal of a tar that is damaged."""
    return ImageRefused(f"The tar is damaged: {how}.", "Fetch it again, and compare its checksum.")
