import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from images import contents
from images.formats import Format
from images.inspect import claimed_format, inspect
from images.inspection import Limits
from images.refusal import ImageRefused
from tests.images.disks import ESP, LINUX, MIB, ROOT_X86_64, convert, make_filesystem, make_image, make_raw, patch, run


def why(path: Path, claimed: Format | None = None, limits: Limits | None = None) -> str:
    with pytest.raises(ImageRefused) as refused:
        inspect(path, claimed, limits or Limits())
    return str(refused.value)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good image, raw; its QCOW2 is beside it. Not to be changed."""
    folder = tmp_path_factory.mktemp("images") / "good"
    return make_image(folder).with_suffix(".raw")


@pytest.fixture
def raw(image: Path, tmp_path: Path) -> Path:
    """A good raw image of one's own."""
    return Path(shutil.copy(image, tmp_path))


@pytest.fixture
def qcow2(image: Path, tmp_path: Path) -> Path:
    """A good QCOW2 of one's own."""
    return Path(shutil.copy(image.with_suffix(".qcow2"), tmp_path))


@pytest.mark.parametrize("options", [[], ["-c"], ["-o", "compat=0.10"], ["-c", "-o", "compression_type=zstd"]])
def test_a_qcow2_is_taken_with_what_is_inside(options: list[str], raw: Path, tmp_path: Path) -> None:
    found = inspect(convert(raw, tmp_path / "image.qcow2", *options), Format.QCOW2)
    assert found.format is Format.QCOW2
    assert found.virtual_size == 38 * MIB
    assert (found.table, found.has_esp) == ("gpt", True)
    assert found.root is not None
    assert (found.root.partition, found.root.filesystem.type, found.root.found_by) == (2, "ext4", "GPT type")
    assert MIB < found.root_bytes < 20 * MIB


def test_a_raw_image_says_the_same_as_the_qcow2_of_it(raw: Path, tmp_path: Path) -> None:
    one, other = inspect(raw), inspect(convert(raw, tmp_path / "image.img"))
    assert (one.format, other.format) == (Format.RAW, Format.QCOW2)
    assert one.capabilities() == other.capabilities()
    assert one.root_bytes == other.root_bytes


def test_the_bytes_in_use_are_those_that_dumpe2fs_tells(tmp_path: Path) -> None:
    root = make_filesystem(tmp_path / "root")
    told = dict(line.split(":", 1) for line in run("dumpe2fs", "-h", root).splitlines() if ":" in line)
    used = (int(told["Block count"]) - int(told["Free blocks"])) * int(told["Block size"])
    assert inspect(root).root_bytes == used


@pytest.mark.parametrize(("kind", "size"), [("xfs", 320 * MIB), ("btrfs", 128 * MIB)])
def test_other_file_systems_are_recognised(kind: str, size: int, tmp_path: Path) -> None:
    root = make_filesystem(tmp_path / "root", kind=kind, label="system", size=size)
    found = inspect(make_raw(tmp_path / "image.raw", (LINUX, root))).root
    assert found is not None
    assert (found.filesystem.type, found.filesystem.label) == (kind, "system")
    assert 0 < found.filesystem.used < size


def test_the_root_is_told_by_its_label_where_no_type_says_so(tmp_path: Path) -> None:
    data = make_filesystem(tmp_path / "data", label="data", size=64 * MIB)
    root = make_filesystem(tmp_path / "root", label="cloudimg-rootfs", size=16 * MIB)
    found = inspect(make_raw(tmp_path / "image.raw", (LINUX, data), (LINUX, root))).root
    assert found is not None
    assert (found.partition, found.found_by) == (2, "label")


def test_the_fullest_file_system_is_the_root_where_nothing_else_says_so(tmp_path: Path) -> None:
    boot = make_filesystem(tmp_path / "boot", label="b", size=8 * MIB)
    system = make_filesystem(tmp_path / "system", label="s", size=64 * MIB)
    found = inspect(make_raw(tmp_path / "image.raw", ("83", boot), ("83", system), table="dos"))
    assert found.table == "dos"
    assert found.root is not None
    assert (found.root.partition, found.root.found_by) == (2, "content")


def test_the_root_may_be_a_logical_partition(tmp_path: Path) -> None:
    root = make_filesystem(tmp_path / "root", label="root", size=16 * MIB)
    disk = tmp_path / "image.raw"
    with disk.open("wb") as file:
        file.truncate(48 * MIB)
    table = (
        "label: dos\nstart=1MiB, size=45MiB, type=5\nstart=2MiB, size=8MiB, type=83\nstart=12MiB, size=16MiB, type=83\n"
    )
    run("sfdisk", "--quiet", disk, stdin=table)
    run("dd", f"if={root}", f"of={disk}", "bs=1M", "seek=12", "conv=notrunc", "status=none")
    found = inspect(disk).root
    assert found is not None
    assert (found.partition, found.found_by) == (6, "label")


def test_logical_partitions_that_lead_round_in_a_circle_have_an_end() -> None:
    table = bytearray(512)
    table[446 + 4] = 5
    table[446 + 8 : 446 + 16] = struct.pack("<II", 1, 100)
    table[510:512] = b"\x55\xaa"
    again = bytearray(table)
    again[446 + 8 : 446 + 16] = struct.pack("<II", 0, 100)
    disk = bytes(table) + bytes(again) + bytes(contents.READ_BYTES)
    found = contents.look(lambda offset, length: disk[offset : offset + length])
    assert (found.table, found.root) == ("dos", None)


def test_a_disk_without_partitions_may_be_one_file_system(tmp_path: Path) -> None:
    found = inspect(make_filesystem(tmp_path / "image.raw"), Format.RAW)
    assert (found.table, found.has_esp) == ("", False)
    assert found.root is not None
    assert found.root.partition == 0


def test_an_image_whose_root_is_not_found_is_taken_all_the_same(tmp_path: Path) -> None:
    esp = make_filesystem(tmp_path / "esp", kind="vfat", label="EFI", size=4 * MIB)
    found = inspect(make_raw(tmp_path / "image.raw", (ESP, esp)))
    assert found.root is None
    assert found.root_bytes == 0


def test_a_backing_file_is_refused(tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "-u", tmp_path / "evil.qcow2", "1G")
    assert "backing file" in why(tmp_path / "evil.qcow2")


def test_a_backing_file_that_is_a_description_is_refused(tmp_path: Path) -> None:
    backing = 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}'
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", backing, "-u", tmp_path / "evil.qcow2", "1G")
    assert "backing file" in why(tmp_path / "evil.qcow2")


@pytest.mark.parametrize("raw", ["off", "on"])
def test_an_external_data_file_is_refused(raw: str, tmp_path: Path) -> None:
    options = f"data_file={tmp_path / 'data'},data_file_raw={raw}"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, tmp_path / "evil.qcow2", "1M")
    assert "data in another file" in why(tmp_path / "evil.qcow2")


def test_the_name_of_a_data_file_is_refused_even_without_its_feature(tmp_path: Path) -> None:
    options = f"data_file={tmp_path / 'data'}"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, tmp_path / "evil.qcow2", "1M")
    patch(tmp_path / "evil.qcow2", 72, "Q", 0)
    assert "another file for its data" in why(tmp_path / "evil.qcow2")


def test_an_encrypted_qcow2_is_refused(tmp_path: Path) -> None:
    secret = "secret,id=key,data=hunter2"
    options = "encrypt.format=aes,encrypt.key-secret=key"
    run("qemu-img", "create", "--object", secret, "-f", "qcow2", "-o", options, tmp_path / "evil.qcow2", "1M")
    assert "encrypted" in why(tmp_path / "evil.qcow2")


def test_luks_in_place_of_a_disk_is_refused(raw: Path) -> None:
    patch(raw, 0, "6s", b"LUKS\xba\xbe")
    assert "encrypted" in why(raw)


def test_a_format_that_is_not_taken_is_named_with_what_to_do(raw: Path, tmp_path: Path) -> None:
    message = why(convert(raw, tmp_path / "image", format="vdi"))
    assert "VirtualBox" in message
    assert "qemu-img convert" in message


@pytest.mark.parametrize(
    ("format", "driver", "subformat"),
    [
        (Format.VMDK, "vmdk", "monolithicSparse"), (Format.VMDK, "vmdk", "streamOptimized"),
        (Format.VHD, "vpc", "dynamic"), (Format.VHD, "vpc", "fixed"),
        (Format.VHDX, "vhdx", "dynamic"), (Format.VHDX, "vhdx", "fixed"),
    ],
)  # fmt: skip
def test_what_other_hypervisors_write_is_taken_with_what_is_inside(
    format: Format, driver: str, subformat: str, raw: Path, tmp_path: Path
) -> None:
    path = convert(raw, tmp_path / f"image.{format}", "-o", f"subformat={subformat}", format=driver)
    found = inspect(path, claimed_format(path.name))
    assert found.format is format
    assert found.capabilities() == inspect(raw).capabilities()
    assert found.root_bytes == inspect(raw).root_bytes > 0
    # a VHD has its size in cylinders, too
    assert 38 * MIB <= found.virtual_size < 39 * MIB


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd", "bzip2"])
def test_a_packed_image_is_to_be_unpacked_first(packer: str, qcow2: Path) -> None:
    subprocess.run([packer, "-k", "-q", qcow2], check=True)
    (packed,) = qcow2.parent.glob("image.qcow2.*")
    assert "Unpack it first" in why(packed)


def test_a_web_page_is_no_image(tmp_path: Path) -> None:
    page = tmp_path / "image.qcow2"
    page.write_text("\n<!DOCTYPE html><title>Please log in</title>" + " " * 2000)
    assert "web page" in why(page)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"root:x:0:0:root:/root:/bin/bash\n" * 100])
def test_what_is_no_disk_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "image.img").write_bytes(content)
    assert "no disk" in why(tmp_path / "image.img")


def test_an_iso_file_is_refused_though_it_starts_like_a_disk(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "install").touch()
    run("xorriso", "-as", "mkisofs", "-o", tmp_path / "cd.img", tmp_path / "tree")
    patch(tmp_path / "cd.img", 510, "2s", b"\x55\xaa")
    assert "ISO" in why(tmp_path / "cd.img")


def test_a_qcow2_that_is_called_raw_is_refused(qcow2: Path) -> None:
    assert "is called a RAW image, and is a QCOW2" in why(qcow2, Format.RAW)


def test_a_raw_image_that_is_called_qcow2_is_refused(raw: Path) -> None:
    assert "is called a QCOW2 image, and is a RAW" in why(raw, Format.QCOW2)


def test_the_end_of_a_name_is_a_claim() -> None:
    assert claimed_format("debian-12.qcow2") is Format.QCOW2
    assert claimed_format("DISK.RAW") is Format.RAW
    assert claimed_format("noble-server-cloudimg-amd64.img") is None


def test_a_disk_that_is_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "qcow2", tmp_path / "huge.qcow2", "1P")
    assert "The disk inside has 1 PiB, and 512 GiB is the limit" in why(tmp_path / "huge.qcow2")


def test_a_file_that_is_larger_than_the_limit_is_refused(qcow2: Path) -> None:
    assert "100 KiB is the limit" in why(qcow2, limits=Limits(file_size=100 * 1024))


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_half_a_qcow2_is_refused(part: float, qcow2: Path) -> None:
    content = qcow2.read_bytes()
    qcow2.write_bytes(content[: int(len(content) * part)])
    assert "checksum" in why(qcow2)


@pytest.mark.parametrize("missing", [1, MIB])
def test_a_raw_image_that_ends_early_is_refused(missing: int, raw: Path) -> None:
    with raw.open("r+b") as file:
        file.truncate(raw.stat().st_size - missing)
    assert "checksum" in why(raw)


@pytest.mark.parametrize(
    ("offset", "kind", "value"),
    [
        (4, "I", 4),  # version
        (20, "I", 60),  # cluster bits
        (24, "Q", 12345),  # size
        (72, "Q", 1),  # dirty
        (72, "Q", 2),  # corrupt
        (72, "Q", 1 << 40),  # a feature of the future
        (100, "I", 8),  # header length
        (100, "I", 2**31),
        (36, "I", 2**31 - 1),  # entries of the L1 table
        (40, "Q", 2**62),  # where it is
        (48, "Q", 2**62),  # where the reference counts are
    ],
)
def test_a_header_that_lies_is_refused(offset: int, kind: str, value: int, qcow2: Path) -> None:
    patch(qcow2, offset, kind, value)
    assert why(qcow2)


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"QFI\xfb\0\0\0\3")
    assert "ends within its header" in why(tmp_path / "image")


def test_a_header_extension_of_impossible_length_is_refused(qcow2: Path) -> None:
    patch(qcow2, 104 + 8, "II", 0x6803F857, 2**32 - 1)
    assert "longer than the header" in why(qcow2)


def test_looking_stops_when_it_takes_too_much_memory(qcow2: Path) -> None:
    assert "more memory or time" in why(qcow2, limits=Limits(memory=10 * MIB))


def test_looking_stops_when_it_takes_too_long(qcow2: Path) -> None:
    assert "far too long" in why(qcow2, limits=Limits(seconds=0))


@pytest.mark.parametrize(
    "name", ["with space.qcow2", "a,b,,c.qcow2", "nbd:localhost:1.qcow2", "100%.qcow2", "-x.qcow2"]
)
def test_a_name_is_only_a_name(name: str, qcow2: Path) -> None:
    strange = qcow2.rename(qcow2.parent / name)
    found = inspect(strange).root
    assert found is not None


def test_the_types_of_root_include_this_one(tmp_path: Path) -> None:
    small = make_filesystem(tmp_path / "small", label="x", size=8 * MIB)
    large = make_filesystem(tmp_path / "large", label="root", size=64 * MIB)
    found = inspect(make_raw(tmp_path / "image.raw", (LINUX, large), (ROOT_X86_64, small))).root
    assert found is not None
    assert (found.partition, found.found_by) == (2, "GPT type")
