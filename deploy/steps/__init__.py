"""The steps of an install, in order: thirteen, and one more for an image that its customer brings."""

from ..step import Step
from .bootable import BOOTABLE
from .config_drive import CONFIG_DRIVE
from .copying import COPY
from .disks import PARTITION, PLAN
from .erase import WIPE
from .fetch import FETCH
from .finish import PHONE_HOME, REBOOT, VERIFY
from .licence import LICENCE
from .mounting import MOUNT
from .rescue import INSPECT, RESCUE

_ORDER = (
    RESCUE, INSPECT, PLAN, FETCH, WIPE, PARTITION, CONFIG_DRIVE, MOUNT, COPY, LICENCE, BOOTABLE, REBOOT,
    PHONE_HOME, VERIFY,
)  # fmt: skip

STEPS: dict[str, Step] = {step.name: step for step in _ORDER}
"""Every step by its name, in the order in which they are done."""

INTO_RESCUE = RESCUE.name
"""The step that brings a server into the rescue system, whatever it was doing."""

POINT_OF_NO_RETURN = WIPE.name
"""From this step on the disks are not what they were."""


def steps_for(*, licensed: bool, own: bool = False) -> tuple[str, ...]:
    """The names of the steps of an install: chosen once, when it is requested. `own`: of an image of the customer's."""
    needed = {LICENCE.name: licensed, FETCH.name: own}
    return tuple(name for name in STEPS if needed.get(name, True))


__all__ = ["INTO_RESCUE", "POINT_OF_NO_RETURN", "STEPS", "steps_for"]
