"""Every situation that an install can be in, each brought about by the events that lead there; and what proves it.

Nothing here writes a column: a lease comes from `queue.claim`, a place in line from the limits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any

from django.utils import timezone

from accounts.secret import Secret
from deploy import actions, errors, journal, proof, queue
from deploy.events import MOST_FAILED_ATTEMPTS, Kind, State, Status
from deploy.models import Install
from deploy.proof import Stored
from deploy.queue import Lease
from deploy.step import Control, Done, Outcome, Step
from deploy.steps import STEPS, steps_for
from images.models import Licence, LicenceKind
from tests.builders import make_image, make_install, make_server, make_user

ALL_STEPS = steps_for(licensed=True)
"""The thirteen."""


# --- proofs


def prove(install: Install) -> State:
    """What the stored history adds up to, once it is proved: numbered without a gap, chained, and as the row says."""
    rows = install.events.order_by("seq").values_list("seq", "kind", "at", "data", "digest")
    stored = [Stored(*row) for row in rows]
    proved = proof.prove(stored)
    assert proved.state, proved.impossible
    assert not proved.broken, f"the chain is broken at {proved.broken}"
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    row, columns = Install.objects.get(pk=install.pk), journal.projection(proved.state)
    assert {name: getattr(row, name) for name in columns} == columns
    return proved.state


def all_of(install: Install) -> tuple[Any, ...]:
    """Everything that is stored of an install: what must be the same when nothing may have happened."""
    row = Install.objects.filter(pk=install.pk).values().get()
    events = install.events.order_by("seq").values_list("seq", "kind", "at", "digest")
    chunks = install.log.order_by("pk").values_list("step", "attempt", "offset", "size", "text")
    return tuple(sorted((name, repr(value)) for name, value in row.items())), tuple(events), tuple(chunks)


# --- what brings an install somewhere


class Course:
    """An install on its way; every call appends events, without a lease."""

    def __init__(self, install: Install) -> None:
        self.install = install
        self.state = install.state()

    def event(self, kind: Kind, **data: Any) -> State:
        self.state = journal.append(self.install, kind, data, known=self.state)
        return self.state

    def planned(self, *steps: str) -> "Course":
        self.event(Kind.PLANNED, steps=list(steps or ALL_STEPS))
        return self

    def start(self, step: str) -> None:
        self.event(Kind.STEP_STARTED, step=step, attempt=self.state.of(step).attempt + 1)

    def _attempt(self, step: str) -> dict[str, Any]:
        return {"step": step, "attempt": self.state.of(step).attempt}

    def wait(self, step: str) -> None:
        self.event(Kind.STEP_WAITING, **self._attempt(step), reason="the machine", next="give up")

    def succeed(self, step: str) -> None:
        self.event(Kind.STEP_SUCCEEDED, **self._attempt(step), result={}, seconds=1.0)

    def fail(self, step: str, *, resume_from: str = "", code: str = "command-failed") -> None:
        failure = errors.failure(code).to_json()
        more = {"resume_from": resume_from, "retry_at": timezone.now().isoformat()} if resume_from else {}
        self.event(Kind.STEP_FAILED, **self._attempt(step), failure=failure, seconds=1.0, **more)

    def before(self, step: str) -> "Course":
        """Planned, and every step done before this one, the next to begin."""
        self.planned()
        for name in ALL_STEPS[: ALL_STEPS.index(step)]:
            self.start(name)
            self.succeed(name)
        return self

    def within(self, step: str) -> "Course":
        """In the first attempt at this step."""
        self.before(step).start(step)
        return self

    def cancelled(self) -> None:
        self.event(Kind.CANCEL_REQUESTED, by="alice")
        self.event(Kind.CANCELLED, left="as it was")


class Row(Enum):
    """What situations have in common for whoever wants to do something to them."""

    IN_LINE = "in line"
    ADMITTED = "admitted"
    RUNNING = "running"
    WAITING = "waiting"
    BACKING_OFF = "backing off"
    HOLD_REQUESTED = "to be held"
    HELD = "held"
    CANCEL_REQUESTED = "being cancelled"
    HELD_AND_CANCEL_REQUESTED = "held, being cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RESET = "force-reset"
    WORN_OUT = "failed too often"


class Holder(Enum):
    """Who has the install in hand."""

    NOBODY = "nobody"
    WORKER = "a worker"
    DEAD_WORKER = "a dead worker"


@dataclass(frozen=True, slots=True)
class Situation:
    """A situation by name: of which row it is, at which step, and what leads there."""

    row: Row
    step: str
    lead: Callable[[Course, str], object]
    holder: Holder = Holder.NOBODY
    note: str = ""

    def __str__(self) -> str:
        words = (self.row.value, self.note, self.step, f"in the hands of {self.holder.value}")
        return ", ".join(word for word in words if word and word != "in the hands of nobody")

    def bring_about(self) -> Install:
        """A new install in this situation."""
        install = licensed_install()
        self.lead(Course(install), self.step)
        if self.holder is not Holder.NOBODY:
            assert hand_over(install, dead=self.holder is Holder.DEAD_WORKER)
        return Install.objects.get(pk=install.pk)


def licensed_install() -> Install:
    """A fresh install with all the thirteen steps; its server has no BMC."""
    licence = Licence.objects.create(
        name=f"rhel {timezone.now()}", kind=LicenceKind.RHEL, organisation="1", activation_key=Secret("key")
    )
    server = make_server(disks=2, power_driver="manual")
    return make_install(server, image=make_image(flavour="rhel-8", licence=licence))


def hand_over(install: Install, *, dead: bool = False) -> Lease:
    """The lease of a worker that has the install in hand now, or had it an hour ago and died."""
    now = timezone.now()
    if dead:
        # The install was due an hour ago, and its worker has not renewed the lease since.
        now -= timedelta(hours=1)
        Install.objects.filter(pk=install.pk).update(wake_at=now)
    others = Install.objects.exclude(pk=install.pk)
    assert not queue.due(now).filter(pk__in=others).exists(), "another install is due"
    claimed = queue.claim("worker", now)
    assert claimed
    return claimed[1]


# --- the leads


def _in_line(course: Course, step: str) -> None:
    """Needs LANDFALL_LIMIT to be so low that nobody is let in."""
    assert course.install.admitted_at is None


def _backing_off(course: Course, step: str) -> None:
    course.within(step)
    course.fail(step, resume_from=STEPS[step].retry_from or STEPS[step].after_crash)


def _hold_requested(course: Course, step: str) -> None:
    """In the attempt before the step that is to be held; in line where it is the first one."""
    if step == ALL_STEPS[0]:
        course.planned()
    else:
        course.within(ALL_STEPS[ALL_STEPS.index(step) - 1])
    course.event(Kind.HOLD_REQUESTED, before=step)


def _held(course: Course, step: str) -> None:
    course.before(step).event(Kind.HOLD_REQUESTED, before=step)
    course.event(Kind.HELD, before=step)


def _failed(course: Course, step: str) -> None:
    course.within(step).fail(step)


def _cancelled(course: Course, step: str) -> None:
    course.within(step).cancelled()


def _force_reset(course: Course, step: str) -> None:
    if step:
        course.within(step)
    actions.force_reset(course.install, make_user("ops"), "it hangs")


def _worn_out(course: Course, step: str) -> None:
    course.before(step)
    for number in range(1, MOST_FAILED_ATTEMPTS + 1):
        course.start(step)
        course.fail(step, resume_from=step if number < MOST_FAILED_ATTEMPTS else "")


def _succeeded(course: Course, step: str) -> None:
    course.within(step).succeed(step)


def _hold_then_cancel(course: Course, step: str) -> None:
    _held(course, step)
    course.event(Kind.CANCEL_REQUESTED, by="alice")


def live_situations() -> Iterator[Situation]:
    """Every situation in which something can still happen by itself, in nobody's hands."""
    yield Situation(Row.IN_LINE, "", _in_line)
    yield Situation(Row.ADMITTED, "", lambda course, step: None)
    yield Situation(Row.ADMITTED, "", lambda course, step: course.planned(), note="its steps chosen")
    yield Situation(Row.CANCEL_REQUESTED, "", lambda course, _: course.event(Kind.CANCEL_REQUESTED, by="alice"))
    for step in ALL_STEPS:
        yield Situation(Row.RUNNING, step, lambda course, step: course.within(step))
        yield Situation(Row.WAITING, step, lambda course, step: course.within(step).wait(step))
        yield Situation(Row.BACKING_OFF, step, _backing_off)
        yield Situation(Row.HOLD_REQUESTED, step, _hold_requested)
        yield Situation(Row.HELD, step, _held)
        yield Situation(Row.HELD_AND_CANCEL_REQUESTED, step, _hold_then_cancel)
        yield Situation(
            Row.CANCEL_REQUESTED, step, lambda course, step: course.within(step).event(Kind.CANCEL_REQUESTED, by="al")
        )


def ended_situations() -> Iterator[Situation]:
    """Every situation in which an install has ended."""
    yield Situation(Row.SUCCEEDED, ALL_STEPS[-1], _succeeded)
    yield Situation(Row.CANCELLED, "", lambda course, step: course.cancelled(), note="before it began")
    yield Situation(Row.RESET, "", _force_reset, note="before it began")
    for step in ALL_STEPS:
        yield Situation(Row.FAILED, step, _failed)
        yield Situation(Row.CANCELLED, step, _cancelled)
        yield Situation(Row.CANCELLED, step, lambda course, step: course.before(step).cancelled(), note="before")
        yield Situation(Row.RESET, step, _force_reset)
        yield Situation(Row.WORN_OUT, step, _worn_out)


def every_situation() -> Iterator[Situation]:
    """All of them; the live ones once in nobody's hands, once in a worker's, once in those of one that has died."""
    for situation in live_situations():
        yield situation
        if situation.row is not Row.IN_LINE and situation.step in ("", "rescue", "copy", "phone-home"):
            yield replace(situation, holder=Holder.WORKER)
            yield replace(situation, holder=Holder.DEAD_WORKER)
    yield from ended_situations()


# --- steps that do nothing


def _nothing(control: Control) -> Outcome:
    return Done()


def tame(**performs: Any) -> Mapping[str, Step]:
    """The thirteen steps as they are declared, but that each is done at once, or does what is given for it here."""
    given = {name.replace("_", "-"): perform for name, perform in performs.items()}
    return {
        name: replace(step, perform=given.get(name, _nothing), commands=None) for name, step in STEPS.items()
    }  # fmt: skip


def ended_well(install: Install) -> bool:
    return Install.objects.get(pk=install.pk).status == Status.SUCCEEDED
