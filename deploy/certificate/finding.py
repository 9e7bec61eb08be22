"""One comparison of what should be with what is, and all of an install's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

SCHEMA: Final = 1

TOPICS: Final = (
    "partitions", "arrays", "encryption", "volumes", "filesystems", "fstab", "initramfs", "network", "boot",
    "config-drive", "running",
)  # fmt: skip
"""What findings are about, in the order in which they are shown; `running` is what the new system itself has said."""

TOLD_ONLY: Final = frozenset({"network"})
"""What is said when it is wrong, and ends no install."""

SAME: Final = "the same"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what the plan says of it, what is there; both as people read them."""

    topic: str
    what: str
    expected: str
    found: str
    ok: bool

    def sentence(self) -> str:
        """The finding as a line of a log."""
        return f"✓ {self.what}: {self.expected}" if self.ok else f"✗ {self.what}: {self.expected}; found {self.found}"

    def to_json(self) -> dict[str, Any]:
        """The finding as it stands in an event."""
        return {
            "topic": self.topic, "what": self.what, "expected": self.expected, "found": self.found, "ok": self.ok,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Certificate:
    """All findings of an install, topic by topic."""

    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all is as it was planned."""
        return all(finding.ok for finding in self.findings)

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The findings that disagree with the plan."""
        return tuple(finding for finding in self.findings if not finding.ok)

    @property
    def unacceptable(self) -> tuple[Finding, ...]:
        """Those for which the new system is not started."""
        return tuple(finding for finding in self.wrong if finding.topic not in TOLD_ONLY)

    def to_json(self) -> dict[str, Any]:
        """The certificate as it stands in the result of a step."""
        return {"schema": SCHEMA, "ok": self.ok, "findings": [finding.to_json() for finding in self.findings]}

    @classmethod
    def from_json(cls, data: object) -> Certificate:
        """The certificate that `to_json` wrote; an empty one where there is none, as in installs of former versions."""
        listed = data.get("findings") if isinstance(data, Mapping) else None
        return cls(tuple(_finding(one) for one in listed if isinstance(one, Mapping)) if listed else ())


def _finding(data: Mapping[str, Any]) -> Finding:
    topic, what, expected, found = (str(data.get(name, "")) for name in ("topic", "what", "expected", "found"))
    return Finding(topic, what, expected, found, data.get("ok") is True)
