"""Prints as JSON what is really on the disks. Runs on the rescue system, before the new system's tree is unmounted.

Standard input is JSON that says where to look: the plan, where its tree is mounted, which drivers and which files of
the config drive are of interest. No disk beyond the plan's is looked at, and nothing is changed. What cannot be read is
told under `errors`, and the rest is read all the same.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

WHOLE_TREE = 300
"""Seconds that reading an initramfs may take, on the slowest machine."""

INITRAMFS = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}")
"""What an initramfs is called in /boot: by Debian and Ubuntu; by Red Hat, Fedora and Arch; by SUSE."""


def main() -> None:
    wanted = json.load(sys.stdin)
    plan, target = wanted["plan"], wanted["target"]
    tree = Tree(plan, target)
    seen: Json = {"schema": 2, "errors": {}}
    for name, read in {
        "tables": lambda: {disk["path"]: table(disk["path"]) for disk in plan["disks"]},
        "signatures": lambda: {device: signature(device) for device in devices(plan)},
        "boot_code": lambda: {disk: has_grub(disk) for disk in plan["boot_group"]},
        "arrays": lambda: {one["path"]: array(one["path"]) for one in plan["arrays"]},
        "containers": lambda: {one["path"]: container(one) for one in plan.get("containers", ())},
        "volume_groups": lambda: volume_groups(plan) if plan.get("volume_groups") else {},
        "volumes": lambda: {one["path"]: volume(one["path"]) for one in plan.get("volumes", ())},
        "fstab": lambda: rows(f"{target}/etc/fstab"),
        "crypttab": lambda: rows(f"{target}/etc/crypttab") if plan.get("containers") else [],
        "mdadm_conf": lambda: rows(target + wanted["mdadm_conf"]) if plan["arrays"] else [],
        "cards": lambda: dict(cards()),
        "kernels": lambda: dict(tree.kernels(wanted["drivers"], wanted["network_drivers"])),
        "esps": lambda: {one["mount"]: esp(target + one["mount"]) for one in plan["esps"]},
        "config_drive": lambda: config_drive(plan["config_drive"], wanted["config_drive"]),
    }.items():
        seen[name] = attempt(read, name, seen["errors"])
    print(json.dumps(seen, indent=1))


def attempt(read: Callable[[], Any], name: str, errors: Json) -> Any:
    """What `read` gives; None when it cannot, and then the reason is among the errors."""
    try:
        return read()
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()
        errors[name] = f"{error.cmd[0]} ended with {error.returncode}: {said[-1] if said else 'it said nothing'}"
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired) as error:
        errors[name] = f"{type(error).__name__}: {error}"
    return None


def output(*argv: str, statuses: tuple[int, ...] = (0,)) -> str:
    """What a program prints."""
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=WHOLE_TREE, check=False)
    if done.returncode not in statuses:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
    return done.stdout


# Disks


def table(disk: str) -> Json:
    """The partition table as sfdisk reads it from the disk."""
    return dict(json.loads(output("sfdisk", "--json", disk))["partitiontable"])


def devices(plan: Json) -> list[str]:
    """Everything that the plan gives a signature: members, containers, physical volumes, file systems, swap."""
    partitions = [one["path"] for disk in plan["disks"] for one in disk["partitions"]]
    on_top = [one["path"] for name in ("arrays", "containers", "volumes") for one in plan.get(name, ())]
    return [*partitions, *on_top]


def signature(device: str) -> Json:
    """Type, UUID and label as libblkid reads them from the device itself, not from its cache; empty without any."""
    # 2: nothing was found, as on a BIOS boot partition
    pairs = (
        line.partition("=")
        for line in output("blkid", "--probe", "--output", "export", device, statuses=(0, 2)).splitlines()
    )
    known = {name: value for name, _, value in pairs}
    return {name.lower(): known[name] for name in ("TYPE", "UUID", "LABEL") if name in known}


def has_grub(disk: str) -> bool:
    """Whether GRUB's first stage is in the first sector, from where BIOS starts it."""
    with Path(disk).open("rb") as file:
        return b"GRUB" in file.read(440)


def array(path: str) -> Json:
    """An md array: its level, UUID, members and state."""
    pairs = (line.partition("=") for line in output("mdadm", "--detail", "--export", path).splitlines())
    said = {name: value for name, _, value in pairs}
    of_kernel = Path("/sys/block", Path(path).resolve().name, "md")
    return {
        "level": said["MD_LEVEL"],
        "uuid": said["MD_UUID"],
        "members": sorted(value for name, value in said.items() if re.fullmatch(r"MD_DEVICE_.*_DEV", name)),
        "state": (of_kernel / "array_state").read_text().strip(),
        # RAID0 has neither
        "degraded": int((of_kernel / "degraded").read_text()) if (of_kernel / "degraded").exists() else 0,
        "sync": (of_kernel / "sync_action").read_text().strip() if (of_kernel / "sync_action").exists() else "idle",
    }


def container(wanted: Json) -> Json:
    """A LUKS container: its UUID and version, and whether it is open under its name."""
    dump = output("cryptsetup", "luksDump", wanted["device"])
    version = re.search(r"^Version:\s*(\d+)", dump, re.MULTILINE)
    return {
        "uuid": output("cryptsetup", "luksUUID", wanted["device"]).strip(),
        "version": version[1] if version else "",
        "open": Path(wanted["path"]).exists(),
    }


def volume_groups(plan: Json) -> Json:
    """Each volume group's devices, by the names that the plan has for them."""
    names = {str(Path(device).resolve()): device for one in plan["volume_groups"] for device in one["devices"]}
    found: dict[str, list[str]] = {one["name"]: [] for one in plan["volume_groups"]}
    report = json.loads(output("pvs", "--reportformat", "json", "--options", "pv_name,vg_name", *names))
    for row in report["report"][0]["pv"]:
        found.setdefault(row["vg_name"], []).append(names.get(str(Path(row["pv_name"]).resolve()), row["pv_name"]))
    return {name: sorted(members) for name, members in found.items()}


def volume(path: str) -> int:
    """The bytes of a volume."""
    return int(output("blockdev", "--getsize64", path))


# The new system


def rows(path: str) -> list[list[str]]:
    """The lines of a table, as fstab is one, that say something, as their words."""
    lines = Path(path).read_text().splitlines()
    return [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def cards() -> Iterator[tuple[str, str]]:
    """This server's network cards with the drivers that they have here."""
    for driver in sorted(Path("/sys/class/net").glob("*/device/driver/module")):
        yield driver.parts[4], driver.resolve().name


class Tree:
    """The new system's files, and its own tools in a chroot."""

    def __init__(self, plan: Json, target: str) -> None:
        self.plan, self.target = plan, target

    def kernels(self, drivers: list[str], network: list[str]) -> Iterator[tuple[str, Json]]:
        """Of every kernel that has an initramfs, what became of each driver, and which tools are in it.

        A driver is `inside` the initramfs, `built in` the kernel, `missing`, or `unknown`: this kernel has none by that
        name, and could not use it. Those of `network`, and of this server's own cards, need not be in the initramfs:
        of them those are told that the kernel has not at all.
        """
        network = sorted({*network, *(driver for _, driver in cards())})
        # Where /lib is a link into /usr, both are the same. A folder without a list is of a kernel that was removed.
        lists = [file for top in ("lib", "usr/lib") for file in Path(self.target, top).glob("modules/*/modules.dep")]
        folders = {file.parent.name: file.parent for file in lists}
        for version, modules in sorted(folders.items()):
            for file in self.images(version, modules):
                yield version, self._kernel(file, modules, drivers, network)

    def images(self, version: str, modules: Path) -> list[Path]:
        """The initramfs of a kernel, if it has one.

        It is looked for by the kernel's name: other images in /boot (kdump's, those of rescue entries, Arch's fallback,
        links) are none that the system starts from.
        """
        for name in (version, *self._other_names(version, modules)):
            for form in INITRAMFS:
                file = Path(self.target, "boot", form.format(name))
                if file.is_file():
                    return [file]
        return []

    def _other_names(self, version: str, modules: Path) -> Iterator[str]:
        """By which names Arch's files in /boot go, where they do not change with the version: `linux`, `linux-lts`."""
        if (modules / "pkgbase").is_file():
            yield (modules / "pkgbase").read_text().strip()
        for kernel in sorted(Path(self.target, "boot").glob("vmlinuz-*")):
            name = kernel.name.removeprefix("vmlinuz-")
            if not name.startswith("0-rescue-") and version_in(kernel) == version:
                yield name

    def _kernel(self, file: Path, modules: Path, drivers: list[str], network: list[str]) -> Json:
        inside = self._listing(f"/boot/{file.name}")
        names = {module(path) for path in inside if ".ko" in path}
        built_in = {module(line) for line in (modules / "modules.builtin").read_text().split()}
        known = {module(line.partition(":")[0]) for line in (modules / "modules.dep").read_text().splitlines()}

        def fate(driver: str) -> str:
            # a driver's file may have dashes where the kernel has underscores
            name = driver.replace("-", "_")
            if name in names:
                return "inside"
            return "built in" if name in built_in else "missing" if name in known else "unknown"

        # a word without a folder is one of those that lsinitrd prints above its list: the names of dracut's own modules
        programs = {path.rpartition("/")[2] for path in inside if "/" in path}
        tools = {"mdadm": {"mdadm"}, "lvm": {"lvm"}, "cryptsetup": {"cryptsetup", "systemd-cryptsetup"}}
        return {
            "drivers": {driver: fate(driver) for driver in drivers},
            "tools": sorted(tool for tool, names in tools.items() if programs & names),
            "without_network": [driver for driver in network if driver.replace("-", "_") not in known | built_in],
        }

    def _listing(self, file: str) -> list[str]:
        """The paths in an initramfs, as the system's own tool lists them: only it knows its format."""
        for tool in ("lsinitramfs", "lsinitrd", "lsinitcpio"):
            found = next(
                (folder for folder in ("usr/bin", "bin", "usr/sbin") if Path(self.target, folder, tool).exists()), ""
            )
            if found:
                lines = output("chroot", self.target, f"/{found}/{tool}", file).splitlines()
                # lsinitrd lists like `ls -l`, with the path as the last word, or before the target of a link
                return [re.sub(r" -> .*", "", line).split(" ")[-1] for line in lines if line.strip()]
        raise LookupError("the system has no tool that lists an initramfs")


def version_in(kernel: Path) -> str:
    """The version that a kernel's image bears in its header (of the x86 boot protocol); "" when there is none."""
    with kernel.open("rb") as file:
        header = file.read(0x210)
        if header[0x202:0x206] != b"HdrS":
            return ""
        file.seek(int.from_bytes(header[0x20E:0x210], "little") + 0x200)
        return file.read(256).partition(b"\0")[0].decode(errors="replace").split(" ")[0]


def module(path: str) -> str:
    """A module's name as the kernel has it."""
    return re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2]).replace("-", "_")


def esp(folder: str) -> Json:
    """A checksum over the names and contents of an ESP's files, how many they are, and its boot loader's own."""
    root = Path(folder)
    found = {str(path.relative_to(root)): checksum(path) for path in sorted(root.rglob("*")) if path.is_file()}
    lines = "\n".join(f"{name} {value}" for name, value in found.items())
    # the file system knows no upper and lower case
    loader = next((value for name, value in found.items() if name.upper() == "EFI/BOOT/BOOTX64.EFI"), None)
    return {"sha256": hashlib.sha256(lines.encode()).hexdigest(), "files": len(found), "loader": loader}


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def config_drive(drive: Json, wanted: Mapping[str, str]) -> Json:
    """The checksums of the config drive's files, as they are on its partition; None for one that is not there."""
    where = Path("/run/landfall/config-drive")
    where.mkdir(parents=True, exist_ok=True)
    output("mount", "--read-only", "--types", drive["kind"], drive["partition"], str(where))
    try:
        return {name: checksum(where / name) if (where / name).is_file() else None for name in wanted}
    finally:
        output("umount", str(where))


if __name__ == "__main__":
    main()
