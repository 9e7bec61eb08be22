"""Every install's history proved again and compared with its row, and every log laid end to end.

Installs are read in batches of a hundred, so memory does not grow with their number. Workers write meanwhile: what
looks wrong is looked at once more under the row's lock before it is told.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from deploy import journal, proof, stored
from deploy.events import GENESIS, State
from deploy.models import Install
from deploy.proof import Piece, Proof

from .finding import Code, Finding

BATCH = 100

COPIES = tuple(journal.projection(State()).keys() - {"digest"})
"""The columns that copy the state; the digest is compared with those beside the events instead."""

Row = Mapping[str, Any]


def examine(counts: Counter[str]) -> Iterator[Finding]:
    """What is wrong with any history or log; counts what was read."""
    last = 0
    while rows := list(_rows().filter(pk__gt=last)[:BATCH]):
        last = rows[-1]["pk"]
        for row, found in _examined(rows, counts):
            if found:
                yield from confirmed(row["pk"])


def confirmed(pk: int) -> list[Finding]:
    """What is wrong with one install while nobody can write to it."""
    with transaction.atomic():
        Install.objects.select_for_update().only("pk").get(pk=pk)
        ((_, found),) = _examined(list(_rows().filter(pk=pk)), Counter())
    return found


def write_row_anew(uuid: UUID) -> bool:
    """Whether the row is now what its history adds up to; the history must be whole."""
    try:
        with transaction.atomic():
            install = Install.objects.select_for_update().get(uuid=uuid)
            (row,) = _rows().filter(pk=install.pk)
            found = next((proof.prove(events) for _, events in stored.histories([install.pk])), Proof())
            if not found.state or not any(one.mendable for one in compare(row, found)):
                return False
            Install.objects.filter(pk=install.pk).update(**journal.projection(found.state))
    except IntegrityError:
        return False  # another install of its server is live, so this one cannot be written as live
    return True


def _rows() -> Any:
    return Install.objects.order_by("pk").values("pk", "uuid", "server__name", "digest", "archive__file", *COPIES)


def _examined(rows: list[Row], counts: Counter[str]) -> Iterator[tuple[Row, list[Finding]]]:
    """Each row with what is wrong about it: two queries for all of them."""
    proofs = {pk: proof.prove(history) for pk, history in stored.histories([row["pk"] for row in rows])}
    pieces = {pk: list(log) for pk, log in stored.pieces([row["pk"] for row in rows])}
    for row in rows:
        proved, log = proofs.get(row["pk"], Proof()), pieces.get(row["pk"], [])
        counts.update(installs=1, events=proved.seq, chunks=len(log))
        if row["archive__file"]:
            yield row, _unclean(row, proved, log)
        else:
            yield row, [*compare(row, proved), *_log_findings(row, proved, log)]


# --- comparing


def compare(row: Row, proved: Proof) -> list[Finding]:
    """What is wrong with a history, and where the row is not its copy."""
    if not proved.seq:
        return [_finding(
            row, Code.HISTORY_MISSING, "The install has a row, but no event tells how it came about.",
            "Restore its rows of deploy_event from a backup, and find out who deleted them.",
        )]  # fmt: skip
    found = list(_broken(row, proved))
    if row["last_seq"] > proved.seq:
        gone = row["last_seq"] - proved.seq
        what = f"The history ends with event {proved.seq}, its row knows of {gone} more."
        fix = "Restore the missing rows of deploy_event from a backup, and find out who deleted them."
        found.append(_finding(row, Code.HISTORY_CUT, what, fix))
    elif row["digest"] != (GENESIS, *proved.digests)[row["last_seq"]]:
        what = f"The row's digest is not the one of its event {row['last_seq']}."
        found.append(_finding(row, Code.CHAIN_BROKEN, what, _compare_with_backup(row)))
    elif proved.state and (columns := _differences(row, proved.state)):
        what = f"The row is not what its history adds up to: {'; '.join(columns)}."
        fix = "`manage.py doctor --mend` writes the row anew from its history."
        if not proved.holds:
            fix = "Mend the history first; then `manage.py doctor --mend` writes the row anew from it."
        found.append(_finding(row, Code.ROW_DIFFERS, what, fix, mendable=proved.holds))
    return found


def _broken(row: Row, proved: Proof) -> Iterator[Finding]:
    if proved.broken:
        numbers = ", ".join(str(number) for number in proved.broken[:5]) + (" and more" if proved.broken[5:] else "")
        what = f"Not all of its {proved.seq} events are as they were written; begin at number {numbers}."
        yield _finding(row, Code.CHAIN_BROKEN, what, _compare_with_backup(row))
    if proved.impossible:
        what = f"The history cannot have happened: {proved.impossible}."
        yield _finding(row, Code.HISTORY_IMPOSSIBLE, what, _compare_with_backup(row))


def _differences(row: Row, state: State) -> list[str]:
    right = journal.projection(state)
    names = sorted(name for name in COPIES if row[name] != right[name])
    return [f"{name} is {row[name]!s:.60}, and should be {right[name]!s:.60}" for name in names]


def _log_findings(row: Row, proved: Proof, log: list[Piece]) -> Iterator[Finding]:
    wrong = list(proof.faults(log))
    if state := proved.state:
        unknown = {(piece.step, piece.attempt) for piece in log if piece.attempt > state.of(piece.step).attempt}
        wrong += [f"There is a log of {step}, attempt {number}, which never began." for step, number in sorted(unknown)]
    fix = (
        "Compare the log with a backup (`manage.py dbshell`: SELECT * FROM deploy_logchunk WHERE install_id = "
        f'{row["pk"]} ORDER BY step, attempt, "offset"). If nobody has written past Landfall, report it: it is a bug.'
    )
    for what in wrong:
        yield _finding(row, Code.LOG_BROKEN, what, fix)


def _unclean(row: Row, proved: Proof, log: list[Piece]) -> list[Finding]:
    if not (proved.seq or log):
        return []
    what = f"It was archived, and {proved.seq} events and {len(log)} pieces of its log are here all the same."
    fix = f"Compare them with {row['archive__file']} (`tar xf`), and find out who has put them back."
    return [_finding(row, Code.ARCHIVE_UNCLEAN, what, fix)]


def _compare_with_backup(row: Row) -> str:
    return (
        "Compare the history with a backup (`manage.py dbshell`: SELECT * FROM deploy_event WHERE install_id = "
        f"{row['pk']} ORDER BY seq), put back what was there, and find out who can write past Landfall."
    )


def _finding(row: Row, code: Code, what: str, fix: str, *, mendable: bool = False) -> Finding:
    uuid: UUID = row["uuid"]
    return Finding(code, what, fix, uuid, row["server__name"], mendable)
