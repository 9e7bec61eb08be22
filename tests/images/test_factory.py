"""The image factory: how a disk is put together, and what a built image holds."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from images.factory.build import ensure, make_disk
from images.factory.recipe import DEBIAN_12, MIB, ROOT_X86_64, mmdebstrap, pack_script
from rescue.workshop import BuildFailed


def make_root(path: Path) -> Path:
    """A file system with a hole of some MiB in it."""
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", "-L", "root", path], check=True)
    return path


def test_the_disk_has_one_root_partition_that_is_the_file_system(tmp_path: Path) -> None:
    root, disk = make_root(tmp_path / "root.img"), tmp_path / "disk.raw"
    make_disk(root, disk)
    table = json.loads(subprocess.run(["sfdisk", "--json", disk], capture_output=True, check=True).stdout)
    (partition,) = table["partitiontable"]["partitions"]
    assert table["partitiontable"]["label"] == "gpt"
    assert (partition["type"], partition["name"]) == (ROOT_X86_64, "root")
    start, size = partition["start"] * 512, partition["size"] * 512
    assert start == MIB
    assert disk.read_bytes()[start : start + size] == root.read_bytes()[:size]
    assert size == root.stat().st_size


def test_the_disks_empty_space_costs_nothing(tmp_path: Path) -> None:
    root, disk = make_root(tmp_path / "root.img"), tmp_path / "disk.raw"
    make_disk(root, disk)
    assert os.stat(disk).st_blocks * 512 < 6 * MIB  # noqa: PTH116


def test_packages_come_from_the_mirror_that_mmdebstrap_knows() -> None:
    assert not any("://" in word for word in mmdebstrap(DEBIAN_12, Path("extra.tar"), Path("out")))


def test_both_firmwares_are_served_without_a_network() -> None:
    assert {"grub-pc-bin", "grub-efi-amd64-bin", "efibootmgr", "mdadm", "lvm2", "zstd"} <= set(DEBIAN_12.packages)
    # these two exclude each other
    assert not {"grub-pc", "grub-efi-amd64"} & set(DEBIAN_12.packages)


def test_the_file_system_has_no_feature_that_debian_12s_grub_cannot_read() -> None:
    assert "-O ^orphan_file,^metadata_csum_seed" in pack_script(DEBIAN_12)


def test_an_image_that_the_factory_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(BuildFailed, match="it builds: debian-12"):
        ensure("plan-9", print)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of the built image, cut out of its disk; building takes two minutes, the first time."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run(["qemu-img", "convert", "-O", "raw", ensure("debian-12", print), folder / "disk"], check=True)
    cut = ["dd", f"if={folder / 'disk'}", f"of={folder / 'root'}", "bs=1M", "skip=1", "conv=sparse", "status=none"]
    subprocess.run(cut, check=True)
    (folder / "disk").unlink()
    return folder / "root"


def look(root: Path, request: str) -> str:
    """What debugfs prints; its first line of errors is its version."""
    done = subprocess.run(["debugfs", "-R", request, root], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr.partition("\n")[2]


@pytest.mark.qemu
def test_the_built_file_system_is_whole(root: Path) -> None:
    subprocess.run(["e2fsck", "-fn", root], check=True, capture_output=True)
    assert 'VERSION_ID="12"' in look(root, "cat /usr/lib/os-release")


@pytest.mark.qemu
def test_the_built_image_carries_nobodys_identity(root: Path) -> None:
    assert "ssh_host_" not in look(root, "ls /etc/ssh")
    assert look(root, "cat /etc/machine-id") == ""
    shadow = dict(line.split(":")[:2] for line in look(root, "cat /etc/shadow").splitlines())
    assert shadow["root"].startswith(("!", "*"))


@pytest.mark.qemu
def test_the_built_image_looks_for_cloud_init_data_only_where_a_bare_metal_server_has_some(root: Path) -> None:
    config = look(root, "cat /etc/cloud/cloud.cfg.d/90_landfall.cfg")
    assert "datasource_list: [ConfigDrive, NoCloud, None]" in config


@pytest.mark.qemu
def test_nothing_of_the_build_is_left_in_the_image(root: Path) -> None:
    for folder in ("/etc/apt/apt.conf.d", "/etc/dpkg/dpkg.cfg.d", "/mnt", "/"):
        listing = look(root, f"ls {folder}")
        assert "mmdebstrap" not in listing and "landfall" not in listing
    assert "Mode:  0755" in look(root, "stat /mnt")


@pytest.mark.qemu
@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/grub/i386-pc/modinfo.sh", "/usr/lib/grub/x86_64-efi/modinfo.sh", "/usr/sbin/grub-install",
        "/usr/sbin/mdadm", "/usr/sbin/netplan", "/usr/bin/cloud-init", "/usr/sbin/sshd", "/usr/bin/sudo",
    ],
)  # fmt: skip
def test_the_built_image_has_what_an_install_needs(root: Path, path: str) -> None:
    assert "Inode:" in look(root, f"stat {path}")
