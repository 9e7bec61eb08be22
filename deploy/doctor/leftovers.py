"""What an install should have left behind it when it ended: tokens, boot decisions, private keys.

While the worker that has ended an install still holds it, it is tidying up, and nothing is left over yet.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from deploy.events import Kind, Status
from deploy.models import Install
from deploy.steps import POINT_OF_NO_RETURN
from images.flavours import EFI_LOADER
from metadata import boot, tokens
from metadata.models import Boot, Target, Token

from .finding import Code, Finding

SENT_BACK_AFTER = timedelta(seconds=5)
"""So long after the end of an install that never touched a disk its worker may still be sending the server back."""


def examine(now: datetime) -> Iterator[Finding]:
    """What still opens or decides something for an install that is over."""
    yield from _orphaned_tokens(now)
    yield from _stray_boots(now)
    for one in kept_keys(now):
        yield Finding(
            Code.KEY_KEPT, "It has succeeded, and the private key to its rescue system is still there.",
            "`manage.py doctor --mend` forgets the key.", one.uuid, one.server.name, mendable=True,
        )  # fmt: skip


def _orphaned_tokens(now: datetime) -> Iterator[Finding]:
    good = Token.objects.filter(used_at=None, expires_at__gt=now).order_by()
    counted = list(good.values_list("install", "server__name").annotate(count=Count("pk")))
    installs = _by_uuid(uuid for uuid, _, _ in counted)
    for uuid, server, count in counted:
        if why := _over(installs.get(uuid), now):
            yield Finding(
                Code.TOKEN_ORPHANED, f"{count} of its tokens still let a machine in, although {why}.",
                "`manage.py doctor --mend` lets them expire.", uuid, server, mendable=True,
            )  # fmt: skip


def _over(install: Install | None, now: datetime) -> str:
    """Why nobody can need the install's tokens any more; empty when somebody may: what has failed can be retried."""
    if install is None:
        return "there is no such install"
    if install.is_live or _is_held(install, now):
        return ""
    if install.status == Status.SUCCEEDED:
        return "it has succeeded"
    later = Install.objects.filter(server_id=install.server_id, created_at__gt=install.created_at)
    return f"it is {install.status} and its server was installed again since" if later.exists() else ""


def _stray_boots(now: datetime) -> Iterator[Finding]:
    decisions = Boot.objects.filter(target=Target.RESCUE).exclude(install=None).select_related("server")
    installs = _by_uuid(decision.install for decision in decisions if decision.install)
    for decision in decisions:
        if decision.install and (why := _done_with_rescue(installs.get(decision.install), now)):
            yield Finding(
                Code.BOOT_STRAY, f"At its next start the server boots this install's rescue system, although {why}.",
                "`manage.py doctor --mend` lets it start from its disks. If it is in rescue now, restart it then.",
                decision.install, decision.server.name, mendable=True,
            )  # fmt: skip


def _done_with_rescue(install: Install | None, now: datetime) -> str:
    """Why the server should not start into the install's rescue system; empty when it may have to."""
    if install is None:
        return "there is no such install"
    if install.is_live or _is_held(install, now):
        return ""
    if install.status == Status.SUCCEEDED:
        return "it has succeeded"
    if install.ended_at and now - install.ended_at < SENT_BACK_AFTER:
        return ""
    began = install.events.filter(kind=Kind.STEP_STARTED, data__step=POINT_OF_NO_RETURN)
    touched = (install.outcome or {}).get("wiped") or began.exists()
    return "" if touched else f"it is {install.status} and never touched the server's disks"


def kept_keys(now: datetime) -> QuerySet[Install]:
    """Installs that have succeeded and still have the key to their rescue system."""
    held = Q(lease_token__isnull=False, lease_until__gte=now)
    done = Install.objects.filter(status=Status.SUCCEEDED).exclude(held)
    return done.exclude(private_key="").exclude(private_key=None).select_related("server")


def expire_tokens(install: UUID) -> bool:
    """True: its tokens open nothing any more."""
    tokens.expire(install)
    return True


def boot_from_disk(install: UUID, server: str) -> bool:
    """Whether the server now starts from its disks; not when something else was decided meanwhile."""
    stray = Boot.objects.filter(target=Target.RESCUE, install=install, server__name=server).select_related("server")
    if decision := stray.first():
        boot.direct_to_disk(decision.server, EFI_LOADER)
    return decision is not None


def forget_key(install: UUID, now: datetime) -> bool:
    """Whether the private key is gone."""
    keys = kept_keys(now).filter(uuid=install)
    return bool(Install.objects.filter(pk__in=list(keys.values_list("pk", flat=True))).update(private_key=""))


def _by_uuid(uuids: Iterable[UUID]) -> dict[UUID, Install]:
    columns = ("uuid", "status", "server_id", "created_at", "ended_at", "lease_token", "lease_until", "outcome")
    found: dict[UUID, Install] = {}
    wanted = iter(set(uuids))
    while some := list(islice(wanted, 500)):
        found |= {install.uuid: install for install in Install.objects.filter(uuid__in=some).only(*columns)}
    return found


def _is_held(install: Install, now: datetime) -> bool:
    return bool(install.lease_token and install.lease_until and install.lease_until >= now)
