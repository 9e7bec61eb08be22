"""The image factory: how a disk is put together, and what a built image holds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from images.factory.build import ensure, make_disk
from images.factory.recipe import DEBIAN_12, MIB, RECIPES, ROOT_X86_64, Recipe, mmdebstrap, pack_script
from images.factory.variants import Form, ova, raw
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


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_both_firmwares_and_every_layout_are_served_without_a_network(recipe: Recipe) -> None:
    assert {"grub-pc-bin", "grub-efi-amd64-bin", "efibootmgr", "zstd"} <= set(recipe.packages)
    assert {"mdadm", "lvm2", "cryptsetup-initramfs", "xfsprogs", "btrfs-progs"} <= set(recipe.packages)
    # these two exclude each other
    assert not {"grub-pc", "grub-efi-amd64"} & set(recipe.packages)


def test_debian_11_has_no_package_of_its_own_for_resolved() -> None:
    assert [name for name, recipe in RECIPES.items() if "systemd-resolved" in recipe.packages] == [
        "debian-12", "debian-13",
    ]  # fmt: skip


def make_qcow2(folder: Path) -> tuple[Path, bytes]:
    """An image of 4 MiB with something at its beginning and its end, and its bytes."""
    content = b"first".ljust(4 * MIB - 4, b"\0") + b"last"
    (folder / "disk").write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", folder / "disk", folder / "disk.qcow2"], check=True)
    return folder / "disk.qcow2", content


def test_an_image_as_raw_is_its_disk(tmp_path: Path) -> None:
    qcow2, content = make_qcow2(tmp_path)
    assert raw("tiny", qcow2, tmp_path, print).read_bytes() == content


def test_an_image_as_ova_is_a_descriptor_a_manifest_that_holds_and_the_disk_compressed(tmp_path: Path) -> None:
    qcow2, content = make_qcow2(tmp_path)
    (tmp_path / "scratch").mkdir()
    with tarfile.open(ova("tiny", qcow2, tmp_path / "scratch", print)) as tar:
        assert tar.getnames() == ["tiny.ovf", "tiny.mf", "tiny-disk1.vmdk"]
        tar.extractall(tmp_path, filter="data")
    for line in (tmp_path / "tiny.mf").read_text().splitlines():
        name, checksum = line.removeprefix("SHA256(").split(")= ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == checksum
    ovf = ElementTree.parse(tmp_path / "tiny.ovf")
    space = "{http://schemas.dmtf.org/ovf/envelope/1}"
    (file,), (disk,) = ovf.iter(f"{space}File"), ovf.iter(f"{space}Disk")
    assert file.get(f"{space}href") == "tiny-disk1.vmdk"
    assert file.get(f"{space}size") == str((tmp_path / "tiny-disk1.vmdk").stat().st_size)
    assert disk.get(f"{space}capacity") == str(len(content))
    vmdk = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", tmp_path / "tiny-disk1.vmdk", tmp_path / "back"]
    subprocess.run(vmdk, check=True)
    assert (tmp_path / "back").read_bytes() == content


def test_every_form_has_a_name_on_the_command_line() -> None:
    assert [form.value for form in Form] == ["qcow2", "raw", "ova"]


def test_the_file_system_has_no_feature_that_debian_12s_grub_cannot_read() -> None:
    assert "-O ^orphan_file,^metadata_csum_seed" in pack_script(DEBIAN_12)


def test_an_image_that_the_factory_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(BuildFailed, match="it builds: debian-11, debian-12, debian-13"):
        ensure("plan-9", print)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            recipe, id=name, marks=() if recipe is DEBIAN_12 else (pytest.mark.long, pytest.mark.xdist_group(name))
        )
        for name, recipe in RECIPES.items()
    ],
)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    """Each image that is built; Debian 12 alone in a run that is to be short."""
    assert isinstance(request.param, Recipe)
    return request.param


@pytest.fixture(scope="module")
def root(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of the built image, cut out of its disk; building takes two minutes, the first time."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run(["qemu-img", "convert", "-O", "raw", ensure(recipe.name, print), folder / "disk"], check=True)
    cut = ["dd", f"if={folder / 'disk'}", f"of={folder / 'root'}", "bs=1M", "skip=1", "conv=sparse", "status=none"]
    subprocess.run(cut, check=True)
    (folder / "disk").unlink()
    return folder / "root"


def look(root: Path, request: str) -> str:
    """What debugfs prints; its first line of errors is its version."""
    done = subprocess.run(["debugfs", "-R", request, root], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr.partition("\n")[2]


@pytest.mark.qemu
def test_the_built_file_system_is_whole(recipe: Recipe, root: Path) -> None:
    subprocess.run(["e2fsck", "-fn", root], check=True, capture_output=True)
    assert f'VERSION_ID="{recipe.version}"' in look(root, "cat /usr/lib/os-release")


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
        "/sbin/mdadm", "/usr/sbin/netplan", "/usr/bin/cloud-init", "/usr/sbin/sshd", "/usr/bin/sudo",
    ],
)  # fmt: skip
def test_the_built_image_has_what_an_install_needs(root: Path, path: str) -> None:
    assert "Inode:" in look(root, f"stat {path}")
