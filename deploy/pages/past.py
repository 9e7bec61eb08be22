"""The state of an install for pages, whether its history is here or was moved into an archive."""

from collections.abc import Sequence

from deploy.context import steps_of
from deploy.events import Event, State, Status, StepProgress, StepState, fold
from deploy.models import Install
from deploy.steps import POINT_OF_NO_RETURN


def state_of(install: Install, history: Sequence[Event]) -> State:
    """What the history adds up to; of an archived install what its row still tells."""
    return _as_archived(install) if install.archive_id and not history else fold(history)


def _as_archived(install: Install) -> State:
    outcome = install.outcome or {}
    progress = {}
    if verified := outcome.get("verify"):
        progress["verify"] = StepProgress(StepState.DONE, result=verified)
    if outcome.get("wiped"):
        progress[POINT_OF_NO_RETURN] = StepProgress(StepState.DONE, attempt=1)
    return State(
        status=Status(install.status), steps=steps_of(install.image), step=install.step,
        progress=progress, failure=install.last_failure, started_at=install.started_at, ended_at=install.ended_at,
        seq=install.last_seq, digest=install.digest,
    )  # fmt: skip
