"""The seam to a machine's power button: what any driver can do, and the one error it fails with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from urllib.parse import urlsplit

from accounts.secret import Secret


class PowerState(Enum):
    """Whether the machine has power, as far as anybody can tell."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"
    """On its way from one to the other, or nobody says."""


class Target(Enum):
    """What a machine starts from next."""

    NETWORK = "network"
    DISK = "disk"


class PowerCode(Enum):
    """Why a driver failed; the value becomes the failure code of the install."""

    UNREACHABLE = "bmc-unreachable"
    """Nothing answers at the BMC's address, or not in time, or not with a certificate that we trust."""
    REFUSED = "bmc-refused"
    """The BMC refuses the user or the password."""
    ERROR = "bmc-error"
    """The BMC answers, and does not do it."""


class PowerError(Exception):
    """A driver could not do it: what happened, and what to do next. Never holds a password."""

    def __init__(self, code: PowerCode, message: str, fix: str) -> None:
        super().__init__(f"{message} {fix}")
        self.code = code.value
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Bmc:
    """How to reach a machine's BMC. `system` is the Redfish path or id of the machine; empty for the only one."""

    url: str
    system: str
    user: str
    password: Secret
    verify_tls: bool = True

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
            usable = usable and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            # the address is not repeated: a password may be in it
            raise PowerError(
                PowerCode.UNREACHABLE,
                "The address of the BMC cannot be used.",
                "Write it as https://10.0.0.5, without user and password in it.",
            )


def unasked() -> None:
    """What is asked before a word to a BMC where nobody has a say in it: nothing."""


class PowerDriver(Protocol):
    """A machine's power button and its choice of boot device. Every method may raise PowerError.

    The methods return once the BMC has accepted; how long a machine takes to act is the caller's to wait for.
    """

    @property
    def needs_hands(self) -> str:
        """What somebody must do by hand because this driver cannot; empty where it can."""

    def state(self) -> PowerState:
        """Whether the machine is on."""

    def boot_from(self, target: Target, persistent: bool = False) -> None:
        """Has the machine start from `target` the next time, or every time."""

    def power_on(self) -> None:
        """Switches the machine on; done at once when it is on."""

    def power_off(self) -> None:
        """Takes the power away, without asking the operating system; done at once when it is off."""

    def reset(self, cold: bool = False) -> None:
        """Restarts the machine the hard way; switches it on when it is off.

        `cold` takes its power away in between: what hangs in a card or in the firmware comes round by nothing less.
        """
