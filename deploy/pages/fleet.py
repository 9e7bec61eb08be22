"""What the servers' pages read: which system runs where, and how the last installs went."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db.models import BigIntegerField, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from deploy import timeline
from deploy.events import Event, Kind, State, StepState
from deploy.models import Event as EventRow
from deploy.models import Install
from deploy.steps import POINT_OF_NO_RETURN, STEPS
from servers.models import Server
from servers.storage.sizes import human_disk

from .past import state_of

NEW = "new"
"""The status of a server that was never installed."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server with its latest install, and the install whose system is on its disks."""

    server: Server
    latest: Install | None
    system: Install | None
    erased: bool
    """An install wiped the disks and did not succeed: there is no system."""

    @property
    def status(self) -> str:
        """The status of the latest install, or that there was none."""
        return self.latest.status if self.latest else NEW

    @property
    def live(self) -> Install | None:
        """The install that goes on right now."""
        return self.latest if self.latest and self.latest.is_live else None

    @property
    def word(self) -> str:
        """What the status means for the server."""
        return SERVER_WORDS[self.status]

    @property
    def step_title(self) -> str:
        """The step that the running install is in."""
        return STEPS[self.live.step].title if self.live and self.live.step in STEPS else ""

    @property
    def hold_title(self) -> str:
        """The step that the running install is, or is to be, held before."""
        return STEPS[self.live.hold_before].title if self.live and self.live.hold_before in STEPS else ""

    @property
    def disks(self) -> str:
        """The disks in a few words: `2 x 960 GB`."""
        return disks_in_words(disk.size for disk in self.server.disks.all())


SERVER_WORDS: Mapping[str, str] = {
    "queued": "queued",
    "running": "installing",
    "waiting": "waiting",
    "held": "held",
    "succeeded": "installed",
    "failed": "install failed",
    "cancelled": "cancelled",
    NEW: "not installed",
}
"""The status of a server's latest install, said of the server; the choices of the filter, in this order."""


def disks_in_words(sizes: Iterable[int]) -> str:
    """`2 x 960 GB + 4 TB`."""
    counted = Counter(human_disk(size) for size in sizes)
    return " + ".join(f"{count} x {size}" if count > 1 else size for size, count in counted.items())


def with_installs(servers: QuerySet[Server]) -> QuerySet[Server]:
    """The servers with the keys of the installs that their rows need; costs no query of its own."""
    installs = Install.objects.filter(server=OuterRef("pk"))
    wipes = EventRow.objects.filter(
        install__server=OuterRef("pk"), kind=Kind.STEP_STARTED, data__step=POINT_OF_NO_RETURN
    )
    return servers.annotate(
        latest_pk=Subquery(installs.order_by("-created_at").values("pk")[:1]),
        latest_status=Subquery(installs.order_by("-created_at").values("status")[:1]),
        system_pk=Subquery(installs.filter(status="succeeded").order_by("-ended_at").values("pk")[:1]),
        wiped_by=Coalesce(
            Subquery(wipes.order_by("-pk").values("install_id")[:1]),
            # archived ones ended before those that are still here
            Subquery(installs.filter(outcome__wiped=True).order_by("-ended_at").values("pk")[:1]),
            output_field=BigIntegerField(),
        ),
    )


def find(servers: QuerySet[Any], q: str = "", status: str = "", project: str = "") -> QuerySet[Server]:
    """Those of `servers` (with installs) that a filter means; unknown values find nothing, empty ones everything."""
    for word in q.split():
        servers = servers.filter(
            Q(name__icontains=word) | Q(address__icontains=word) | Q(serial__icontains=word)
            | Q(product__icontains=word) | Q(vendor__icontains=word) | Q(pk__in=_with_mac(word))
        )  # fmt: skip
    if status:
        servers = servers.filter(latest_pk=None) if status == NEW else servers.filter(latest_status=status)
    return servers.filter(project__slug=project) if project else servers


def _with_mac(word: str) -> QuerySet[Server, int]:
    mac = word.lower().replace("-", ":")
    return Server.objects.filter(nics__mac__contains=mac).values_list("pk", flat=True)


def rows_of(servers: Iterable[Server]) -> list[ServerRow]:
    """A row for each of the servers (with installs): one query for all their installs."""
    servers = list(servers)
    keys = {key for one in servers for key in (_key(one, "latest_pk"), _key(one, "system_pk")) if key}
    installs = _light(Install.objects.filter(pk__in=keys)).in_bulk()
    return [
        ServerRow(
            server=one,
            latest=installs.get(_key(one, "latest_pk") or 0),
            system=installs.get(_key(one, "system_pk") or 0) if not _erased(one) else None,
            erased=_erased(one),
        )
        for one in servers
    ]


def _key(server: Server, column: str) -> int | None:
    key: int | None = getattr(server, column)
    return key


def _erased(server: Server) -> bool:
    """Whether the last install that wiped the disks is not the one that succeeded last."""
    wiped = _key(server, "wiped_by")
    return wiped is not None and wiped != _key(server, "system_pk")


def _light(installs: QuerySet[Install]) -> QuerySet[Install]:
    """Without the columns that lists do not show, and that may be large."""
    large = ("user_data", "layout", "approved_plan", "ssh_keys", "private_key")
    return installs.select_related("image__licence").defer(*large)


# --- the last installs as bars


@dataclass(frozen=True, slots=True)
class Stretch:
    """One attempt at a step as a piece of a bar; `x` and `width` in percent."""

    title: str
    phase: str
    state: StepState
    seconds: float
    x: str
    width: str
    ended: str = ""
    """How it ended when not well: failed, or stopped by a cancel."""


@dataclass(frozen=True, slots=True)
class InstallBar:
    """An install as a row of stretches; `seconds` is the sum of what its steps took."""

    install: Install
    state: State
    seconds: float
    stretches: tuple[Stretch, ...]


PHASES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "look": ("into rescue", ("rescue", "inspect", "plan")),
    "disks": ("disks", ("wipe", "partition", "config-drive", "mount")),
    "copy": ("copy", ("copy",)),
    "system": ("bootable", ("bootable", "licence")),
    "start": ("first start", ("reboot", "phone-home", "verify")),
}
"""The colours of the bars: what each is called, and the steps in it."""

_PHASE_OF: Mapping[str, str] = {step: phase for phase, (_, steps) in PHASES.items() for step in steps}


def histories(installs: Iterable[Install]) -> dict[int, list[Event]]:
    """The events of each install by its key: one query."""
    rows = EventRow.objects.filter(install__in=list(installs)).order_by("install_id", "seq")
    return {key: [row.value() for row in group] for key, group in groupby(rows, key=lambda row: row.install_id)}


def last_installs(server: Server, count: int = 8) -> list[Install]:
    """The latest installs of a server, newest first."""
    return list(_light(server.installs.annotate(by=F("requested_by__username"))).order_by("-created_at")[:count])


def bars(installs: Sequence[Install], events: Mapping[int, list[Event]], now: datetime) -> list[InstallBar]:
    """The installs as bars over one scale: the longest is as wide as there is room."""
    attempts = {one.pk: _attempts(events.get(one.pk, []), now) for one in installs}
    longest = max((sum(seconds for *_, seconds in those) for those in attempts.values()), default=0) or 1
    return [
        InstallBar(
            install=one,
            state=state_of(one, events.get(one.pk, [])),
            seconds=_whole(one) if one.archive_id else sum(seconds for *_, seconds in attempts[one.pk]),
            stretches=tuple(_stretches(attempts[one.pk], longest)),
        )
        for one in installs
    ]


def _attempts(history: list[Event], now: datetime) -> list[tuple[str, timeline.Attempt, float]]:
    """Every attempt in the order of time, with its step and its seconds until now or until it ended."""
    found = [(step, one) for step, those in timeline.attempts_of(history).items() for one in those]
    found.sort(key=lambda pair: pair[1].started_at)
    return [(step, one, ((one.ended_at or now) - one.started_at).total_seconds()) for step, one in found]


def _whole(install: Install) -> float:
    """The seconds from the request to the end: all that is known of the times of one that was archived."""
    return (install.ended_at - install.started_at).total_seconds() if install.started_at and install.ended_at else 0.0


def _stretches(attempts: list[tuple[str, timeline.Attempt, float]], longest: float) -> Iterable[Stretch]:
    behind = 0.0
    for step, attempt, seconds in attempts:
        unwell = "failed" if attempt.failure else "stopped"
        yield Stretch(
            title=STEPS[step].title if step in STEPS else step,
            phase=_PHASE_OF.get(step, "look"),
            state=attempt.state,
            seconds=seconds,
            x=f"{100 * behind / longest:.2f}%",
            width=f"{100 * seconds / longest:.2f}%",
            ended=unwell if attempt.state is StepState.FAILED else "",
        )
        behind += seconds
