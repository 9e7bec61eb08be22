"""Tarballs of a root file system: what is taken, and what hostile ones are refused for."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from images import look as looking
from images.formats import Format
from images.inspect import claimed_format, inspect
from images.inspection import Inspection, Limits
from images.refusal import ImageRefused
from images.rootfs import read_os_release
from tests.images.disks import MIB, run

OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'


def make_tree(folder: Path) -> Path:
    """A root file system in small, with what real ones have: links, hard links, setuid, a FIFO."""
    tree = folder / "tree"
    for name in ("etc", "usr/bin", "usr/lib", "dev", "home/alice", "run"):
        (tree / name).mkdir(parents=True)
    (tree / "usr/lib/os-release").write_text(OS_RELEASE)
    (tree / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (tree / "usr/bin/sudo").write_bytes(b"x" * MIB)
    (tree / "usr/bin/sudo").chmod(0o4755)
    (tree / "usr/bin/sudoedit").hardlink_to(tree / "usr/bin/sudo")
    (tree / f"home/alice/{'long' * 50}").write_bytes(b"y" * 5000)
    return tree


def entry(name: str, type: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = type, link, mode
    return member


def tarball(path: Path, *members: tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> Path:
    """A tarball with an os-release and these members; the regular ones have as many zeros as they say."""
    with tarfile.open(path, "w", format=format) as tar:
        release = entry("etc/os-release")
        release.size = len(OS_RELEASE)
        tar.addfile(release, io.BytesIO(OS_RELEASE.encode()))
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return path


def look(path: Path, **limits: int) -> Inspection:
    return looking.look(path, None, Limits(**limits))


def why(path: Path, **limits: int) -> str:
    with pytest.raises(ImageRefused) as refused:
        look(path, **limits)
    return str(refused.value)


@pytest.mark.parametrize(
    ("suffix", "option"), [("tar", "--no-auto-compress"), ("tar.gz", "-z"), ("tar.xz", "-J"), ("tar.zst", "--zstd")]
)
def test_a_tarball_is_taken_with_what_it_says_of_itself(suffix: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / f"debian-12.{suffix}"
    run("tar", option, "-cf", path, "-C", make_tree(tmp_path), ".")
    found = inspect(path, claimed_format(path.name))
    assert found.format is Format.TAR
    assert (found.system, found.likely_flavour) == ("Debian GNU/Linux 12 (bookworm)", "debian-12")
    assert MIB < found.root_bytes == found.virtual_size < 2 * MIB
    assert found.capabilities() == {"system": "Debian GNU/Linux 12 (bookworm)"}


@pytest.mark.parametrize("format", ["pax", "gnu", "ustar", "v7"])
def test_every_kind_of_tar_reads_the_same_or_is_refused(format: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    if format in ("ustar", "v7"):
        (tree / f"home/alice/{'long' * 50}").unlink()
    run("tar", f"--format={format}", "-cf", tmp_path / "image.tar", "-C", tree, ".")
    if format == "v7":
        assert "no disk" in why(tmp_path / "image.tar")
    else:
        assert look(tmp_path / "image.tar").likely_flavour == "debian-12"


def test_sparse_files_count_with_the_size_that_they_have(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    with (tree / "home/alice/log").open("wb") as file:
        file.seek(8 * MIB)
        file.write(b"x")
    for format in ("pax", "gnu"):
        run("tar", "--sparse", f"--format={format}", "-cf", tmp_path / "image.tar", "-C", tree, ".")
        assert look(tmp_path / "image.tar").root_bytes > 9 * MIB


def test_extended_attributes_of_programs_are_taken(tmp_path: Path) -> None:
    ping = entry("usr/bin/ping", mode=0o755)
    ping.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
    assert look(tarball(tmp_path / "image.tar", ping)).format is Format.TAR


@pytest.mark.parametrize("name", ["/etc/passwd", "../etc/passwd", "usr/../../etc/passwd", ".."])
def test_a_name_that_leaves_the_tree_is_refused(name: str, tmp_path: Path) -> None:
    message = why(tarball(tmp_path / "image.tar", entry(name)))
    assert "absolute name" in message or "climbs out" in message


@pytest.mark.parametrize("type", [tarfile.BLKTYPE, tarfile.CHRTYPE])
def test_device_nodes_lie_in_dev_and_nowhere_else(type: bytes, tmp_path: Path) -> None:
    assert look(tarball(tmp_path / "good.tar", entry("./dev/null", type)))
    for name in ("home/alice/sda", "dev2/sda", "etc/dev/sda", "dev"):
        assert "device node outside of /dev" in why(tarball(tmp_path / "image.tar", entry(name, type)))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711])
def test_setuid_programs_lie_where_distributions_have_them(mode: int, tmp_path: Path) -> None:
    for name in ("usr/bin/su", "bin/su", "usr/libexec/x/y", "opt/x/y", "usr/lib/dbus-1.0/helper"):
        assert look(tarball(tmp_path / "image.tar", entry(name, mode=mode)))
    for name in ("home/alice/su", "tmp/su", "usr/share/su", "var/lib/su", "su", "etc/su", "usr/binx/su"):
        assert "where no distribution has one" in why(tarball(tmp_path / "image.tar", entry(name, mode=mode)))


def test_a_folder_may_hand_on_its_group(tmp_path: Path) -> None:
    assert look(tarball(tmp_path / "image.tar", entry("var/log/journal", tarfile.DIRTYPE, mode=0o2755)))


def test_a_program_with_capabilities_in_a_home_is_refused(tmp_path: Path) -> None:
    evil = entry("home/alice/x", mode=0o755)
    evil.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02"}
    assert "has capabilities" in why(tarball(tmp_path / "image.tar", evil))


@pytest.mark.parametrize("target", ["../../etc/shadow", "../..", "/../etc", "../../../x/../y", ""])
def test_a_link_that_leaves_the_tree_is_refused(target: str, tmp_path: Path) -> None:
    path = tarball(tmp_path / "image.tar", entry("etc/x", tarfile.SYMTYPE, target), format=tarfile.USTAR_FORMAT)
    assert "leaves the tree" in why(path)


@pytest.mark.parametrize("target", ["../etc", "/etc/x", "usr/bin/gone", "etc", "x/../../etc/os-release"])
def test_a_hard_link_to_what_is_not_in_the_tree_is_refused(target: str, tmp_path: Path) -> None:
    assert "hard link to what is not" in why(tarball(tmp_path / "image.tar", entry("etc/x", tarfile.LNKTYPE, target)))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    link = entry("usr/lib/out", tarfile.SYMTYPE, "/root")
    assert "would be written through" in why(tarball(tmp_path / "image.tar", link, entry("usr/lib/out/.ssh/keys")))
    assert "would be written through" in why(tarball(tmp_path / "other.tar", entry("etc/os-release/x")))


def test_a_link_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    path = tarball(tmp_path / "image.tar", entry("root/x"), entry("root", tarfile.SYMTYPE, "/etc"))
    assert "is in it twice" in why(path)


def test_a_bomb_is_refused_before_it_has_gone_off(tmp_path: Path) -> None:
    big = entry("home/alice/zeros")
    big.size = 64 * MIB
    path = tarball(tmp_path / "image.tar", big)
    run("xz", "-0", path)
    packed = path.with_suffix(".tar.xz")
    assert look(packed)
    assert "more than 20 times as large" in why(packed, ratio=20, free=MIB)
    assert "more than 32 MiB, which is the limit" in why(packed, unpacked=32 * MIB)


def test_a_bomb_behind_the_end_of_the_tar_is_counted_too(tmp_path: Path) -> None:
    path = tarball(tmp_path / "image.tar")
    with path.open("ab") as file:
        file.truncate(64 * MIB)
    run("gzip", path)
    assert "times as large" in why(path.with_suffix(".tar.gz"), ratio=20, free=MIB)


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd"])
@pytest.mark.parametrize("part", [0.5, 0.99])
def test_half_a_tarball_is_refused(packer: str, part: float, tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    (tree / "etc/random").write_bytes(os.urandom(100_000))
    run("tar", "-cf", tmp_path / "image.tar", "-C", tree, ".")
    packed = subprocess.run([packer, "-c", tmp_path / "image.tar"], check=True, capture_output=True).stdout
    (tmp_path / "half").write_bytes(packed[: int(len(packed) * part)])
    assert "checksum" in why(tmp_path / "half")


def test_half_a_plain_tar_is_refused(tmp_path: Path) -> None:
    path = tarball(tmp_path / "image.tar", *(entry(f"etc/{number}") for number in range(30)))
    content = path.read_bytes()
    path.write_bytes(content[: 20 * 512])
    assert "ends early" in why(path)
    path.write_bytes(content[: 20 * 512] + b"\x01" * 512 + content[21 * 512 :])
    assert "damaged" in why(path)


def test_a_tarball_without_a_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (make_tree(tmp_path / "sub") / "usr/bin/sudo").chmod(0o755)
    run("tar", "-cf", tmp_path / "image.tar", "-C", tmp_path / "sub", "tree")
    assert "no root file system" in why(tmp_path / "image.tar")


def test_a_pax_header_that_lies_is_refused(tmp_path: Path) -> None:
    liar = entry("etc/x")
    liar.pax_headers = {"size": "99999999999999999"}
    assert "ends early" in why(tarball(tmp_path / "image.tar", liar))


def test_os_release_is_read_as_the_shell_would() -> None:
    text = b"# c\nNAME='A B'\nID=x\nBAD='\nTWO=a b\n=\nX-Y=1\nPRETTY_NAME=\"\x1b[2J\"\n"
    assert read_os_release(text) == {"NAME": "A B", "ID": "x"}
