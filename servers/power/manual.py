"""Machines without a BMC: somebody walks up to them."""

from __future__ import annotations

from servers.power.driver import PowerState, Target


class Manual:
    """A driver that can do nothing, and says what somebody must do; the rescue system's call shows that it was done."""

    needs_hands = (
        "This server has no BMC: set it to start from the network before its disks, then switch it off and on by hand."
    )

    def state(self) -> PowerState:
        """Nobody can tell."""
        return PowerState.UNKNOWN

    def boot_from(self, target: Target, persistent: bool = False) -> None:
        """Left to whoever does it by hand."""

    def power_on(self) -> None:
        """Left to whoever does it by hand."""

    def power_off(self) -> None:
        """Left to whoever does it by hand."""

    def reset(self, cold: bool = False) -> None:
        """Left to whoever does it by hand."""
