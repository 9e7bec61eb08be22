"""Where installs stand in line, for pages: looked up once a second by a process, however many people look."""

from collections.abc import Mapping

from django.core.cache import cache

from deploy import limits
from deploy.events import Status
from deploy.limits import Place
from deploy.models import Install

_KEY = "deploy.places"
_FRESH = 1
"""Seconds that a look serves; who looks at an install looks once a second."""


def is_in_line(install: Install) -> bool:
    """Whether the limits have not let it pass yet."""
    return install.status == Status.QUEUED and install.admitted_at is None


def places() -> Mapping[int, Place]:
    """Where everybody in line stands, by the install's key: two queries, or none."""
    found: Mapping[int, Place] | None = cache.get(_KEY)
    if found is None:
        found = limits.places()
        cache.set(_KEY, found, _FRESH)
    return found


def place_of(install: Install) -> Place | None:
    """Where the install stands in line; None when no limit keeps it back. No query unless it is in line."""
    if not is_in_line(install):
        return None
    return places().get(install.pk) or limits.place(install)
