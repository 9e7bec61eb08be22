"""What an image can, beyond what its flavour can: as an admin says it, and as a plan asks for it. Pure: values only.

Kept in `Image.capabilities`, beside what the inspection found. What is not said there is as the flavour has it:
`filesystems` a list of types, `raid` a list of levels (none of them: the image has no mdadm), `lvm` false where the
image has no lvm2, `inputs` its questions.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from servers.storage.layout import FsType, Raid

FILESYSTEMS: Final = (FsType.EXT4, FsType.XFS, FsType.BTRFS)
SAID: Final = ("filesystems", "raid", "lvm", "inputs")
"""The keys that people say; all others are the inspection's."""


@dataclass(frozen=True, slots=True)
class Storage:
    """The file systems, RAID levels and LVM that an image can be installed on."""

    filesystems: frozenset[str]
    raid_levels: frozenset[Raid]
    lvm: bool

    @property
    def raid(self) -> bool:
        """Whether there is any RAID."""
        return bool(self.raid_levels)


def storage(
    capabilities: Mapping[str, Any], filesystems: Collection[str], raid_levels: Collection[str], lvm: bool
) -> Storage:
    """What an image can be installed on whose flavour can that; what is said of the image only takes away from it."""
    wanted = capabilities.get("filesystems", filesystems)
    raid = capabilities.get("raid", True)
    levels = raid_levels if raid is True else set(raid or ()) & set(raid_levels)
    return Storage(
        frozenset(filesystems) & frozenset(wanted),
        frozenset(Raid(level) for level in levels),
        lvm and bool(capabilities.get("lvm", True)),
    )


def with_said(capabilities: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The capabilities with what people say now in place of what they said before."""
    found = {name: value for name, value in capabilities.items() if name not in SAID}
    return {**found, **said}
