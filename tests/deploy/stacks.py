"""Contexts whose plans have several levels below a file system."""

from dataclasses import replace

from deploy.step import Context
from servers.storage.layout import Filesystem, Layout, Raid, WantedVolumeGroup
from tests.deploy.contexts import make_context


def encrypted_context(of: str = "debian-12", mount: str = "/") -> Context:
    """A mirrored UEFI server with /boot apart; the file system at `mount` is a volume of a group in a container."""
    wanted = (
        Filesystem("/", raid=Raid.RAID1),
        Filesystem("/boot", size=1 << 30, raid=Raid.RAID1),
        Filesystem("/srv", size=2 << 30, raid=Raid.RAID1),
    )
    inside = tuple(replace(one, raid=None, volume_group="system") if one.mount == mount else one for one in wanted)
    size = next(one.size for one in wanted if one.mount == mount)
    group = WantedVolumeGroup("system", raid=Raid.RAID1, size=size, encrypted=True)
    return make_context(of=of, layout=Layout("encrypted", inside, volume_groups=(group,)))
