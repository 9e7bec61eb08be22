"""Step 6: the config drive, on its partition and compared with what it should be."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta

from metadata.configdrive import iso
from servers.storage import render
from servers.storage.plan import ConfigDriveKind

from ..commands import Command, run, write_file
from ..step import RUN, Context, Step, run_commands

MOUNTED = f"{RUN}/config-drive"


def config_drive(ctx: Context) -> Iterator[Command]:
    """cloud-init's files, written to the partition labelled config-2, then read back and compared."""
    drive = ctx.plan.config_drive
    yield run("sh", "-c", f"! mountpoint --quiet {MOUNTED} || umount {MOUNTED}")
    yield run("mkdir", "-p", MOUNTED)
    if drive.kind is ConfigDriveKind.ISO9660:
        yield write_file(f"{RUN}/config-drive.iso", iso(ctx.config_drive), mode=0o600)
        yield run("dd", f"if={RUN}/config-drive.iso", f"of={drive.partition}", "bs=64K", "conv=fsync", "status=none")
        yield run("rm", f"{RUN}/config-drive.iso")
    else:
        # ISO 9660 has blocks of 2,048 bytes at most below it: a disk with 4,096 gets the same files on vfat
        make = render.mkfs_config_drive(drive)
        assert make  # a drive that is no ISO has a file system of its own
        yield run(*make.argv)
        yield run("mount", "--types", "vfat", drive.partition, MOUNTED)
        for path, content in ctx.config_drive.items():
            yield write_file(f"{MOUNTED}/{path}", content)
        yield run("umount", MOUNTED)
    yield run("mount", "--read-only", "--types", drive.kind.value, drive.partition, MOUNTED)
    yield run("sh", "-c", f"cd {MOUNTED} && sha256sum --check --strict", stdin=_checksums(ctx))
    yield run("umount", MOUNTED)


def _checksums(ctx: Context) -> str:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in ctx.config_drive.items())


CONFIG_DRIVE = Step(
    "config-drive",
    title="Config drive",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="config-drive",
    cancellable=False,
    perform=run_commands,
    commands=config_drive,
)
