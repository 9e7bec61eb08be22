"""What the probe has read, as findings are made of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .finding import SAME, Finding

Json = Mapping[str, Any]


class Look:
    """What the probe has read, and what it could not."""

    def __init__(self, seen: Json) -> None:
        self._seen = seen

    def finding(self, topic: str, what: str, expected: str, part: str, found: Callable[[Any], str]) -> Finding:
        """A finding by what `found` makes of a part of what was seen: the expected text, or another one."""

        def judged(read: Any) -> tuple[str, bool]:
            text = found(read)
            return (SAME, True) if text == expected else (text, False)

        return self.judgement(topic, what, expected, part, judged)

    def judgement(
        self, topic: str, what: str, expected: str, part: str, judged: Callable[[Any], tuple[str, bool]]
    ) -> Finding:
        """A finding by what `judged` says of a part of what was seen: what there is, and whether it is right."""
        read = self._seen.get(part)
        if read is None:
            errors = self._seen.get("errors")
            why = errors.get(part) if isinstance(errors, Mapping) else None
            return Finding(topic, what, expected, f"cannot be read: {why or 'the rescue system did not say it'}", False)
        try:
            return Finding(topic, what, expected, *judged(read))
        except (LookupError, TypeError, ValueError, AttributeError):
            odd = "cannot be read: it is not there, or not of the form that it should have"
            return Finding(topic, what, expected, odd, False)

    def part(self, name: str) -> Any:
        """A part of what was seen; None where it was not."""
        return self._seen.get(name)
