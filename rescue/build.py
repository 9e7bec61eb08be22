"""The rescue system, built once and kept: kernel, one initramfs that holds it all, and the UEFI network boot loader."""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
from pathlib import Path

from . import cpio, recipe
from .workshop import (
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

HERE = Path(__file__).parent


def key() -> str:
    """The content key of the recipe: a changed file is another rescue system."""
    return content_key(recipe_files(HERE), HERE)


def ensure(progress: Progress) -> Path:
    """The folder with `vmlinuz`, `initrd.img`, `snponly.efi` and `manifest.json`; built if this recipe never was.

    Takes about two minutes and 1 GB of temporary space beside the cache; BuildFailed says what is missing on the host.
    """
    target = cache_folder() / "rescue" / key()
    if target.exists():
        return target
    require(recipe.TOOLS)
    return build_once(target, lambda scratch: build(scratch, progress), progress)


def build(scratch: Path, progress: Progress) -> Path:
    """The finished folder, made inside `scratch`."""
    progress("rescue system: unpacking Debian packages")
    extra, root = scratch / "extra.tar", scratch / "root.tar"
    write_tree_tar(
        extra,
        {"": HERE / "tree", "usr/local/lib/landfall/inside": HERE / "inside"},
        {"landfall-customize": HERE / "customize.sh"},
    )
    run(recipe.mmdebstrap(extra, root), progress)

    progress("rescue system: packing")
    squashfs = scratch / "rescue.squashfs"
    pack = ["sqfstar", "-comp", "zstd", "-b", "128K", "-quiet", "-no-progress", str(squashfs)]
    run([*pack, *recipe.NOT_PACKED], progress, stdin=root)
    finished = scratch / "finished"
    finished.mkdir()
    with tarfile.open(root) as tar:
        (finished / "vmlinuz").write_bytes(_only(tar, "boot/vmlinuz-"))
        (finished / "snponly.efi").write_bytes(_only(tar, "usr/lib/ipxe/snponly.efi"))
        with (finished / "initrd.img").open("wb") as output:
            cpio.write(initramfs(tar, squashfs.read_bytes()), output)
    write_manifest(finished)
    return finished


def initramfs(root: tarfile.TarFile, squashfs: bytes) -> list[cpio.Entry]:
    """The first process, the modules it loads, and the whole system as one squashfs: nothing is fetched after this."""
    order = modules_in_order(_text(root, "modules.dep"), recipe.EARLY_MODULES)
    modules = [cpio.file(f"modules/{_plain(path)}", _module(root, path)) for path in order]
    return [
        *(cpio.folder(name) for name in ("bin", "dev", "proc", "modules", "lower", "upper", "new")),
        cpio.character_device("dev/console", 5, 1),
        cpio.file("bin/busybox", _only(root, "usr/bin/busybox"), 0o755),
        cpio.file("init", (HERE / "init.sh").read_bytes(), 0o755),
        cpio.file("modules/order", "\n".join(_plain(path) for path in order).encode()),
        *modules,
        cpio.file("rescue.squashfs", squashfs),
    ]


def modules_in_order(modules_dep: str, wanted: tuple[str, ...]) -> list[str]:
    """The paths (as modules.dep has them) of these modules, each after everything that it depends on."""
    dependencies = {path: rest.split() for path, _, rest in (line.partition(":") for line in modules_dep.splitlines())}
    by_name = {_plain(path).removesuffix(".ko").replace("-", "_"): path for path in dependencies}
    order: list[str] = []
    for name in wanted:
        path = by_name[name]
        # modules.dep lists the nearest dependency first, so the last one must be loaded first
        order += [needed for needed in [*reversed(dependencies[path]), path] if needed not in order]
    return order


def _plain(path: str) -> str:
    return Path(path).name.removesuffix(".xz")


def _module(root: tarfile.TarFile, path: str) -> bytes:
    data = _only(root, "/" + path)
    return lzma.decompress(data) if path.endswith(".xz") else data


def _text(root: tarfile.TarFile, ending: str) -> str:
    return _only(root, "/" + ending).decode()


def _only(root: tarfile.TarFile, part: str) -> bytes:
    """The bytes of the one regular file whose path contains `part`, with a name of its own or as its end."""
    found = [m for m in root.getmembers() if m.isfile() and (m.name.endswith(part) or f"./{part}" in m.name)]
    if len(found) != 1:
        raise BuildFailed(f"expected one {part} in the rescue system, found {[m.name for m in found]}")
    handle = root.extractfile(found[0])
    assert handle is not None
    return handle.read()


def write_manifest(folder: Path) -> None:
    """`manifest.json` beside the files it describes."""
    files = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "size": file.stat().st_size}
        for file in sorted(folder.iterdir())
    }
    manifest = {"id": key(), "files": files, "kernel_args": recipe.KERNEL_ARGS}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
