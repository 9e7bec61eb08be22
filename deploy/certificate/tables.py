"""What fstab, crypttab and mdadm.conf of the new system say of the plan's devices, set beside the lines it was given.

A customer's hook may have added lines, and options to ours: those are its own business. A line or an option that was
lost is not: without its `nofail` a mirrored server does not start when a disk is gone. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from servers.storage import render
from servers.storage.plan import Plan

from .finding import SAME, Finding
from .look import Json, Look

Rows = list[list[str]]

_OPTIONS = 3
"""The column of the options, in fstab as in crypttab."""
_SAY_NOTHING = frozenset({"defaults", "sw"})


def tables(plan: Plan, asked: Json, look: Look) -> Iterator[Finding]:
    """A finding for each line of ours; `asked` says which containers crypttab marks as opened early."""
    yield from _fstab(plan, look)
    # a former version's probe, at work while Landfall was updated, has read no others
    if look.part("schema") == 1:
        return
    for row in _words(render.crypttab(plan, asked["early"])):
        yield _line("crypttab", f"crypttab: {row[0]}", row, 0, look)
    for row in _words(render.mdadm_conf(plan)):
        if row[0] == "ARRAY":
            yield _array(row, look)


def _words(text: str) -> Rows:
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def _fstab(plan: Plan, look: Look) -> Iterator[Finding]:
    ours = _words(render.fstab(plan))
    for row in ours:
        if row[2] == "swap":
            yield _line("fstab", "swap", row[:4], 0, look)
        else:
            yield _line("fstab", row[1], row[:4], 1, look)
    known = {row[0] for row in ours}

    def strangers(rows: Rows) -> str:
        """Devices that the plan does not name: the system would wait for them at every start."""
        named = {row[0] for row in rows if row[0].partition("=")[0] in ("UUID", "LABEL", "PARTUUID", "PARTLABEL")}
        return ", ".join(sorted(named - known)) or "none"

    yield look.finding("fstab", "other devices", "none", "fstab", strangers)


def _line(part: str, what: str, wanted: list[str], key: int, look: Look) -> Finding:
    """The line that has the wanted one's word in column `key`: the same words, and no option lost."""

    def judged(rows: Rows) -> tuple[str, bool]:
        found = next((row for row in rows if row[key] == wanted[key]), None)
        if found is None:
            return "no line", False
        have, need = _options(found), _options(wanted)
        same = found[:_OPTIONS] == wanted[:_OPTIONS] and need <= have
        return (SAME if same and need == have else " ".join(found[: _OPTIONS + 1]), same)

    return look.judgement("fstab", what, " ".join(wanted), part, judged)


def _options(row: list[str]) -> frozenset[str]:
    return frozenset(row[_OPTIONS].split(",") if len(row) > _OPTIONS else ()) - _SAY_NOTHING


def _array(wanted: list[str], look: Look) -> Finding:
    """The line of mdadm.conf with this array's UUID: it gives the array its name, whatever else it says."""
    uuid = wanted[-1]

    def judged(rows: Rows) -> tuple[str, bool]:
        found = next((row for row in rows if row[0] == "ARRAY" and uuid in _folded(row)), None)
        if found is None:
            return "no line", False
        return (SAME, True) if found[1] == wanted[1] else (" ".join(found), False)

    return look.judgement("fstab", f"mdadm.conf: {wanted[1]}", " ".join(wanted), "mdadm_conf", judged)


def _folded(row: list[str]) -> set[str]:
    """The words of a line with UUIDs as we write them."""
    return {f"UUID={word.partition('=')[2].lower()}" if word.lower().startswith("uuid=") else word for word in row}
