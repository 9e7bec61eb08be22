"""What machines say becomes an event of their install, in the transaction in which their token is used up."""

import logging
from typing import Any
from uuid import UUID

from . import journal
from .events import Kind, Status
from .models import Install

log = logging.getLogger(__name__)

_KINDS = {"ready": Kind.RESCUE_READY, "phone-home": Kind.PHONED_HOME}


def take(sender: object, *, install: UUID, call: str, payload: dict[str, Any], **_: object) -> None:
    """Appends the call to the history, which wakes the install.

    A rescue system that calls for an install that has ended changes nothing. But a new system calls once: what it said
    after its install was cancelled, or given up, is what a retry finds.
    """
    row = Install.objects.filter(uuid=install).first()
    if row is None or not _hears(row, call):
        log.info("a %s call for install %s came too late", call, install)
        return
    # The facts are long, and the inspect step asks for them again over SSH, from a system that has proved itself.
    journal.append(row, _KINDS[call], {key: value for key, value in payload.items() if key != "facts"})


def _hears(install: Install, call: str) -> bool:
    status = Status(install.status)
    can_be_retried = status in (Status.FAILED, Status.CANCELLED) and not install.archive_id
    return status.is_live or (can_be_retried and call == "phone-home")
