"""What may not lie in the tree of a disk: looked for by the program itself, in trees with real nodes and modes."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from images import strays
from tests.images.disks import CAPABILITY

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and capabilities are root's to make")


def system(tree: Path) -> Path:
    """A tree with what every system has: setuid programs and device nodes where they belong."""
    for folder in ("dev", "etc", "home/anna", "usr/bin", "usr/share"):
        (tree / folder).mkdir(parents=True)
    for name, mode in (("usr/bin/sudo", 0o4755), ("usr/bin/wall", 0o2755), ("etc/passwd", 0o644)):
        (tree / name).touch()
        (tree / name).chmod(mode)
    (tree / "home/anna").chmod(0o2775)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "home/anna/root").symlink_to("/")
    return tree


def judged(tree: Path) -> tuple[int, str]:
    """Status and words of the program, as it is run where an image is open."""
    done = subprocess.run([sys.executable, "-I", strays.__file__, tree], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@needs_root
def test_a_usual_system_is_taken(tmp_path: Path) -> None:
    tree = system(tmp_path)
    os.mknod(tree / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.setxattr(tree / "usr/bin/wall", "security.capability", CAPABILITY)
    assert judged(tree) == (0, "")


def setuid(path: Path) -> None:
    path.touch()
    path.chmod(0o4755)


def setgid(path: Path) -> None:
    path.touch()
    path.chmod(0o2755)


def capable(path: Path) -> None:
    path.touch()
    os.setxattr(path, "security.capability", CAPABILITY)


def disk(path: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFBLK, os.makedev(8, 0))


def terminal(path: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(5, 0))


@pytest.mark.parametrize(
    ("make", "name", "why"),
    [
        (setuid, "home/anna/sh", "is a setuid program where no distribution has one"),
        (setgid, "usr/share/sh", "is a setgid program where no distribution has one"),
        pytest.param(capable, "etc/ping", "has capabilities where no distribution has a program", marks=needs_root),
        pytest.param(disk, "home/anna/sda", "is a device node outside of /dev", marks=needs_root),
        pytest.param(terminal, "device", "is a device node outside of /dev", marks=needs_root),
    ],
)
def test_what_gives_rights_away_where_nobody_looks_is_refused_by_its_name(
    make: Callable[[Path], None], name: str, why: str, tmp_path: Path
) -> None:
    make(system(tmp_path) / name)
    refused = f"image not taken: The image's '{name}' {why}. | Take it out of the image, then try again.\n"
    assert judged(tmp_path) == (1, refused)


def test_a_name_cannot_say_something_else_in_the_log(tmp_path: Path) -> None:
    setuid(system(tmp_path) / "home/anna/\nimage not taken: no | \udcff")
    status, said = judged(tmp_path)
    assert (status, said.count("\n")) == (1, 1)
    assert r"'home/anna/\nimage not taken: no | \udcff' is a setuid program" in said


def test_a_tree_that_cannot_be_read_is_not_taken_for_a_good_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, strays.__file__, tmp_path / "none"], capture_output=True, check=False)
    assert done.returncode != 0
