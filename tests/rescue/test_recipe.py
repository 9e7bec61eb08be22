"""The recipe of the rescue system: what goes in, and how its initramfs is put together."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from rescue import cpio
from rescue.build import modules_in_order
from rescue.recipe import EXCLUDED, KERNEL_ARGS, PACKAGES, mmdebstrap


def test_packages_come_from_the_mirror_that_mmdebstrap_knows() -> None:
    argv = mmdebstrap(Path("extra.tar"), Path("root.tar"))
    assert not any("://" in word for word in argv)
    assert argv[-2:] == ["trixie", "root.tar"]


def test_nothing_that_a_server_boots_from_is_left_out() -> None:
    for kept in ("drivers/net/ethernet", "drivers/scsi", "drivers/nvme", "drivers/ata", "drivers/md", "drivers/block"):
        assert not any(f"/kernel/{kept}" in pattern for pattern in EXCLUDED)
    assert {"mdadm", "lvm2", "rsync", "qemu-utils", "openssh-server"} <= set(PACKAGES)


def test_the_last_console_is_the_serial_one() -> None:
    # /dev/console is the last one named: what a BMC shows as serial-over-LAN
    consoles = [word for word in KERNEL_ARGS.split() if word.startswith("console=")]
    assert consoles == ["console=tty0", "console=ttyS0,115200"]


def test_modules_are_loaded_after_what_they_need() -> None:
    modules_dep = "\n".join(
        [
            "kernel/fs/squashfs/squashfs.ko.xz:",
            "kernel/fs/overlayfs/overlay.ko.xz: kernel/fs/near.ko.xz kernel/lib/far-away.ko.xz",
            "kernel/fs/near.ko.xz: kernel/lib/far-away.ko.xz",
            "kernel/lib/far-away.ko.xz:",
        ]
    )
    order = modules_in_order(modules_dep, ("squashfs", "far_away", "overlay"))
    assert [Path(path).name.partition(".")[0] for path in order] == ["squashfs", "far-away", "near", "overlay"]


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio reads the archive back")
def test_the_initramfs_is_an_archive_that_cpio_reads() -> None:
    archive = io.BytesIO()
    cpio.write(
        [cpio.folder("bin"), cpio.file("bin/tool", b"odd", 0o755), cpio.character_device("console", 5, 1)], archive
    )
    listing = subprocess.run(["cpio", "-tv"], input=archive.getvalue(), capture_output=True, check=True).stdout.decode()
    rows = [(line.split()[0], line.split()[-1]) for line in listing.splitlines()]
    assert rows == [("drwxr-xr-x", "bin"), ("-rwxr-xr-x", "bin/tool"), ("crw-------", "console")]
    extracted = subprocess.run(
        ["cpio", "-i", "--to-stdout", "bin/tool"], input=archive.getvalue(), capture_output=True, check=True
    )
    assert extracted.stdout == b"odd"
