"""What every recipe needs: host tools named when missing, content keys, and building a thing once."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Progress = Callable[[str], None]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class BuildFailed(Exception):
    """A build that cannot go on; the message says what to do next."""


def cache_folder() -> Path:
    """Where built things stay: `landfall` in the user's cache folder, outside any clone."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "landfall"


def content_key(files: Iterable[Path], root: Path) -> str:
    """Sixteen hex digits that change when any of the files changes its name, its bytes or its executable bit."""
    digest = hashlib.sha256()
    for file in sorted(files):
        data = file.read_bytes()
        executable = "x" if file.stat().st_mode & 0o100 else "-"
        digest.update(f"{file.relative_to(root)}\0{executable}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()[:16]


def recipe_files(folder: Path) -> list[Path]:
    """The files of a recipe's folder that make up its content: no byte code, no editor leftovers."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(("~", ".pyc"))
    )


def write_tree_tar(path: Path, folders: Mapping[str, Path], files: Mapping[str, Path]) -> None:
    """A tar of our own files for a new root: the folders' contents and single files, each under the name given.

    Everything belongs to root whoever builds; of the mode only 'executable' is kept, as in git.
    """
    placed = dict(files)
    for name, folder in folders.items():
        placed |= {str(Path(name) / file.relative_to(folder)): file for file in recipe_files(folder)}
    with tarfile.open(path, "w") as tar:
        for name, file in sorted(placed.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = file.stat().st_size, 0o755 if file.stat().st_mode & 0o100 else 0o644
            tar.addfile(info, io.BytesIO(file.read_bytes()))


def require(tools: Mapping[str, str], keyring: Path = KEYRING) -> None:
    """Nothing, when this host has every tool (command -> Debian package); else BuildFailed with the apt command."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = {package: command for command, package in tools.items() if not shutil.which(command, path=search)}
    if not keyring.exists():
        # Ubuntu does not bring Debian's keys, and without them mmdebstrap refuses every Debian package
        missing["debian-archive-keyring"] = str(keyring)
    if missing:
        packages = " ".join(sorted(missing))
        what = ", ".join(sorted(missing.values()))
        raise BuildFailed(f"This host lacks {what}. Install it with: sudo apt-get install -y {packages}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The lock file at `path`, held exclusively; a second builder waits here until the first is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build_once(target: Path, make: Callable[[Path], Path], progress: Progress) -> Path:
    """`target`, made by `make(scratch) -> finished path` if it was not there; never half of it, never twice at once."""
    if target.exists():
        return target
    with locked(target.parent / f".{target.name}.lock"):
        if target.exists():
            progress(f"found {target}")
            return target
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            make(Path(scratch)).rename(target)
    return target


def run(argv: list[str], progress: Progress, stdin: Path | None = None) -> None:
    """Runs a build tool at low priority, each line it prints handed to `progress`; BuildFailed with its last lines."""
    source = stdin.open("rb") if stdin else subprocess.DEVNULL
    environment = os.environ | {"LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    last: list[str] = []
    process = subprocess.Popen(
        ["nice", *argv], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        progress(line.rstrip())
        last = [*last[-14:], line.rstrip()]
    if process.wait() != 0:
        raise BuildFailed("\n".join([f"{argv[0]} ended with status {process.returncode}:", *last]))
