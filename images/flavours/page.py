"""docs/flavours.md: every flavour with what is known of it."""

from collections.abc import Callable, Iterable, Iterator

from . import FLAVOURS, EfiLoader, Flavour, Need

_HEAD = """\
# Flavours

How each distribution is made bootable. Written by `python -m images.flavours` from the data in `images/flavours/`; do
not edit it.

*Tested here* means that a machine of the lab was installed with it and logged into. *Untested here* means that nobody
has booted it on Landfall's machines: its commands were read, are held by golden files
(`tests/deploy/golden/flavours/`), and were run in a tree with the names and folders of its kernel, initramfs, modules,
menu entries and loaders, with stand-ins for its programs (`tests/deploy/test_trees.py`); so was what reads the disks
back before the reboot. That is no proof that it starts, and the catalogue says *untested here* too.

Secure Boot has to be off: the machine boots iPXE first, which nobody has signed.

"""

_LOADERS = {
    EfiLoader.GRUB_INSTALL: "made by {install}",
    EfiLoader.SIGNED: "signed, from EFI/{folder}; whole configuration beside it",
    EfiLoader.SIGNED_STUB: "signed, from EFI/{folder}; stub beside it that goes on with {boot}/grub.cfg",
}


def page() -> str:
    """The page as Markdown."""
    parts = (
        ("## What they are", ("Flavour", "", "Mended until", "First login", "Here"), _what_they_are),
        ("## What can be below their root", ("Flavour", "File systems", "RAID", "LVM", "LUKS"), _what_they_can),
        (
            "## How they start",
            ("Flavour", "Initramfs", "Menu", "EFI loader, copied to or made in EFI/BOOT", "Settings"),
            _how_they_start,
        ),
        (
            "## What is asked of their packages",
            ("Flavour", "Always", "BIOS", "UEFI", "RAID, LVM, LUKS, XFS, Btrfs", "Installed by", "Network set up by"),
            _packages,
        ),
    )
    return _HEAD + "\n".join(_table(title, head, row) for title, head, row in parts) + _licence()


def _table(title: str, head: tuple[str, ...], row: Callable[[Flavour], tuple[str, ...]]) -> str:
    lines = [title, "", _line(head), _line("---" for _ in head)]
    lines += [_line(row(flavour)) for flavour in FLAVOURS.values()]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _what_they_are(one: Flavour) -> tuple[str, ...]:
    until = one.end_of_life.isoformat() if one.end_of_life else "has no versions"
    return f"`{one.name}`", one.title, until, f"`{one.login}`", "tested here" if one.tested_here else "*untested here*"


def _what_they_can(one: Flavour) -> tuple[str, ...]:
    levels = " ".join(sorted((level.removeprefix("raid") for level in one.raid_levels), key=int))
    return f"`{one.name}`", ", ".join(sorted(one.filesystems)), levels, _yes(one.lvm), _yes(one.luks)


def _yes(it: bool) -> str:
    return "yes" if it else "no"


def _how_they_start(one: Flavour) -> tuple[str, ...]:
    grub = one.grub
    menu = f"entries below /boot/loader, {grub.mkconfig[0]}" if grub.bls else grub.mkconfig[0]
    loader = _LOADERS[grub.efi_loader].format(install=grub.install, folder=grub.efi_folder, boot=grub.folder)
    return f"`{one.name}`", one.initramfs.value, menu, loader, f"`{grub.presets}`"


def _packages(one: Flavour) -> tuple[str, ...]:
    def of(*needs: Need) -> str:
        return " ".join(one.packages_for(*needs)) or "–"

    can = {
        Need.RAID: True,
        Need.LVM: one.lvm,
        Need.LUKS: one.luks,
        Need.XFS: True,
        Need.BTRFS: "btrfs" in one.filesystems,
    }
    more = of(*(need for need, it in can.items() if it))
    tool, network = one.package_tool.name, one.network_renderer
    return f"`{one.name}`", of(Need.SYSTEM), of(Need.BIOS), of(Need.UEFI), more, tool, network


def _licence() -> str:
    names = ", ".join(_names())
    return f"""
## Licences

{names} are registered with `subscription-manager register`, organisation and activation key, and never attached; with a
licence of the kind *bring your own* they are left alone. A registration is repeated by the consumer identity that is in
the system already. The key goes to the program by a file in RAM, is no argument, and is taken out of the logs that it
may have got into. The seat is given back by the vendor's service before the server is wiped the next time.
"""


def _names() -> Iterator[str]:
    return (f"`{one.name}`" for one in FLAVOURS.values() if one.licence)
