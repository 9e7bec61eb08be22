"""What may not lie in a root file system, because nobody looks for it there, and it gives somebody else's rights away.

Tarballs are judged by their headers, disks by the tree in them: `python3 strays.py ROOT`, where the image is open. That
is another machine than ours, so this needs Python alone, and is sent there as it is.
"""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROGRAMS: Final = (
    "bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/", "opt/", "usr/bin/", "usr/sbin/", "usr/lib/", "usr/lib32/",
    "usr/lib64/", "usr/libx32/", "usr/libexec/", "usr/games/", "usr/local/bin/", "usr/local/sbin/", "usr/local/lib/",
    "usr/local/libexec/",
)  # fmt: skip
"""Where distributions put programs; setuid and setgid ones, and those with capabilities, lie nowhere else."""

CAPABILITY: Final = "security.capability"


def device_at(path: str) -> str:
    """Why a device node may not be at this path in the tree; nothing where it may."""
    return "" if path.startswith("dev/") else "is a device node outside of /dev"


def program_at(path: str, mode: int, attributes: list[str]) -> str:
    """Why a file of this mode, with extended attributes of these names, may not be there; nothing where it may."""
    if path.startswith(PROGRAMS):
        return ""
    if mode & 0o6000:
        what = "setuid" if mode & 0o4000 else "setgid"
        return f"is a {what} program where no distribution has one"
    return "has capabilities where no distribution has a program" if CAPABILITY in attributes else ""


def strays(root: str) -> Iterator[tuple[str, str]]:
    """Each path that may not be in the tree below `root`, with the reason. OSError where it cannot be read."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(Path(root) / folder) as entries:
            for entry in entries:
                path = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                elif not entry.is_symlink() and (why := _why(path, entry)):
                    yield path, why


def _why(path: str, entry: "os.DirEntry[str]") -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISREG(mode):
        # asked only where the answer counts: most files of an image are programs'
        attributes = [] if path.startswith(PROGRAMS) else os.listxattr(entry.path, follow_symlinks=False)
        return program_at(path, mode, attributes)
    return device_at(path) if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else ""


def main(root: str) -> int:
    """0 when nothing is there that may not be; 1 says what is, and what to do, as `deploy.errors` reads it."""
    for path, why in strays(root):
        print(f"image not taken: The image's {path[:100]!a} {why}. | Take it out of the image, then try again.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
