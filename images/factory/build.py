"""Factory images, built once and kept as QCOW2 files in the user's cache."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from rescue.workshop import (
    BuildFailed,
    Progress,
    build_once,
    cache_folder,
    content_key,
    recipe_files,
    require,
    run,
    write_tree_tar,
)

from . import recipe
from .recipe import MIB, RECIPES, Recipe

HERE = Path(__file__).parent


def key(chosen: Recipe) -> str:
    """The content key of an image: its own files, the code that builds it, and what that is called with.

    What is changed of one image's recipe lets nobody build the others anew.
    """
    files = content_key([HERE / "build.py", *recipe_files(chosen.folder)], HERE)
    called_with = recipe.mmdebstrap(chosen, Path("files"), Path("output")), recipe.partition_table()
    return hashlib.sha256(repr((files, chosen, called_with)).encode()).hexdigest()[:16]


def ensure(name: str, progress: Progress) -> Path:
    """The image's QCOW2 file; built if this recipe never was.

    Takes about two minutes and 3 GB of temporary space; BuildFailed says what is missing on the host.
    """
    if name not in RECIPES:
        raise BuildFailed(f"The factory knows no image {name}; it builds: {', '.join(RECIPES)}.")
    chosen = RECIPES[name]
    target = cache_folder() / "images" / f"{name}-{key(chosen)}.qcow2"
    if target.exists():
        return target
    require(recipe.TOOLS)
    return build_once(target, lambda scratch: build(chosen, scratch, progress), progress)


def build(chosen: Recipe, scratch: Path, progress: Progress) -> Path:
    """The finished QCOW2 file, made inside `scratch`."""
    progress(f"{chosen.name}: installing Debian packages")
    extra = scratch / "extra.tar"
    write_tree_tar(extra, {"": chosen.folder / "tree"}, {"landfall-customize": chosen.folder / "customize.sh"})
    run(recipe.mmdebstrap(chosen, extra, scratch), progress)

    progress(f"{chosen.name}: packing")
    raw, finished = scratch / "disk.raw", scratch / "disk.qcow2"
    make_disk(scratch / "root.img", raw)
    run(
        ["qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", str(raw), str(finished)], progress
    )  # fmt: skip
    return finished


def make_disk(root: Path, disk: Path) -> None:
    """`disk`, a sparse raw disk with a GPT whose one partition holds the bytes of `root`."""
    with root.open("rb") as source, disk.open("wb") as target:
        # a MiB before for the table, a MiB behind for its copy
        target.truncate(root.stat().st_size + 2 * MIB)
        target.seek(MIB)
        while block := source.read(MIB):
            if block.strip(b"\0"):
                target.write(block)
            else:
                target.seek(len(block), 1)
    subprocess.run(["sfdisk", "--quiet", str(disk)], input=recipe.partition_table(), text=True, check=True)
