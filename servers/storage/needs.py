"""What an image asks of a plan, and what a plan may not ask of an image."""

from __future__ import annotations

from dataclasses import dataclass

from servers.storage.layout import Filesystem, Layout, Raid
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import MIB, align_up


@dataclass(frozen=True, slots=True)
class ImageNeeds:
    """What an image asks of a plan: room for its root, and file systems and RAID that its own tools can handle.

    `raid`, `lvm` and `luks`: whether it has mdadm, lvm2 and cryptsetup, for its initramfs too. `raid_levels` are those
    that its kernel knows. `grub_reads` are the file systems that its GRUB can start from.
    The features are what mkfs must be told. The defaults switch off what the rescue system's tools add and GRUB 2.06,
    kernel 5.10 and e2fsck of their time cannot read; a flavour older than that switches off more. Those of XFS are
    options of mkfs.xfs without their letter (`bigtime=0`), those of ext4 and Btrfs go to `-O` (`^orphan_file`).
    """

    root_bytes: int
    filesystems: frozenset[str] = frozenset({"ext4"})
    raid: bool = True
    ext4_features: tuple[str, ...] = ("^metadata_csum_seed", "^orphan_file")
    xfs_features: tuple[str, ...] = ("nrext64=0",)
    btrfs_features: tuple[str, ...] = ("^block-group-tree",)
    lvm: bool = True
    luks: bool = True
    raid_levels: frozenset[Raid] = frozenset(Raid)
    grub_reads: frozenset[str] = frozenset({"ext4"})

    @property
    def root_floor(self) -> int:
        """The smallest root that the image can live in: its files, what ext4 takes for itself, a new initramfs."""
        return align_up(self.root_bytes + self.root_bytes // 8 + 256 * MIB)

    def features(self, kind: str) -> tuple[str, ...]:
        """What mkfs of that file system must be told."""
        return {"ext4": self.ext4_features, "xfs": self.xfs_features, "btrfs": self.btrfs_features}.get(kind, ())


def check_image(layout: Layout, image: ImageNeeds) -> None:
    """PlanImpossible when the installed system could not start from such a layout, or not use it."""
    for group in layout.volume_groups:
        _check_below(group.name, group.raid, group.encrypted, image)
        if not image.lvm:
            raise PlanImpossible(
                f"The layout has the volume group {group.name}, and this image has no lvm2.",
                "Choose a layout without volume groups, or an image with lvm2.",
            )
    for one in layout.filesystems:
        _check_type(one, image)
        _check_below(one.mount, one.raid, one.encrypted, image)


def _check_type(one: Filesystem, image: ImageNeeds) -> None:
    # vfat is in every kernel that starts by UEFI
    if one.type.value not in image.filesystems | {"vfat"}:
        raise PlanImpossible(
            f"{one.mount} is to be {one.type.value}, which this image cannot mount.",
            f"Choose one of {', '.join(sorted(image.filesystems))} for it.",
        )


def _check_below(what: str, level: Raid | None, encrypted: bool, image: ImageNeeds) -> None:
    if encrypted and not image.luks:
        raise PlanImpossible(
            f"{what} is to be encrypted, and this image has no cryptsetup.",
            "Leave out the encryption, or choose an image with cryptsetup.",
        )
    if level and not image.raid:
        raise PlanImpossible(
            f"{what} is to lie on {level.title}, and this image has no mdadm.",
            "Choose the layout plain, or an image with mdadm.",
        )
    if level and level not in image.raid_levels:
        known = ", ".join(sorted(one.title for one in image.raid_levels)) or "none"
        raise PlanImpossible(
            f"{what} is to lie on {level.title}, and this image knows no such level (it knows {known}).",
            "Choose one of these, or no RAID.",
        )
