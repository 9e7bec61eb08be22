"""VMDK, VHD and VHDX files that lean on other files, or lie; and what the process that looks at them may do."""

import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from images import inspect as inspecting
from images import look as looking
from images.inspection import Limits
from images.refusal import ImageRefused
from images.vmdk import read_header
from tests.images.disks import MIB, convert, run

ROOT = Path(__file__).resolve().parents[2]


def why(path: Path) -> str:
    with pytest.raises(ImageRefused) as refused:
        looking.look(path, None, Limits())
    return str(refused.value)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good file of each kind, by its name. Not to be changed."""
    folder = tmp_path_factory.mktemp("originals")
    raw = folder / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(8 * MIB)
    run("sfdisk", "--quiet", raw, stdin="label: gpt\nstart=2048\n")
    for name, driver, subformat in (
        ("sparse.vmdk", "vmdk", "monolithicSparse"), ("stream.vmdk", "vmdk", "streamOptimized"),
        ("dynamic.vhd", "vpc", "dynamic"), ("fixed.vhd", "vpc", "fixed"), ("dynamic.vhdx", "vhdx", "dynamic"),
    ):  # fmt: skip
        convert(raw, folder / name, "-o", f"subformat={subformat}", format=driver)
    return folder


def copy(originals: Path, name: str, to: Path) -> Path:
    return Path(shutil.copy(originals / name, to))


def change(path: Path, offset: int, content: bytes) -> Path:
    """Writes into the file; from its end where the offset is negative."""
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        file.write(content)
    return path


def rewrite(path: Path, old: bytes, new: bytes) -> Path:
    """The file with other words in its description, which stays as long as it was."""
    content = path.read_bytes()
    assert old in content
    start = content.index(b"# Disk DescriptorFile")
    end = content.index(b"\0", start)
    text = content[start:end].replace(old, new)
    path.write_bytes(content[:start] + text + content[start + len(text) :])
    return path


def test_the_good_ones_are_taken(originals: Path) -> None:
    for path in originals.iterdir():
        assert looking.look(path, None, Limits()).table == "gpt"


# --- VMDK


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_vmdk_that_names_its_data_is_refused(subformat: str, originals: Path, tmp_path: Path) -> None:
    path = convert(originals / "disk.raw", tmp_path / "image.vmdk", "-o", f"subformat={subformat}", format="vmdk")
    assert "whose data is in other files 'image-" in why(path)


def test_a_description_that_names_a_file_of_ours_is_refused(tmp_path: Path) -> None:
    text = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    (tmp_path / "image.vmdk").write_text(text + 'RW 8 FLAT "/etc/shadow" 0\n')
    assert "/etc/shadow" in why(tmp_path / "image.vmdk")


def test_a_vmdk_without_a_capacity_is_refused_before_its_description_is_followed(
    originals: Path, tmp_path: Path
) -> None:
    path = copy(originals, "sparse.vmdk", tmp_path)
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    change(path, 512, text + f'RW 8192 FLAT "{originals / "disk.raw"}" 0\n'.encode() + b"\0")
    change(path, 12, struct.pack("<Q", 0))
    # this is what it is about: by itself QEMU opens the other file
    assert str(originals / "disk.raw") in run("qemu-img", "info", path)
    assert "no data of its own" in why(path)


@pytest.mark.parametrize("name", ["sparse.vmdk", "stream.vmdk"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"parentCID=ffffffff", b"parentCID=12345678", "its parent"),
        (b"# Extent", b'parentFileNameHint="/etc/shadow"\n#', "its parent"),
        (b".vmdk\"", b'.vmdk"\nRW 8 FLAT "/etc/shadow" 0', "2 pieces"),
        (b"SPARSE", b"FLAT  ", "in another file"),
        (b'SPARSE "', b'SPARSE "/', "in another file"),
        (b"createType", b"createtype=\"x\"\ncreateType", "says things twice"),
    ],
)  # fmt: skip
def test_a_vmdk_that_leans_on_another_file_is_refused(
    name: str, old: bytes, new: bytes, words: str, originals: Path, tmp_path: Path
) -> None:
    path = rewrite(copy(originals, name, tmp_path), old, new)
    assert words in why(path)


def test_a_real_difference_to_a_parent_is_refused(originals: Path, tmp_path: Path) -> None:
    parent = originals / "sparse.vmdk"
    run("qemu-img", "create", "-f", "vmdk", "-F", "vmdk", "-b", parent, tmp_path / "child.vmdk")
    assert "its parent" in why(tmp_path / "child.vmdk")


def test_the_name_of_a_parent_behind_the_end_of_the_description_is_seen(originals: Path, tmp_path: Path) -> None:
    path = change(copy(originals, "sparse.vmdk", tmp_path), 512 + 19 * 512, b'parentFileNameHint="/etc/shadow"')
    change(path, 36, struct.pack("<Q", 2))
    assert "its parent" in why(path)


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (4, struct.pack("<I", 9)),  # version
        (12, struct.pack("<Q", 0)),  # no capacity: the description would say where the disk is
        (12, struct.pack("<Q", 2**40)),  # 512 TiB
        (12, struct.pack("<Q", 2**63)),
        (20, struct.pack("<Q", 0)),  # grains
        (20, struct.pack("<Q", 3)),
        (28, struct.pack("<Q", 0)),  # where the description is
        (28, struct.pack("<Q", 2**62)),
        (36, struct.pack("<Q", 2**40)),  # how long it is
        (56, struct.pack("<Q", 2**40)),  # where the directory is
        (56, struct.pack("<Q", 2**64 - 1)),  # at the end, where there is none
    ],
)
def test_a_vmdk_whose_header_lies_is_refused(offset: int, content: bytes, originals: Path, tmp_path: Path) -> None:
    assert why(change(copy(originals, "sparse.vmdk", tmp_path), offset, content))


def with_footer(originals: Path, to: Path) -> Path:
    """A stream as VMware writes it, in one go: where its directory is stands in a second header at its end."""
    content = (originals / "stream.vmdk").read_bytes()
    head = content[:512]
    first = head[:56] + struct.pack("<Q", 2**64 - 1) + head[64:]
    footer = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + head + bytes(512)
    (to / "footer.vmdk").write_bytes(first + content[512:-512] + footer)
    return to / "footer.vmdk"


def test_a_stream_with_its_header_at_the_end_is_taken(originals: Path, tmp_path: Path) -> None:
    assert looking.look(with_footer(originals, tmp_path), None, Limits()).table == "gpt"


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (12, struct.pack("<Q", 0)),  # no capacity: the description would say where the disk is
        (12, struct.pack("<Q", 99)),
        (28, struct.pack("<Q", 64)),  # another description
        (56, struct.pack("<Q", 2**40)),  # where the directory is
        (0, b"X"),
    ],
)
def test_a_stream_whose_end_says_something_else_is_refused(
    offset: int, content: bytes, originals: Path, tmp_path: Path
) -> None:
    assert "VMDK" in why(change(with_footer(originals, tmp_path), -1024 + offset, content))


def test_a_header_is_read_without_reading_the_disk(originals: Path) -> None:
    content = (originals / "sparse.vmdk").read_bytes()
    header = read_header(lambda offset, length: content[offset : offset + length][: 64 * 1024], len(content))
    assert (header.kind, header.virtual_size) == ("monolithicSparse", 8 * MIB)


# --- VHD and VHDX


def test_a_vhd_that_is_a_difference_to_its_parent_is_refused(originals: Path, tmp_path: Path) -> None:
    path = change(copy(originals, "dynamic.vhd", tmp_path), -512 + 60, struct.pack(">I", 4))
    assert "its parent" in why(path)


def test_a_vhd_that_names_a_parent_is_refused_whatever_kind_it_says_it_is(originals: Path, tmp_path: Path) -> None:
    path = copy(originals, "dynamic.vhd", tmp_path)
    header = bytearray(path.read_bytes()[512 : 512 + 1024])
    header[64:84] = "/etc/shadow".encode("utf-16-be")[:20]
    header[36:40] = struct.pack(">I", ~(sum(header) - sum(header[36:40])) & 0xFFFFFFFF)
    assert "its parent" in why(change(path, 512, bytes(header)))


@pytest.mark.parametrize("name", ["dynamic.vhd", "fixed.vhd"])
@pytest.mark.parametrize("offset", [-512 + 48, -512 + 60, -512 + 64, -512 + 16])
def test_a_vhd_whose_footer_was_changed_is_refused(name: str, offset: int, originals: Path, tmp_path: Path) -> None:
    assert why(change(copy(originals, name, tmp_path), offset, b"\x77"))


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (512, b"x"),  # no header
        (512 + 16, struct.pack(">Q", 2**40)),  # where the table is
        (512 + 28, struct.pack(">I", 2**31)),  # its length
        (512 + 32, struct.pack(">I", 3)),  # the size of a block
    ],
)
def test_a_dynamic_vhd_whose_header_lies_is_refused(
    offset: int, content: bytes, originals: Path, tmp_path: Path
) -> None:
    path = change(copy(originals, "dynamic.vhd", tmp_path), offset, content)
    header = bytearray(path.read_bytes()[512 : 512 + 1024])
    right = struct.pack(">I", ~(sum(header) - sum(header[36:40])) & 0xFFFFFFFF)
    assert "damaged" in why(change(path, 512 + 36, right))


def test_half_a_vhd_is_refused(originals: Path, tmp_path: Path) -> None:
    for name in ("dynamic.vhd", "fixed.vhd", "dynamic.vhdx"):
        path = copy(originals, name, tmp_path)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size * 6 // 10)
        assert "checksum" in why(path), name


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_half_a_vmdk_is_refused(subformat: str, originals: Path, tmp_path: Path) -> None:
    raw = change(copy(originals, "disk.raw", tmp_path), 2 * MIB, os.urandom(2 * MIB))
    path = convert(raw, tmp_path / "image.vmdk", "-o", f"subformat={subformat}", format="vmdk")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 6 // 10)
    assert "checksum" in why(path)


def metadata_at(path: Path) -> int:
    """Where the region of metadata begins in a VHDX."""
    table = path.read_bytes()[192 * 1024 : 256 * 1024]
    entry = table.index(bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e"))
    return int.from_bytes(table[entry + 16 : entry + 24], "little")


def test_a_vhdx_that_is_a_difference_to_its_parent_is_refused(originals: Path, tmp_path: Path) -> None:
    path = copy(originals, "dynamic.vhdx", tmp_path)
    content, at = path.read_bytes(), metadata_at(path)
    parameters = content.index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"), at)
    flags = at + int.from_bytes(content[parameters + 16 : parameters + 20], "little") + 4
    assert "its parent" in why(change(path, flags, b"\x02"))


def test_a_vhdx_with_the_locator_of_a_parent_is_refused(originals: Path, tmp_path: Path) -> None:
    path = copy(originals, "dynamic.vhdx", tmp_path)
    at = metadata_at(path)
    (count,) = struct.unpack_from("<H", path.read_bytes(), at + 10)
    change(path, at + 10, struct.pack("<H", count + 1))
    locator = bytes.fromhex("2d5fd3a80bb34d45abf7d3d84834ab0c") + struct.pack("<III", 65536, 8, 0) + bytes(4)
    assert "its parent" in why(change(path, at + 32 + 32 * count, locator))


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (192 * 1024, b"x"),  # no table of regions
        (192 * 1024 + 8, struct.pack("<I", 5000)),  # its entries
        (256 * 1024 + 16 + 16, struct.pack("<Q", 2**50)),  # the second table: where a region is
        (256 * 1024 + 16 + 16, struct.pack("<Q", 12345)),
    ],
)
def test_a_vhdx_whose_tables_lie_is_refused(offset: int, content: bytes, originals: Path, tmp_path: Path) -> None:
    assert "damaged" in why(change(copy(originals, "dynamic.vhdx", tmp_path), offset, content))


@pytest.mark.parametrize(("driver", "size"), [("qcow2", "100T"), ("vhdx", "60T"), ("vpc", "2000G"), ("vmdk", "1T")])
def test_a_disk_of_an_absurd_size_is_refused(driver: str, size: str, tmp_path: Path) -> None:
    run("qemu-img", "create", "-q", "-f", driver, tmp_path / "huge", size)
    assert "512 GiB is the limit" in why(tmp_path / "huge")


# --- the process that looks


def child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_who_looks_has_no_network() -> None:
    if child("from images.look import leave_network; assert leave_network()").returncode:
        pytest.skip("this kernel gives nobody a network of their own")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        assert child(f"import socket; {connect}").returncode == 0
        look = f"import images.look as it, socket; it.look = lambda *_: {connect}; it.main('/x', '', '{{}}')"
        done = child(look)
    assert done.returncode != 0
    assert "OSError" in done.stderr or "ConnectionRefused" in done.stderr


def test_who_looks_does_not_know_our_keys(originals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDFALL_SEAL_KEYS", "hunter2")
    seen: list[dict[str, str]] = []
    started = subprocess.run

    def run_and_tell(*arguments, **options):  # type: ignore[no-untyped-def]
        seen.append(options["env"])
        return started(*arguments, **options)

    monkeypatch.setattr(inspecting.subprocess, "run", run_and_tell)
    inspecting.inspect(originals / "disk.raw")
    assert set(seen[0]) == {"PATH", "LANG", "PYTHONDONTWRITEBYTECODE"}


def test_who_looks_imports_neither_django_nor_settings() -> None:
    done = child(
        "import images.look, sys; print([name for name in sys.modules if name.startswith(('django', 'config'))])"
    )
    assert done.stdout.strip() == "[]"
