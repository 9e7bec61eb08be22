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
    """Appends the call to the history, which wakes the install; a call for one that has ended changes nothing."""
    row = Install.objects.filter(uuid=install).first()
    if row is None or not Status(row.status).is_live:
        log.info("a %s call for install %s came too late", call, install)
        return
    # The facts are long, and the inspect step asks for them again over SSH, from a system that has proved itself.
    journal.append(row, _KINDS[call], {key: value for key, value in payload.items() if key != "facts"})
