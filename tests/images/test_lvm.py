"""Roots that lie in a volume of LVM, read out of metadata that LVM2 itself wrote."""

from pathlib import Path

import pytest

from images.contents import look
from images.inspect import inspect
from images.lvm import physical_volume, volumes
from tests.images.disks import (
    ESP,
    EXTENT,
    LINUX,
    MIB,
    ROOT_VOLUME_SIZE,
    make_filesystem,
    make_physical_volume,
    make_raw,
    patch,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A physical volume with a root in it. Not to be changed."""
    folder = tmp_path_factory.mktemp("lvm")
    root = make_filesystem(folder / "root", label="system", size=ROOT_VOLUME_SIZE)
    return make_physical_volume(folder / "volume.raw", root)


def read_of(content: bytes):  # type: ignore[no-untyped-def]
    return lambda offset, length: content[offset : offset + length]


def test_the_volumes_are_those_that_lvs_lists(whole: Path) -> None:
    found = physical_volume(read_of(whole.read_bytes()), 0)
    assert found is not None
    assert {volume.name: volume.size for volume in volumes([found])} == {
        "swap": 2 * EXTENT, "root": 7 * EXTENT, "home": 2 * EXTENT,
    }  # fmt: skip


def test_a_volume_in_two_pieces_reads_as_one(whole: Path) -> None:
    read = read_of(whole.read_bytes())
    found = physical_volume(read, 0)
    assert found is not None
    (root,) = [volume for volume in volumes([found]) if volume.name == "root"]
    content = whole.with_name("root").read_bytes()
    assert root.reader(read)(0, root.size) == content
    seam = 5 * EXTENT
    assert root.reader(read)(seam - 1024, 4096) == content[seam - 1024 : seam + 3072]
    assert root.reader(read)(root.size - 512, 4096) == content[-512:]


def test_the_root_is_found_in_a_volume_on_a_partition(whole: Path, tmp_path: Path) -> None:
    esp = make_filesystem(tmp_path / "esp", kind="vfat", label="EFI", size=4 * MIB)
    found = inspect(make_raw(tmp_path / "image.raw", (ESP, esp), (LINUX, whole)))
    assert found.root is not None
    assert (found.root.volume, found.root.partition, found.root.filesystem.type) == ("vg0/root", 2, "ext4")
    assert found.root.found_by == "name of the volume"
    assert found.has_lvm
    assert found.root_bytes > MIB
    assert found.capabilities()["root_file_system"]["volume"] == "vg0/root"


def test_the_root_is_found_on_a_disk_that_is_all_lvms(whole: Path) -> None:
    found = inspect(whole)
    assert found.table == ""
    assert found.root is not None
    assert (found.root.volume, found.root.partition) == ("vg0/root", 0)


@pytest.mark.parametrize(
    "offset",
    [
        512 + 40,  # the label's own bytes
        4096 + 20,  # the header of the metadata
        4096 + 48,  # the length of the text
    ],
)
def test_metadata_that_was_tampered_with_is_no_metadata(offset: int, whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(whole.read_bytes())
    patch(copy, offset, "B", 0xEE)
    assert look(read_of(copy.read_bytes())).root is None


def test_a_text_with_another_checksum_is_not_believed(whole: Path) -> None:
    content = whole.read_bytes()
    assert look(read_of(content)).root is not None
    assert look(read_of(content.replace(b'creation_host = "vm"', b'creation_host = "pm"'))).root is None
