"""An OVF that lies in a folder with its disks, made into the OVA that they are the parts of."""

import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from . import ovf
from .ova import is_plain_name
from .refusal import ImageRefused
from .store import is_url

_BESIDE: Final = "Put all the files of the export into one folder, and import the OVF from there."


def is_ovf(source: str) -> bool:
    """Whether the source is a description of a machine on this host, without its disks."""
    return not is_url(source) and source.lower().endswith(".ovf")


@contextmanager
def packed(description: Path, folder: Path) -> Iterator[Path]:
    """An OVA in `folder` of the OVF, of its manifest if it has one, and of the disks that it names; gone afterwards.

    The same files make the same bytes. ImageRefused when a disk is not beside the OVF, or is no plain file.
    """
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=folder) as scratch:
        path = Path(scratch) / f"{description.stem}.ova"
        with tarfile.open(path, "w") as ova:
            for name in _parts(description):
                with _plain(description.parent / name) as file:
                    ova.addfile(_member(name, file), file)
        yield path


def _parts(description: Path) -> list[str]:
    """The names of the files that belong together, the description first."""
    with _plain(description) as file:
        disk = ovf.boot_disk(file.read(ovf.MOST_BYTES + 1))
    manifest = description.with_suffix(".mf").name
    manifests = [manifest] if (description.parent / manifest).exists() else []
    names = [description.name, *manifests, disk.file, *disk.others]
    for name in names:
        if not is_plain_name(name):
            raise ImageRefused(f"The OVF's disk {name[:100]!r} would lie outside of its folder.", _BESIDE)
    return list(dict.fromkeys(names))


def _plain(path: Path) -> IO[bytes]:
    """The file, opened; a link would lead to what the export does not hold."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise ImageRefused(f"The OVF's {path.name[:100]!r} cannot be read: {error.strerror}.", _BESIDE) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ImageRefused(f"The OVF's {path.name[:100]!r} is no plain file.", _BESIDE)
    return file


def _member(name: str, file: IO[bytes]) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = os.fstat(file.fileno()).st_size
    return member
