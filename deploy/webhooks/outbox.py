"""What is to be told to whom, and what has come of it: the only writer of deliveries.

A delivery is stored in the transaction of the event that it tells of, so neither exists without the other. It is taken
for sending by one UPDATE, and what came of it is written by another: whoever dies between the two has sent it, perhaps,
and it is sent again. A receiver knows it by its `webhook-id`.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Min, Q, QuerySet
from django.utils import timezone

from accounts.models import User
from accounts.secret import Secret

from ..events import State
from ..models import Install
from . import payload
from .models import Delivery, Webhook
from .post import Outcome

MINUTE, HOUR = 60, 3600
PAUSES = (5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 8 * HOUR)
"""Seconds to wait after each attempt that failed; after the last one, a day later, it is given up."""
JITTER = 0.2
"""The share by which a pause may be longer or shorter: what failed together is not tried again together."""
LONGEST_WAIT = timedelta(hours=12)
CLAIM_TIME = timedelta(minutes=2)
"""When a delivery is sent again whose sender has vanished; longer than any attempt takes."""
KEPT = timedelta(days=30)
"""How long what is delivered or given up is shown."""
OLD_SECRET_SIGNS = timedelta(hours=24)
"""How long deliveries are signed with the old secret too after a change."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process, and no other, sends now."""

    pk: int
    webhook: int
    kind: str
    message: str
    url: str
    body: str
    keys: tuple[Secret, ...]
    attempt: int

    @property
    def is_last(self) -> bool:
        """Whether it is given up when this attempt fails: a test is tried once, for somebody who is looking."""
        return self.kind == payload.PING or self.attempt > len(PAUSES)


def enqueue(install: Install, state: State) -> None:
    """Stores what the project's webhooks are to be told of an install that has ended; in the event's transaction.

    Costs one query where the project has no webhook, three where it has.
    """
    told = list(Webhook.objects.filter(project=install.project_id, active=True))
    if not told:
        return
    body, now = payload.of_install(_about(install), state), timezone.now()
    Delivery.objects.bulk_create(
        Delivery(
            webhook=webhook, install_id=install.pk, seq=state.seq, kind=payload.kind_of(state), payload=body,
            created_at=now, next_at=now,
        )
        for webhook in told
    )  # fmt: skip


def _about(install: Install) -> payload.About:
    row = Install.objects.select_related("project", "server", "image", "requested_by").get(pk=install.pk)
    return payload.About(
        install=str(row.uuid),
        url=settings.LANDFALL_URL + row.get_absolute_url(),
        project=row.project.slug,
        server=row.server.name,
        hostname=row.hostname,
        image=row.image.name,
        requested_by=row.requested_by.get_username() if row.requested_by else None,
    )


def ping(webhook: Webhook, by: User) -> Delivery:
    """A test delivery, to be sent at once; tried once only."""
    now = timezone.now()
    body = payload.of_ping(webhook.project.slug, by.get_username(), now)
    return Delivery.objects.create(webhook=webhook, kind=payload.PING, payload=body, created_at=now, next_at=now)


def again(delivery: Delivery) -> None:
    """Sends it once more, with all its attempts, whatever came of it before; its `webhook-id` stays."""
    fresh = {"attempts": 0, "next_at": timezone.now(), "delivered_at": None, "given_up_at": None}
    Delivery.objects.filter(pk=delivery.pk).update(**fresh)


def due(now: datetime) -> QuerySet[Delivery]:
    """What is to be sent now; also what waits for longer than any pause lasts: the clock has jumped since."""
    time_has_come = Q(next_at__lte=now) | Q(next_at__gt=now + LONGEST_WAIT)
    return Delivery.objects.filter(time_has_come, webhook__active=True)


def claim(now: datetime, room: int, busy: Iterable[int] = ()) -> list[Claim]:
    """At most `room` deliveries that this process is to send, one for each webhook that is not busy.

    Costs a query, and an UPDATE for each: who loses the race for one learns it from the row count.
    """
    if room <= 0:
        return []
    # One of each: a webhook with a thousand deliveries that wait does not hide the others.
    firsts = due(now).exclude(webhook__in=busy).order_by().values("webhook").annotate(first=Min("pk")).values("first")
    candidates = Delivery.objects.filter(pk__in=firsts).select_related("webhook").order_by("next_at", "pk")
    return [_claim(delivery, now) for delivery in candidates[:room] if _take(delivery, now)]


def _take(delivery: Delivery, now: datetime) -> bool:
    unchanged = Delivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts, next_at=delivery.next_at)
    return bool(unchanged.update(attempts=delivery.attempts + 1, next_at=now + CLAIM_TIME))


def _claim(delivery: Delivery, now: datetime) -> Claim:
    webhook = delivery.webhook
    secrets = [webhook.secret]
    if webhook.previous_until and now < webhook.previous_until:
        secrets.append(webhook.previous_secret)
    keys = tuple(secret for secret in secrets if secret is not None)
    return Claim(
        delivery.pk, webhook.pk, delivery.kind, f"msg_{delivery.uuid.hex}", webhook.url, delivery.payload, keys,
        delivery.attempts + 1,
    )  # fmt: skip


def record(claim: Claim, outcome: Outcome, now: datetime) -> bool:
    """Stores what has come of an attempt; False when somebody else has tried it since, whose outcome counts."""
    retry_at = None if outcome.is_done or outcome.is_gone else _retry_at(claim, outcome, now)
    mine = Delivery.objects.filter(pk=claim.pk, attempts=claim.attempt, delivered_at=None)
    with transaction.atomic():
        if outcome.is_gone:
            words = "The receiver answered 410 Gone: it wants no more deliveries."
            Webhook.objects.filter(pk=claim.webhook).update(active=False, switched_off_because=words)
        stored = mine.update(
            last_at=now,
            last_status=outcome.status,
            last_error=outcome.error,
            last_answer=outcome.answer,
            next_at=retry_at,
            delivered_at=now if outcome.is_done else None,
            given_up_at=None if outcome.is_done or retry_at else now,
        )
    return bool(stored)


def _retry_at(claim: Claim, outcome: Outcome, now: datetime) -> datetime | None:
    """When to try again; None when it is time to give up."""
    if claim.is_last:
        return None
    pause = PAUSES[claim.attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER)
    return now + timedelta(seconds=max(pause, min(outcome.retry_after, HOUR)))


def forget(now: datetime) -> int:
    """How many old deliveries were removed; what still waits to be sent stays."""
    removed, _ = Delivery.objects.filter(next_at=None, created_at__lt=now - KEPT).delete()
    return removed
