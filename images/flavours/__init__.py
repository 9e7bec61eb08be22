"""What differs between distributions, as data: how each one is made bootable.

A flavour names packages, paths and tools; the steps in `deploy.steps` turn them into commands. Pure: values only. A new
version of a distribution is a `replace` of the one before it; docs/flavours.md is written from here.
"""

from .arch import ARCH
from .debian import DEBIANS
from .drivers import CRYPT_DRIVERS
from .flavour import EFI_LOADER, EfiLoader, Flavour, Grub, Initramfs, LicenceTool
from .packages import Need, PackageTool
from .redhat import ALMAS, FEDORAS, RHELS, ROCKYS
from .suse import LEAP_15

FLAVOURS = {flavour.name: flavour for flavour in (*DEBIANS, *RHELS, *ROCKYS, *ALMAS, LEAP_15, *FEDORAS, ARCH)}
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
    "CRYPT_DRIVERS",
    "EFI_LOADER",
    "FLAVOURS",
    "EfiLoader",
    "Flavour",
    "Grub",
    "Initramfs",
    "LicenceTool",
    "Need",
    "PackageTool",
    "UnknownFlavour",
    "flavour",
]
