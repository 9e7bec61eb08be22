"""A layout as somebody writes it: JSON with one file system to a line, and where in it a mistake is.

Pure. `read_layout` says the line and the column of whatever is wrong, `write_layout` gives a text to begin with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

from servers.storage.layout import Layout
from servers.storage.refusal import LayoutRefused

LONGEST_TEXT: Final = 20_000
"""Characters: a layout of a hundred file systems takes half of it."""
MOST_PROBED: Final = 200
"""Parts of a text that are looked at for the place of a mistake; a larger text gets the words alone."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of the text: where it begins and ends, and its line and column as editors count them, from 1."""

    start: int
    end: int
    line: int
    column: int
    text: str
    """The whole of that line."""


class TextRefused(LayoutRefused):
    """The text is no layout; `place` is where, when that is known."""

    def __init__(self, why: str, fix: str, place: Place | None = None) -> None:
        super().__init__(why, fix)
        self.place = place


def write_layout(layout: Layout) -> str:
    """The layout as JSON for a person to go on with: a line a file system, nothing that is left at its default."""
    lines = [f"  {json.dumps(key)}: {_written(value)}" for key, value in layout.to_json().items() if _says(value)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _written(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        rows = (json.dumps({key: one for key, one in row.items() if _says(one)}, ensure_ascii=False) for row in value)
        return "[\n    " + ",\n    ".join(rows) + "\n  ]"
    return json.dumps(value, ensure_ascii=False)


def _says(value: object) -> bool:
    return value not in (None, [], "", False)


def read_layout(text: str) -> Layout:
    """The layout that the text says; TextRefused with what is wrong, how to mend it, and where."""
    if len(text) > LONGEST_TEXT:
        raise TextRefused(f"The layout has {len(text):,} characters.", f"At most {LONGEST_TEXT:,} are read.")
    data = _decoded(text)
    places = _places(text)
    try:
        return Layout.from_json(data)
    except LayoutRefused as refused:
        where = _culprit(data, refused.why) if len(places) <= MOST_PROBED else ()
        raise TextRefused(refused.why, refused.fix, places.get(where) if where else None) from refused


# --- JSON


def _decoded(text: str) -> Any:
    if not text.strip():
        raise TextRefused("Nothing is written here.", "Begin from one of the named layouts.")
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        why, fix = _said(error, text)
        raise TextRefused(why, fix, _place(text, error.pos, min(error.pos + 1, len(text)))) from error
    except RecursionError as error:
        raise TextRefused("The JSON is nested too deeply.", "A layout is an object with lists of objects.") from error
    except ValueError as error:  # a number of thousands of digits
        raise TextRefused("A number in it is too long.", "Write sizes such as 20 GiB, in quotes.") from error


def _no_number(word: str) -> Any:
    raise TextRefused(f"{word} is no size.", "Write a number with a unit, such as 20 GiB, or rest.")


def _said(error: json.JSONDecodeError, text: str) -> tuple[str, str]:
    """The decoder's message in words for whoever wrote the text."""
    rest = text[error.pos :].lstrip()
    here = f"'{rest[0]}'" if rest else "the end of the text"
    for word, why, fix in _MISTAKES:
        if word in error.msg:
            return why.format(here=here), fix
    return f"This is not JSON: {error.msg}.", "Look at the marked place, or begin from a named layout."


_MISTAKES: Final = (
    ("Expecting ',' delimiter", "A comma or a closing bracket is missing before {here}.",
     "Put a comma between two entries, and close every bracket."),
    ("Expecting ':' delimiter", "A colon is missing before {here}.", 'Write a key and its value as "size": "20 GiB".'),
    ("property name", "A key in double quotes should stand in place of {here}.",
     "Put keys in double quotes, and no comma behind the last entry."),
    ("Illegal trailing comma", "There is a comma behind the last entry.", "Take it away."),
    ("Unterminated string", "The text that begins here has no closing quote.", "Close it with a double quote."),
    ("Invalid control character", "A text goes on over the end of its line.", "Close it with a double quote."),
    ("Invalid \\escape", "A backslash stands before a letter that it cannot stand before.", "Write two backslashes."),
    ("Invalid \\u", "\\u is not followed by four hexadecimal digits.", "Write the character itself."),
    ("Extra data", "Something follows behind the end of the layout: {here}.", "Take it away."),
    ("Expecting value", "A value should stand in place of {here}.",
     "Write texts in double quotes, and no comma behind the last entry."),
    ("BOM", "The text begins with a byte order mark.", "Save it as UTF-8 without one."),
)  # fmt: skip


# --- places


def _place(text: str, start: int, end: int) -> Place:
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", begin)
    line = text[begin : stop if stop >= 0 else len(text)]
    return Place(start, max(end, start), text.count("\n", 0, start) + 1, start - begin + 1, line)


def _places(text: str) -> Mapping[Path, Place]:
    """Where each value of a text that is good JSON stands; TextRefused when an object has a key twice.

    JSON itself would silently take the last of the two.
    """
    places: dict[Path, Place] = {}
    for path, start, end in _Walk(text).value((), 0):
        place = _place(text, start, end)
        if path in places:
            said = f"The key '{str(path[-1])[:40]}' is written twice in one object."
            raise TextRefused(said, "Take one of the two away.", place)
        places[path] = place
    return places


_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()
_SCALAR: Final = re.compile(r"[^\s,\]}]+")


class _Walk:
    """Reads JSON once more, for the places alone; `at` is behind what was read last."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def value(self, path: Path, at: int) -> Iterator[tuple[Path, int, int]]:
        """The value that begins at or behind `at`, and all that are in it: their paths, starts and ends."""
        start = self._skip(at)
        opening = self._text[start]
        if opening == "{":
            yield from self._members(path, start)
        elif opening == "[":
            yield from self._items(path, start)
        elif opening == '"':
            _, self.at = _DECODER.raw_decode(self._text, start)
        else:
            found = _SCALAR.match(self._text, start)
            self.at = found.end() if found else start + 1
        yield path, start, self.at

    def _members(self, path: Path, start: int) -> Iterator[tuple[Path, int, int]]:
        at = self._skip(start + 1)
        while self._text[at] != "}":
            key, behind = _DECODER.raw_decode(self._text, at)
            for found, begin, end in self.value((*path, key), self._skip(behind) + 1):
                # a member begins with its key
                yield found, at if len(found) == len(path) + 1 else begin, end
            at = self._behind_comma()
        self.at = at + 1

    def _items(self, path: Path, start: int) -> Iterator[tuple[Path, int, int]]:
        at, index = self._skip(start + 1), 0
        while self._text[at] != "]":
            yield from self.value((*path, index), at)
            at, index = self._behind_comma(), index + 1
        self.at = at + 1

    def _behind_comma(self) -> int:
        at = self._skip(self.at)
        return self._skip(at + 1) if self._text[at] == "," else at

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at


def _culprit(data: Any, why: str, path: Path = ()) -> Path:
    """The smallest part without which the complaint is another one, or none; empty when no single part is to blame.

    Found by leaving parts out, and by giving file systems other mount points: so nothing that refuses has to know
    where it was written.
    """
    for step in _parts(_at(data, path)):
        if _is_to_blame(data, (*path, step), why):
            return _culprit(data, why, (*path, step)) or (*path, step)
    return ()


def _is_to_blame(data: Any, path: Path, why: str) -> bool:
    if path[-1] != "mount":
        return _complaint(_changed(data, path)) != why
    # without its name the file system would be refused for that
    mount = _at(data, path)
    return _complaint(_changed(data, path, _ELSEWHERE)).replace(_ELSEWHERE, str(mount)) != why


_ELSEWHERE: Final = "/landfall-elsewhere"


def _parts(part: Any) -> list[str | int]:
    """The keys of what is in it, the file systems last; or the numbers, from the last to the first."""
    if isinstance(part, dict):
        return sorted(part, key=lambda key: key == "filesystems")
    return list(reversed(range(len(part)))) if isinstance(part, list) else []


def _at(data: Any, path: Path) -> Any:
    return reduce(lambda part, step: part[step], path, data)


def _changed(data: Any, path: Path, value: str = "") -> Any:
    """A copy in which the part that the path leads to has another value, or is not there.

    What surrounds it is copied, the rest is shared.
    """
    first, *rest = path
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    if rest:
        copy[first] = _changed(copy[first], tuple(rest), value)
    elif value:
        copy[first] = value
    else:
        del copy[first]
    return copy


def _complaint(data: Any) -> str:
    try:
        Layout.from_json(data)
    except LayoutRefused as refused:
        return refused.why
    return ""
