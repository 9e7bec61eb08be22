"""Trees laid out as the distributions' cloud images are, with stand-ins for their programs; and what runs in them.

A script of a step runs as it does on the rescue system, as root, with mounts of its own that are gone with it.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.commands import Command, script
from images.flavours import EfiLoader, Flavour, Initramfs, Need

STAND_INS = Path(__file__).with_name("standins")
OLD_ID = "0123456789abcdef0123456789abcdef"
_TOOLS = (
    "dpkg-query", "apt-get", "rpm", "dnf", "yum", "zypper", "pacman", "grub-install", "grub2-install", "update-grub",
    "grub-mkconfig", "grub2-mkconfig", "update-initramfs", "dracut", "mkinitcpio", "kernel-install", "modinfo",
)  # fmt: skip
_LISTS = {
    Initramfs.INITRAMFS_TOOLS: "lsinitramfs",
    Initramfs.DRACUT: "lsinitrd",
    Initramfs.MKINITCPIO: "lsinitcpio",
}

# /host is this machine: the libraries that busybox needs, and a Python for subscription-manager
_RUN = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/landfall/target /run/udev
mount --bind "$1" /run/landfall/target
for esp in efi efi2; do mount --bind "$1/boot/$esp" "/run/landfall/target/boot/$esp"; done
mount --bind / /run/landfall/target/host
mount -o remount,bind,ro /run/landfall/target/host
RESULT=$3 exec bash "$2"
"""


def _mounts() -> bool:
    """Whether this machine lets us have mounts of our own."""
    tried = ["unshare", "--mount", "--propagation=private", "mount", "-t", "tmpfs", "tmpfs", "/run"]
    return os.geteuid() == 0 and subprocess.run(tried, capture_output=True).returncode == 0


in_a_tree = pytest.mark.skipif(
    not (shutil.which("busybox") and shutil.which("unshare") and _mounts()), reason="needs root, busybox and mounts"
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree as the copy step leaves it."""

    path: Path

    def write(self, path: str, content: str = "", mode: int = 0o644) -> Path:
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        return file

    def link(self, path: str, to: str) -> None:
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(to)

    def read(self, path: str) -> str:
        return (self.path / path.lstrip("/")).read_text()

    def calls(self) -> list[str]:
        return self.read("/calls").splitlines() if (self.path / "calls").exists() else []

    def changes(self) -> list[str]:
        """The calls that do something, by their programs."""
        programs = [call.split()[0] for call in self.calls()]
        return [one for one in programs if one not in ("dpkg-query", "rpm", "modinfo", *_LISTS.values())]

    def files(self, folder: str) -> dict[str, str]:
        top = self.path / folder.lstrip("/")
        return {str(one.relative_to(top)): one.read_text() for one in sorted(top.rglob("*")) if one.is_file()}

    def run(self, commands: Sequence[Command]) -> subprocess.CompletedProcess[str]:
        """The commands as the rescue system runs them; what they give as result goes to `result` beside the tree."""
        file = self.path.with_name("script")
        file.write_text(script(commands))
        arguments = [str(self.path), str(file), str(self.path.with_name("result"))]
        return subprocess.run(
            ["unshare", "--mount", "--propagation=private", "bash", "-c", _RUN, "run", *arguments],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a distribution's packages put the kernel, and what lies beside it; `{}` stands for its version.

    `merged` are the folders that are links into /usr. `modules` says how the files of modules end; `built_in` are some
    that this kernel has without a file. `beside` are other images in /boot that the system does not start from.
    """

    id: str
    version: str
    kernel: str
    initramfs: str
    merged: dict[str, str]
    modules: str = ".ko"
    built_in: tuple[str, ...] = ("virtio_pci", "sd_mod")
    kernel_in_modules: bool = True
    beside: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


_MERGED = {"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib"}
_ONE_BIN = {**_MERGED, "/usr/sbin": "bin"}
_DEBIAN = Layout(
    "debian", "", "/boot/vmlinuz-{}", "/boot/initrd.img-{}", _MERGED, kernel_in_modules=False,
    beside=("/boot/config-{}", "/boot/System.map-{}"),
    links=(("/vmlinuz", "boot/vmlinuz-{}"), ("/initrd.img", "boot/initrd.img-{}")),
)  # fmt: skip
_UBUNTU = replace(
    _DEBIAN, id="ubuntu",
    links=(
        ("/boot/vmlinuz", "vmlinuz-{}"), ("/boot/initrd.img", "initrd.img-{}"),
        ("/boot/initrd.img.old", "initrd.img-{}"),
    ),
)  # fmt: skip
_RED_HAT = Layout(
    "rhel", "", "/boot/vmlinuz-{}", "/boot/initramfs-{}.img", _MERGED, ".ko.xz", ("virtio_pci", "md_mod", "dm_mod"),
    beside=(
        f"/boot/initramfs-0-rescue-{OLD_ID}.img", f"/boot/vmlinuz-0-rescue-{OLD_ID}", "/boot/initramfs-{}kdump.img",
    ),
)  # fmt: skip
_SUSE = Layout(
    # /lib is a folder of its own there
    "opensuse-leap", "6.4.0-150600.23.60-default", "/boot/vmlinuz-{}", "/boot/initrd-{}", {}, ".ko.zst",
    kernel_in_modules=False, beside=("/boot/sysctl.conf-{}", "/boot/symvers-{}.gz", "/boot/initrd-{}-kdump"),
    links=(("/boot/vmlinuz", "vmlinuz-{}"), ("/boot/initrd", "initrd-{}")),
)  # fmt: skip
_ARCH = Layout(
    "arch", "6.16.8-arch1-1", "/boot/vmlinuz-linux", "/boot/initramfs-linux.img", _ONE_BIN, ".ko.zst",
    ("virtio_pci", "dm_mod"), beside=("/boot/initramfs-linux-fallback.img",),
)  # fmt: skip
LAYOUTS = {
    "debian-11": replace(_DEBIAN, version="5.10.0-35-amd64"),
    "debian-12": replace(_DEBIAN, version="6.1.0-40-amd64"),
    "debian-13": replace(_DEBIAN, version="6.12.43+deb13-amd64", modules=".ko.xz"),
    "ubuntu-22.04": replace(_UBUNTU, version="5.15.0-151-generic"),
    "ubuntu-24.04": replace(_UBUNTU, version="6.8.0-71-generic", modules=".ko.zst"),
    "7": replace(_RED_HAT, version="3.10.0-1160.119.1.el7.x86_64", kernel_in_modules=False),
    "8": replace(_RED_HAT, version="4.18.0-553.el8_10.x86_64"),
    "9": replace(_RED_HAT, version="5.14.0-570.12.1.el9_6.x86_64"),
    "10": replace(_RED_HAT, version="6.12.0-55.9.1.el10_0.x86_64"),
    "fedora-42": replace(_RED_HAT, version="6.14.0-63.fc42.x86_64", merged=_ONE_BIN),
    "fedora-43": replace(_RED_HAT, version="6.17.1-300.fc43.x86_64", merged=_ONE_BIN),
    "opensuse-leap-15": _SUSE,
    "arch": _ARCH,
}
"""By the flavour's name; those that are made of Red Hat's sources, by their version."""
NEWER = "9.0.0-1.x86_64"
"""A second kernel where the menu's entries are files; the image has no entry of it."""


def layout(flavour: Flavour) -> Layout:
    """How this flavour's image is laid out."""
    return LAYOUTS[flavour.name if flavour.name in LAYOUTS else flavour.name.partition("-")[2]]


def make_tree(folder: Path, flavour: Flavour, *, without: tuple[str, ...] = ()) -> Tree:
    """A tree of this flavour; `without` names packages that the image does not have."""
    tree = Tree(folder / "tree")
    for name in ("usr/bin", "usr/lib", "proc", "sys", "dev", "run", "tmp", "host", "boot/efi", "boot/efi2", "etc"):
        (tree.path / name).mkdir(parents=True, exist_ok=True)
    for name, to in layout(flavour).merged.items():
        tree.link(name, to)
    for name in ("bin", "sbin", "lib", flavour.grub.folder[1:]):
        # what a link names, where it is one
        (tree.path / name).resolve().mkdir(parents=True, exist_ok=True)
    tree.link("/lib64", "host/usr/lib64")
    tree.link("/lib/x86_64-linux-gnu", "/host/usr/lib/x86_64-linux-gnu")
    shutil.copy("/usr/bin/busybox", tree.path / "bin/busybox")
    for applet in subprocess.check_output(["busybox", "--list"], text=True).split():
        if applet not in (*_TOOLS, "busybox"):
            tree.link(f"/bin/{applet}", "busybox")
    for tool in _TOOLS:
        tree.write(f"/usr/sbin/{tool}", (STAND_INS / "tool").read_text(), 0o755)
    tree.write(f"/usr/bin/{_LISTS[flavour.initramfs]}", (STAND_INS / "tool").read_text(), 0o755)
    # which busybox may lack
    tree.write("/usr/sbin/mountpoint", '#!/bin/sh\ngrep -q " $2 " /proc/self/mountinfo\n', 0o755)
    packages = {one for need in Need for one in flavour.packages_for(need)} - set(without)
    tree.write("/installed", "".join(f"{one}\n" for one in sorted(packages)))
    tree.write("/etc/machine-id", f"{OLD_ID}\n")
    _boot(tree, flavour)
    if flavour.initramfs is Initramfs.INITRAMFS_TOOLS:
        _debian(tree, flavour)
    if flavour.licence:
        _subscription_manager(tree)
    return tree


def _boot(tree: Tree, flavour: Flavour) -> None:
    """What the image starts from: a root of its own, and a /boot that was a file system."""
    kind = layout(flavour)
    tree.write("/usr/lib/os-release", f'ID="{kind.id}"\n')
    tree.link("/etc/os-release", "../usr/lib/os-release")
    _kernel(tree, flavour, kind.version)
    for name in (kind.initramfs, *kind.beside):
        tree.write(name.format(kind.version), "of the image\n")
    for name, to in kind.links:
        tree.link(name, to.format(kind.version))
    if flavour.grub.bls:
        entry = (
            f"title Linux\nlinux /vmlinuz-{kind.version}\ninitrd /initramfs-{kind.version}.img\n"
            "options root=UUID=old ro quiet\n"
        )
        tree.write(f"/boot/loader/entries/{OLD_ID}-{kind.version}.conf", entry)
        _kernel(tree, flavour, NEWER)
    if flavour.grub.efi_signed:
        for name in ("shimx64.efi", "grubx64.efi", "grub.cfg"):
            tree.write(f"/boot/efi/EFI/{flavour.grub.efi_folder}/{name}", f"{name} of the image")
        tree.write("/boot/efi/EFI/BOOT/fbx64.efi", "shim's fallback")
    if flavour.grub.efi_loader is EfiLoader.SIGNED_STUB:
        tree.write("/stub-is-sacred")
    if flavour.selinux:
        tree.write("/etc/resolv.conf", "nameserver 192.0.2.1\n")


def _kernel(tree: Tree, flavour: Flavour, version: str) -> None:
    """A kernel and its modules, as its packages bring them: all drivers but one that became a part of another."""
    kind = layout(flavour)
    folder = f"/lib/modules/{version}"
    drivers = {*flavour.server_drivers, *flavour.network_drivers, *flavour.filesystems, "dm_crypt"} - {"mpt2sas"}
    files = "".join(
        f"kernel/drivers/some/{name}{kind.modules}:\n" for name in sorted(drivers - set(kind.built_in))
    )  # fmt: skip
    tree.write(f"{folder}/modules.dep", files)
    tree.write(f"{folder}/modules.builtin", "".join(f"kernel/drivers/some/{name}.ko\n" for name in kind.built_in))
    tree.write(kind.kernel.format(version), "a kernel")
    if kind.kernel_in_modules:
        tree.write(f"{folder}/vmlinuz", "a kernel")
    if kind.id == "arch":
        tree.write(f"{folder}/pkgbase", "linux\n")


def _debian(tree: Tree, flavour: Flavour) -> None:
    tree.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    functions = "".join(
        f'{name}() {{ echo "{name} $*" >>/calls; [ {name} != manual_add_modules ] || echo "$*" >>"$DESTDIR"; }}\n'
        for name in ("auto_add_modules", "copy_modules_dir", "manual_add_modules")
    )
    tree.write("/usr/share/initramfs-tools/hook-functions", functions)
    tree.write("/etc/initramfs-tools/conf.d/resume", "RESUME=UUID=old\n")
    tree.write("/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet"\n')
    if flavour.login == "ubuntu":
        tree.write("/etc/default/grub.d/40-force-partuuid.cfg", "GRUB_FORCE_PARTUUID=old\n")


def _subscription_manager(tree: Tree) -> None:
    text = (STAND_INS / "subscription-manager").read_text()
    tree.write("/usr/sbin/subscription-manager", text, 0o755)
    server = "[server]\nhostname = subscription.rhsm.redhat.com\nprefix = /subscription\nport = 443\n"
    tree.write("/etc/rhsm/rhsm.conf", server)
    tree.write("/etc/rhsm/ca/redhat-uep.pem", "-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----\n")
