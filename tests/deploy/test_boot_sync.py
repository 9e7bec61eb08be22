"""The script that keeps the installed system able to start from each of its disks, run for real on folders.

The ESPs are folders, and what is mounted is what a stand-in of mountpoint says; the packages' programs are stand-ins
that write down how they were called.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from deploy.commands import WriteFile
from deploy.steps.bootable import sync
from servers.storage.plan import PartitionType
from tests.deploy.contexts import make_context


class Installed:
    """An installed system: its tree, its mounted ESPs, and what was called in it."""

    def __init__(self, folder: Path, of: str, firmware: str = "uefi") -> None:
        self.root, self.bin, self.calls = folder / "root", folder / "bin", folder / "calls"
        self.ctx = make_context(of=of, firmware=firmware)
        self.script = folder / "script"
        self.script.write_text(sync.script(self.ctx))
        self.mounted = {"/boot/efi", "/boot/efi2"}
        self.bin.mkdir(parents=True)
        for tool in ("grub-install", "grub2-install", "mount"):
            self.stand_in(tool, "true")
        self.stand_in("lsblk", "echo vda")

    def stand_in(self, tool: str, does: str) -> None:
        path = self.bin / tool
        path.write_text(f'#!/bin/sh\necho "{tool} $*" >>{self.calls}\n{does}\n')
        path.chmod(0o755)

    def write(self, path: str, content: str = "") -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        cases = "|".join(f"{self.root}{path}" for path in sorted(self.mounted)) or "none"
        (self.bin / "mountpoint").write_text(f"#!/bin/sh\ncase $2 in {cases}) ;; *) exit 32 ;; esac\n")
        (self.bin / "mountpoint").chmod(0o755)
        environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "BOOT_SYNC_ROOT": str(self.root)}
        return subprocess.run(
            ["sh", str(self.script), *arguments], env=environment, capture_output=True, text=True, timeout=30
        )  # fmt: skip

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def esp(self, number: str = "") -> dict[str, str]:
        folder = self.root / f"boot/efi{number}"
        return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def debian(tmp_path: Path) -> Installed:
    """Its GRUB was put together after its package came."""
    system = Installed(tmp_path, "debian-12")
    system.write("/usr/lib/grub/x86_64-efi/kernel.img", "GRUB 2.06")
    time.sleep(0.02)
    system.write("/boot/grub/x86_64-efi/core.efi")
    system.write("/boot/efi/EFI/BOOT/BOOTX64.EFI", "GRUB 2.06")
    system.write("/boot/efi2/EFI/BOOT/BOOTX64.EFI", "GRUB 2.06")
    return system


def test_what_changes_on_the_first_esp_changes_on_the_others(debian: Installed) -> None:
    debian.write("/boot/efi/EFI/BOOT/BOOTX64.EFI", "GRUB 2.12")
    debian.write("/boot/efi/EFI/a vendor/a file", "new")
    debian.write("/boot/efi2/EFI/old/gone.efi", "old")
    assert debian.run().returncode == 0
    assert debian.esp("2") == debian.esp() == {"EFI/BOOT/BOOTX64.EFI": "GRUB 2.12", "EFI/a vendor/a file": "new"}


def test_nothing_is_written_where_nothing_has_changed(debian: Installed) -> None:
    before = (debian.root / "boot/efi2/EFI/BOOT/BOOTX64.EFI").stat().st_mtime_ns
    done = debian.run()
    assert (done.returncode, done.stdout, debian.called()) == (0, "", [])
    assert (debian.root / "boot/efi2/EFI/BOOT/BOOTX64.EFI").stat().st_mtime_ns == before


def test_an_esp_whose_disk_has_died_is_left_alone(debian: Installed) -> None:
    debian.mounted = {"/boot/efi"}
    debian.write("/boot/efi/EFI/BOOT/BOOTX64.EFI", "GRUB 2.12")
    done = debian.run()
    assert done.returncode == 0
    assert "boot/efi2 is not mounted" in done.stderr
    assert debian.esp("2") == {"EFI/BOOT/BOOTX64.EFI": "GRUB 2.06"}


def test_an_empty_folder_in_place_of_the_first_esp_is_not_copied_over_the_others(debian: Installed) -> None:
    debian.mounted = {"/boot/efi2"}
    (debian.root / "boot/efi/EFI/BOOT/BOOTX64.EFI").unlink()
    done = debian.run()
    assert done.returncode == 1
    assert debian.esp("2") == {"EFI/BOOT/BOOTX64.EFI": "GRUB 2.06"}


def test_an_updated_grub_is_put_onto_the_first_esp_and_copied(debian: Installed) -> None:
    debian.stand_in("grub-install", f"echo 'GRUB 2.12' >{debian.root}/boot/efi/EFI/BOOT/BOOTX64.EFI")
    time.sleep(0.02)
    debian.write("/usr/lib/grub/x86_64-efi/kernel.img", "GRUB 2.12")
    assert debian.run().returncode == 0
    assert [call.split()[0] for call in debian.called()] == ["grub-install"]
    assert debian.esp("2") == debian.esp() == {"EFI/BOOT/BOOTX64.EFI": "GRUB 2.12\n"}


def test_signed_loaders_go_to_where_firmware_looks_and_shim_s_fallback_goes_away(tmp_path: Path) -> None:
    system = Installed(tmp_path, "rhel-9")
    for name in ("shimx64.efi", "grubx64.efi", "grub.cfg"):
        system.write(f"/boot/efi/EFI/redhat/{name}", f"new {name}")
    system.write("/boot/efi/EFI/BOOT/grubx64.efi", "old")
    system.write("/boot/efi/EFI/BOOT/fbx64.efi", "came with an update of shim")
    system.write("/boot/efi2/EFI/BOOT/fbx64.efi", "came with an update of shim")
    assert system.run().returncode == 0
    assert system.esp("2") == system.esp()
    assert {name: text for name, text in system.esp("2").items() if "BOOT" in name} == {
        "EFI/BOOT/BOOTX64.EFI": "new shimx64.efi",
        "EFI/BOOT/grubx64.efi": "new grubx64.efi",
        "EFI/BOOT/grub.cfg": "new grub.cfg",
    }


@pytest.fixture
def bios(tmp_path: Path) -> Installed:
    system = Installed(tmp_path, "debian-12", "bios")
    system.write("/usr/lib/grub/i386-pc/kernel.img")
    time.sleep(0.02)
    system.write("/boot/grub/i386-pc/core.img")
    parts = [one for disk in system.ctx.plan.disks for one in disk.partitions]
    for number, one in enumerate(part for part in parts if part.type is PartitionType.BIOS_BOOT):
        link = system.root / f"dev/disk/by-partuuid/{one.uuid}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(system.write(f"/dev/vd{'ab'[number]}1"))
    system.stand_in("lsblk", 'partition=${4##*/}; echo "${partition%1}"')
    return system


def test_an_updated_grub_is_put_onto_every_disk(bios: Installed) -> None:
    assert (bios.run().returncode, bios.called()) == (0, [])
    time.sleep(0.02)
    bios.write("/usr/lib/grub/i386-pc/normal.mod")
    assert bios.run().returncode == 0
    installs = [call for call in bios.called() if call.startswith("grub-install")]
    assert installs == [f"grub-install --target=i386-pc --recheck /dev/vd{letter}" for letter in "ab"]


def test_a_disk_that_has_died_does_not_keep_grub_from_the_other(bios: Installed) -> None:
    (bios.root / "dev/vda1").unlink()
    done = bios.run("--now")
    assert "is not there" in done.stderr
    assert [call.split()[-1] for call in bios.called() if call.startswith("grub-install")] == ["/dev/vdb"]


def test_the_unit_watches_what_the_packages_of_the_flavour_change() -> None:
    def watched(of: str, firmware: str) -> list[str]:
        units = [one for one in sync.keep_in_step(make_context(of=of, firmware=firmware)) if isinstance(one, WriteFile)]
        text = next(str(one.content) for one in units if one.path.endswith(".path"))
        return [line.partition("=")[2] for line in text.splitlines() if line.startswith("PathChanged")]

    assert watched("debian-12", "bios") == ["/usr/lib/grub/i386-pc"]
    assert "/usr/lib/grub/x86_64-efi" in watched("debian-12", "uefi")
    assert "/usr/share/grub2/x86_64-efi" in watched("opensuse-leap-15", "uefi")
    assert "/boot/efi/EFI/rocky" in watched("rocky-9", "uefi")
