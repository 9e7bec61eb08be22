"""An install as its page shows it: its history, its inputs and what is usual, in one value."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from deploy import reading, timeline
from deploy.context import is_licensed
from deploy.events import Failure, State, Status
from deploy.models import Install
from deploy.steps import STEPS, steps_for
from deploy.timeline import Attempt, StepRow, Usual
from servers.storage.draw import Drawing, drawing

from .past import state_of


@dataclass(frozen=True, slots=True)
class InstallView:
    """Everything that the page says about an install, its logs apart."""

    install: Install
    state: State
    rows: tuple[StepRow, ...]
    current: str
    usual: Usual

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def is_live(self) -> bool:
        """Whether something can still happen by itself."""
        return self.status.is_live

    @property
    def seconds(self) -> float:
        """How long it has taken, until now or until it ended."""
        end = self.state.ended_at or timezone.now()
        return (end - (self.state.started_at or end)).total_seconds()

    @property
    def past_no_return(self) -> bool:
        """Whether the disks may have been touched."""
        return timeline.past_no_return(self.state)

    @property
    def can_cancel(self) -> bool:
        return self.is_live and not self.state.cancel_requested

    @property
    def can_retry(self) -> bool:
        return self.status in (Status.FAILED, Status.CANCELLED) and not self.install.archive_id

    @property
    def finishing(self) -> StepRow | None:
        """The step that is finished first when somebody cancels now; None when it stops at once."""
        row = self.row(self.current)
        return row if row and row.is_open and not STEPS[row.name].cancellable else None

    @property
    def summary(self) -> str:
        """The layout in a few words: RAID1 on 2 x 960 GB."""
        return ", ".join(self.install.plan().summary())

    @property
    def drawing(self) -> Drawing:
        """The disks as they were approved."""
        return drawing(self.install.plan())

    @property
    def login(self) -> str:
        """The command that logs in; empty before it is verified."""
        verified = self.state.result("verify")
        port = verified.get("port", 22)
        return f"ssh {verified['ssh']}{'' if port == 22 else f' -p {port}'}" if verified.get("ssh") else ""

    @property
    def host_keys(self) -> Sequence[str]:
        """The fingerprints that the installed system told when it phoned home."""
        keys: Sequence[str] = self.state.result("verify").get("host_keys", ())
        return keys

    @property
    def verified_key(self) -> str:
        """The one of them that its SSH server then showed to us."""
        key: str = self.state.result("verify").get("verified", "")
        return key

    @property
    def failure(self) -> Failure | None:
        return self.state.failure

    def row(self, step: str) -> StepRow | None:
        """The step's row; None when the install has no such step."""
        return next((row for row in self.rows if row.name == step), None)


def view_of(install: Install) -> InstallView:
    """The install as it stands: one query, and two more when the usual times have to be looked up again."""
    history = install.history()
    state, usual = state_of(install, history), reading.usual_for(install)
    attempts = timeline.attempts_of(history)
    steps = state.steps or steps_for(licensed=is_licensed(install.image))
    rows = tuple(_row(name, state, attempts.get(name, ()), usual) for name in steps)
    return InstallView(install, state, rows, timeline.current_step(state) or rows[0].name, usual)


def _row(name: str, state: State, attempts: tuple[Attempt, ...], usual: Usual) -> StepRow:
    step, cut_off = STEPS[name], state.status is Status.CANCELLED and state.step == name
    return StepRow(
        name, step.title, state.of(name).state, attempts,
        tries=max(step.retries + 1, len(attempts)), limit=step.timeout * settings.LANDFALL_PATIENCE,
        usual=usual.steps.get(name), stopped=cut_off,
    )  # fmt: skip
