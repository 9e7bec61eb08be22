"""HTTP Range, as far as machines use it: one stretch of bytes."""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Some bytes of a file: `length` of them from offset `start`."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The Content-Range header of an answer with this span."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class NotSatisfiable(Exception):
    """The file has no such bytes."""


def parse_range(header: str, size: int) -> Span | None:
    """The span that a Range header asks of a file of `size` bytes; None when the whole file is to be sent.

    A header that is malformed or asks for several ranges may be ignored (RFC 9110, 14.2): then the whole file goes.
    Raises NotSatisfiable.
    """
    found = _ONE_RANGE.fullmatch(header)
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise NotSatisfiable
    return Span(start, end - start)
