"""A bucket of requests for every client address, so that a machine gone wild does not stop the others.

Kept in Django's cache: no table, no library. django-ratelimit counts in fixed windows, where a burst at their border
passes twice. Two requests at the same instant may take the same drop; the limit is generous enough not to mind.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBase

MINUTE = 60.0

View = Callable[..., HttpResponseBase]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Requests that an address may still make at once, and when that was counted (seconds)."""

    left: float
    at: float

    def take(self, now: float, per_minute: int) -> "Bucket | None":
        """The bucket after one more request; None when it is empty."""
        filled = min(self.left + (now - self.at) * per_minute / MINUTE, per_minute)
        return Bucket(filled - 1, now) if filled >= 1 else None


def rate_limited(view: View) -> View:
    """The view, answering 429 to an address that has made more than settings.LANDFALL_MACHINE_RATE calls a minute."""

    @wraps(view)
    def limited(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if not _admit(request.META.get("REMOTE_ADDR", "")):
            return HttpResponse("Too many calls. Try again later.\n", "text/plain", 429, headers={"Retry-After": "10"})
        return view(request, *args, **kwargs)

    return limited


def _admit(address: str) -> bool:
    per_minute = settings.LANDFALL_MACHINE_RATE
    now = time.time()
    key = f"machine-rate:{address}"
    bucket = (cache.get(key) or Bucket(per_minute, now)).take(now, per_minute)
    if bucket is None:
        return False
    cache.set(key, bucket, timeout=2 * MINUTE)
    return True
