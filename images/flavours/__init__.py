"""What differs between distributions, as data: how each one is made bootable.

A flavour names packages, paths and tools; the steps in `deploy.steps` turn them into commands. Pure: values only.
"""

from .debian import DEBIAN_12
from .flavour import EFI_LOADER, BlsStyle, Flavour, Grub, Initramfs, LicenceTool
from .rhel import RHEL_7, RHEL_8

FLAVOURS = {flavour.name: flavour for flavour in (DEBIAN_12, RHEL_7, RHEL_8)}
"""Every flavour by its name."""


class UnknownFlavour(LookupError):
    """A name that no flavour has."""


def flavour(name: str) -> Flavour:
    """The flavour of this name; `UnknownFlavour` names those that there are."""
    try:
        return FLAVOURS[name]
    except KeyError:
        raise UnknownFlavour(f"There is no flavour {name!r}. Choose one of: {', '.join(sorted(FLAVOURS))}.") from None


__all__ = [
    "EFI_LOADER",
    "FLAVOURS",
    "BlsStyle",
    "Flavour",
    "Grub",
    "Initramfs",
    "LicenceTool",
    "UnknownFlavour",
    "flavour",
]
