"""The program with which a rescue system looks at a customer's own image, before any other program opens it.

    python3 -m deploy.looking FILE FORMAT ROOM OPTIONS

It judges as the catalogue does, by the same files, and leaves in the file OPTIONS how QEMU opens the disk: that of an
OVA where it lies. A tarball must fit into ROOM bytes; a disk is mounted to see that.
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from images import inspection, tree
from images.formats import Format
from images.inspect import inspect
from images.refusal import ImageRefused

# Nobody else waits for this machine, and an emulated one is slow; the step has a limit of its own.
LIMITS: Final = replace(inspection.LIMITS, cpu_seconds=300, seconds=600, rate=inspection.MB)


def main(path: str, format: str, room: str, options: str) -> int:
    """0 when the image may be opened; 1 says why not, and what to do, as `deploy.errors` reads it."""
    try:
        found = inspect(Path(path), Format(format), LIMITS)
        if found.tree_bytes > int(room):
            raise ImageRefused(
                f"Its files take {found.tree_bytes >> 20} MiB, and the root file system of the plan has "
                f"{int(room) >> 20} MiB.",
                "Choose a smaller image, or a larger disk.",
            )
    except ImageRefused as refused:
        print("image not taken:", " ".join(f"{refused.why} | {refused.fix}".split()))
        return 1
    if found.format is not Format.TAR:
        disk = asdict(found.disk) if found.disk else None
        Path(options).write_text(tree.options(found.format, path, disk))
    print(f"looked at: {found.format.label}, {found.virtual_size >> 20} MiB inside")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
