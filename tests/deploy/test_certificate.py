"""What is read back of the disks, compared with the plan: everything that can differ, and what real machines print."""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy.certificate import TOPICS, Certificate, Finding, before_reboot, is_another_system, running_system
from deploy.certificate.probe import Tree, cards, esp
from deploy.step import Context
from deploy.steps.finish import asked
from lab.simulation.readback import KERNEL, as_planned
from servers.storage.layout import plain, raid1
from servers.storage.plan import LogicalVolume, Luks, Plan, VolumeGroup
from servers.storage.sizes import MIB
from tests.deploy.contexts import make_context
from tests.deploy.stacks import encrypted_context

CASES = Path(__file__).with_name("readbacks")


def stacked() -> Context:
    """An install whose root lies in a volume, in an encrypted container, on a mirror."""
    ctx = make_context()
    array = ctx.plan.arrays[0]
    container = Luks("/dev/mapper/luks-vg0", "luks-vg0", array.path, UUID(int=7), array.size - 16 * MIB)
    volume = LogicalVolume("/dev/vg0/root", "root", "vg0", 4096 * MIB)
    plan = replace(
        ctx.plan,
        containers=(container,),
        volume_groups=(VolumeGroup("vg0", (container.path,), 8192 * MIB),),
        volumes=(volume,),
        filesystems=(replace(ctx.plan.root, device=volume.path),),
    )
    return replace(ctx, plan=plan)


def certificate(ctx: Context, seen: dict[str, Any]) -> Certificate:
    return before_reboot(asked(ctx), ctx.plan, seen)


def seen_by(ctx: Context) -> dict[str, Any]:
    """What the probe would print if all were as planned; free to be changed."""
    return copy.deepcopy(as_planned(asked(ctx)))


def wrong(ctx: Context, change: Callable[[dict[str, Any]], None]) -> Finding:
    """The one finding that is not as planned after this change to what is seen."""
    seen = seen_by(ctx)
    change(seen)
    (finding,) = certificate(ctx, seen).wrong
    return finding


@pytest.mark.parametrize(
    "ctx",
    [
        make_context(),
        make_context(firmware="bios", disks=1, layout=plain(swap=2**30)),
        make_context(disks=1, block=4096),
        make_context(layout=raid1(swap=2**30)),
        make_context(of="rhel-8"),
        stacked(),
    ],
    ids=["uefi-raid1", "bios-swap", "4kn", "raid1-swap", "rhel", "lvm-on-luks-on-raid1"],
)
def test_disks_that_are_as_planned_are_certified(ctx: Context) -> None:
    found = certificate(ctx, seen_by(ctx))
    assert found.wrong == ()
    topics = [finding.topic for finding in found.findings]
    assert topics == sorted(topics, key=TOPICS.index)


def test_every_layer_of_a_stack_is_looked_at() -> None:
    ctx = stacked()
    topics = {finding.topic for finding in certificate(ctx, seen_by(ctx)).findings}
    assert topics == set(TOPICS) - {"running"}
    needed = next(one for one in certificate(ctx, seen_by(ctx)).findings if one.what.startswith("what the root"))
    assert needed.expected == "ext4, raid1, dm_mod, dm_crypt"


def _at(*path: Any, **values: Any) -> Callable[[dict[str, Any]], None]:
    """A change of these values at this place of what is seen."""

    def change(seen: Any) -> None:
        for key in path:
            seen = seen[key]
        seen.update(values)

    return change


def _lost(part: str, row: int, column: int, words: str) -> Callable[[dict[str, Any]], None]:
    """These words gone from a line of a table."""

    def change(seen: Any) -> None:
        cells = seen[part][row]
        assert words in cells[column]
        cells[column] = cells[column].replace(words, "")

    return change


ESP = ("tables", "/dev/vda", "partitions", 0)
ROOT = ("arrays", "/dev/md/root")
USER_DATA = "openstack/latest/user_data"
NEEDS = f"what the root file system needs in {KERNEL}"


@pytest.mark.parametrize(
    ("change", "what", "says"),
    [
        (_at(*ESP, start=4096), "/dev/vda1", "from byte 2,097,152"),
        (_at(*ESP, size=1), "/dev/vda1", "(512 bytes)"),
        (_at(*ESP, type="0FC63DAF-8483-4772-8E79-3D69D8477DE4"), "/dev/vda1", "LINUX"),
        (_at(*ESP, uuid="00000000-0000-0000-0000-000000000000"), "/dev/vda1", "00000000-0000"),
        (_at(*ESP, node="/dev/vda9"), "/dev/vda1", "no such partition"),
        (_at("tables", "/dev/vdb", id="x"), "/dev/vdb", "GPT x"),
        (_at(*ROOT, level="raid0"), "/dev/md/root", "RAID0"),
        (_at(*ROOT, members=["/dev/vda2"]), "/dev/md/root", "on /dev/vda2, whole"),
        (_at(*ROOT, degraded=1), "/dev/md/root", "1 members missing"),
        (_at(*ROOT, state="inactive"), "/dev/md/root", "inactive"),
        (_at(*ROOT, uuid="0:0:0:0"), "/dev/md/root", "RAID1 0000 on"),
        (_at("signatures", "/dev/md/root", type="xfs"), "/ on /dev/md/root", "xfs"),
        (_at("signatures", **{"/dev/md/root": {}}), "/ on /dev/md/root", "nothing"),
        (_at("signatures", "/dev/vda1", label="OTHER"), "/boot/efi on /dev/vda1", "label OTHER"),
        (lambda seen: seen["fstab"].pop(1), "/boot/efi", "no line"),
        (_lost("fstab", 2, 3, ",nofail"), "/boot/efi2", "vfat umask=0077"),
        (_lost("fstab", 0, 3, "errors=remount-ro"), "/", " / ext4"),
        (_lost("mdadm_conf", 1, 1, "/dev/md/"), "mdadm.conf: /dev/md/root", "ARRAY root metadata=1.2 UUID="),
        (lambda seen: seen["mdadm_conf"].pop(1), "mdadm.conf: /dev/md/root", "no line"),
        (lambda seen: seen["fstab"].append(["LABEL=old", "/old", "ext4"]), "other devices", "LABEL=old"),
        (_at("kernels", KERNEL, "drivers", nvme="missing"), f"drivers for {KERNEL}", "without nvme"),
        (_at("kernels", KERNEL, "drivers", raid1="unknown"), NEEDS, "ext4"),
        (_at("kernels", KERNEL, tools=["lvm"]), f"tools in {KERNEL}", "none of them"),
        (_at(kernels={}), "kernels", "none"),
        (_at("esps", "/boot/efi2", sha256="0" * 64), "all ESPs", f"/boot/efi2 SHA-256 {'0' * 64} over 4 files"),
        (_at("esps", "/boot/efi2", loader=None), "/boot/efi2", "no boot loader"),
        (_at("config_drive", **{USER_DATA: None}), USER_DATA, "no such file"),
    ],
)
def test_whatever_differs_is_told_alone(change: Callable[[dict[str, Any]], None], what: str, says: str) -> None:
    finding = wrong(make_context(), change)
    assert finding.what == what
    assert says in finding.found
    assert finding.sentence().startswith(f"✗ {what}: {finding.expected}; found ")


def test_a_container_s_line_is_read_back_with_the_word_for_debian_s_initramfs() -> None:
    ctx = encrypted_context()
    said = next(one for one in certificate(ctx, seen_by(ctx)).findings if one.what.startswith("crypttab: "))
    assert (said.ok, said.expected.endswith(" none luks,discard,initramfs")) == (True, True)
    lost = wrong(ctx, _lost("crypttab", 0, 3, ",initramfs"))
    assert (lost.what, lost.found.endswith(" none luks,discard")) == (said.what, True)
    of_red_hat = certificate(encrypted_context("rhel-9"), seen_by(encrypted_context("rhel-9"))).findings
    assert any(one.what == said.what and one.expected.endswith(" none luks,discard") for one in of_red_hat)


def test_a_container_whose_line_was_lost_is_told() -> None:
    finding = wrong(encrypted_context(), _at(crypttab=[["other", "UUID=1", "none", "luks"]]))
    assert (finding.topic, finding.found) == ("fstab", "no line")


def test_what_a_hook_has_added_to_the_tables_is_shown_and_is_not_wrong() -> None:
    ctx, seen = encrypted_context(), seen_by(encrypted_context())
    seen["fstab"][0][3] += ",noatime"
    seen["fstab"].append(["nas:/home", "/home", "nfs", "defaults"])
    seen["crypttab"].append(["backup", "UUID=1", "/etc/backup.key", "luks"])
    seen["mdadm_conf"].append(["ARRAY", "<ignore>", "UUID=1:2:3:4"])
    found = certificate(ctx, seen)
    assert found.wrong == ()
    assert next(one.found for one in found.findings if one.topic == "fstab").endswith(",noatime")


def test_the_boot_loader_of_each_esp_is_stored_with_its_checksum() -> None:
    for disks in (1, 2):
        ctx = make_context(disks=disks)
        loaders = [one for one in certificate(ctx, seen_by(ctx)).findings if one.expected.startswith("a boot loader")]
        assert [(one.found, one.ok) for one in loaders] == [(f"SHA-256 {'10' * 32}", True)] * disks


@pytest.mark.parametrize(
    ("lacking", "says", "fine"),
    [
        ([], "the same", True),
        (["bnx2", "sfc"], "all but bnx2, sfc, which this server does without", True),
        (["sfc", "virtio_net"], "none for this server's eth0 (virtio_net)", False),
    ],
)
def test_missing_drivers_of_network_cards_are_told_and_end_no_install(
    lacking: list[str], says: str, fine: bool
) -> None:
    ctx, seen = make_context(), seen_by(make_context())
    seen["kernels"][KERNEL]["without_network"] = lacking
    found = certificate(ctx, seen)
    said = next(one for one in found.findings if one.topic == "network")
    assert (said.what, said.found, said.ok) == (KERNEL, says, fine)
    assert (found.unacceptable, found.ok) == ((), fine)


def test_an_array_whose_last_member_is_still_being_filled_is_whole() -> None:
    ctx, seen = make_context(), seen_by(make_context())
    seen["arrays"]["/dev/md/root"].update(degraded=1, sync="recover")
    assert certificate(ctx, seen).ok


def test_a_bios_machine_needs_grub_on_every_disk_that_it_may_start_from() -> None:
    finding = wrong(make_context(firmware="bios"), _at("boot_code", **{"/dev/vdb": False}))
    assert (finding.what, finding.found) == ("/dev/vdb", "no GRUB in its first sector")


def test_a_driver_that_this_kernel_never_had_is_not_missed() -> None:
    ctx, seen = make_context(), seen_by(make_context())
    seen["kernels"][KERNEL]["drivers"]["mptsas"] = "unknown"
    seen["kernels"][KERNEL]["drivers"]["ahci"] = "built in"
    assert certificate(ctx, seen).ok


@pytest.mark.parametrize(
    "part", ["tables", "signatures", "arrays", "fstab", "kernels", "esps", "config_drive", "mdadm_conf"]
)
def test_what_could_not_be_read_is_not_certified(part: str) -> None:
    ctx, seen = make_context(), seen_by(make_context())
    seen[part], seen["errors"][part] = None, "mdadm ended with 1: cannot open /dev/md/root"
    found = certificate(ctx, seen).wrong
    assert found
    assert {finding.found for finding in found} == {
        "cannot be read: mdadm ended with 1: cannot open /dev/md/root",
    }


@pytest.mark.parametrize("seen", [{}, {"tables": 7, "arrays": [], "esps": {"/boot/efi": None}}, {"errors": []}])
def test_a_document_that_makes_no_sense_certifies_nothing(seen: dict[str, Any]) -> None:
    assert not any(finding.ok for finding in certificate(make_context(), seen).findings)


def test_a_certificate_is_stored_and_read_back_equal() -> None:
    ctx = make_context()
    found = certificate(ctx, seen_by(ctx))
    assert Certificate.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert Certificate.from_json({}) == Certificate.from_json(None) == Certificate()


# The new system's own words


def test_the_new_system_is_believed_when_it_says_what_was_planned() -> None:
    plan = make_context().plan
    call = {"mounts": {one.mount: one.uuid for one in plan.mounts}, "degraded_arrays": []}
    findings = running_system(plan, call)
    assert [finding.what for finding in findings] == ["/", "/boot/efi", "/boot/efi2", "arrays that lack a member"]
    assert all(finding.ok for finding in findings)
    assert not is_another_system(plan, findings)


def test_a_system_that_runs_from_another_root_is_another_system() -> None:
    plan = make_context().plan
    findings = running_system(plan, {"mounts": {"/": "an-old-system"}})
    assert is_another_system(plan, findings)
    assert findings[0].found == "an-old-system"


def test_an_esp_that_is_mounted_late_is_not_missed_and_a_degraded_array_is_told() -> None:
    plan = make_context().plan
    findings = running_system(plan, {"mounts": {"/": plan.root.uuid}, "degraded_arrays": ["md127"]})
    assert [(finding.what, finding.ok) for finding in findings] == [("/", True), ("arrays that lack a member", False)]


def test_a_script_of_a_former_version_says_nothing_and_that_is_no_finding() -> None:
    assert running_system(make_context().plan, {"kernel": "6.1"}) == ()


# What real machines have printed


@pytest.mark.parametrize("case", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_what_a_real_machine_has_printed_is_certified_as_it_was(case: Path) -> None:
    """Each case holds what was asked, what the probe printed, and the sentences that follow."""
    told = json.loads(case.read_text())
    found = before_reboot(told["asked"], Plan.from_json(told["asked"]["plan"]), told["seen"])
    assert [finding.sentence() for finding in found.findings] == told["sentences"]


# The probe's own eyes


def make_tree(root: Path, listing: str, tool: str = "lsinitramfs") -> Tree:
    """A system with one kernel, whose tool lists its initramfs so. A chroot into it needs a shell: that of busybox."""
    modules = root / "lib/modules/6.1.0"
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    lines = (
        "nvme/host/nvme.ko: nvme-core.ko",
        "scsi/3w-sas.ko.xz:",
        "md/raid1.ko:",
        "ata/ahci.ko: libahci.ko",
        "net/igb.ko:",
    )
    (modules / "modules.dep").write_text("".join(f"kernel/drivers/{line}\n" for line in lines))
    (root / "boot").mkdir()
    (root / "boot/initrd.img-6.1.0").touch()
    # kdump's image belongs to no kernel of that name
    (root / "boot/initramfs-6.1.0kdump.img").touch()
    busybox = shutil.which("busybox", path="/usr/bin:/bin")
    assert busybox
    libraries = re.findall(r"/\S+", subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout)
    for name, source in {
        "bin/sh": busybox,
        "bin/cat": busybox,
        **{file.lstrip("/"): file for file in libraries},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / name)
    (root / "listing").write_text(listing)
    script = root / "usr/bin" / tool
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\ncat /listing\n")
    script.chmod(0o755)
    return Tree({}, str(root))


def bzimage(version: str) -> bytes:
    """A kernel's image as far as its header, which says where its version stands."""
    words = f"{version} (somebody@somewhere) #1 SMP".encode()
    return bytes(0x202) + b"HdrS" + bytes(8) + (0x100).to_bytes(2, "little") + bytes(0xF0) + words + bytes(200)


SOME_SYSTEMS: dict[str, dict[str, str | bytes]] = {
    "kernels that lie with their modules": {
        "usr/lib/modules/6.12.0-1-default/vmlinuz": "",
        "boot/initrd-6.12.0-1-default": "the one",
        "boot/initrd-6.12.0-1-default-kdump": "",
    },
    "a name without a version, that a package's file explains": {
        "usr/lib/modules/6.16.8-arch1-1/pkgbase": "linux-lts\n",
        "boot/initramfs-linux-lts.img": "the one",
        "boot/initramfs-linux-lts-fallback.img": "",
    },
    "a name without a version, that the kernel itself explains": {
        "usr/lib/modules/6.16.8-arch1-1/modules.dep": "",
        "usr/lib/modules/6.1.0-1-lts/modules.dep": "",
        "boot/vmlinuz-linux": bzimage("6.16.8-arch1-1"),
        "boot/initramfs-linux.img": "the one",
    },
    "a rescue entry beside": {
        "lib/modules/5.14.0-570.el9.x86_64/modules.dep": "",
        "boot/vmlinuz-0-rescue-0123": bzimage("5.14.0-570.el9.x86_64"),
        "boot/initramfs-0-rescue-0123.img": "",
        "boot/initramfs-5.14.0-570.el9.x86_64.img": "the one",
    },
}


@pytest.mark.parametrize("files", SOME_SYSTEMS.values(), ids=list(SOME_SYSTEMS))
def test_an_initramfs_is_found_by_the_name_of_its_kernel(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    tree = Tree({}, str(tmp_path))
    modules = next(path for path in tmp_path.glob("**/lib/modules/*") if not path.name.endswith("-lts"))
    assert [file.read_text() for file in tree.images(modules.name, modules)] == ["the one"]


def test_a_rescue_entry_s_initramfs_is_none_that_the_system_starts_from(tmp_path: Path) -> None:
    modules = tmp_path / "lib/modules/5.14.0"
    modules.mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-0-rescue-0123").write_bytes(bzimage("5.14.0"))
    for name in ("initramfs-0-rescue-0123.img", "initramfs-5.14.0kdump.img", "initrd"):
        (tmp_path / "boot" / name).touch()
    assert Tree({}, str(tmp_path)).images("5.14.0", modules) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a chroot needs root")
@pytest.mark.parametrize(
    ("tool", "line"),
    [("lsinitramfs", "usr/lib/modules/6.1.0/{}"), ("lsinitrd", "-rw-r--r-- 1 root root 9 Jan  1  2026 usr/lib/{}")],
)
def test_the_probe_tells_of_each_driver_where_it_is(tmp_path: Path, tool: str, line: str) -> None:
    files = ("nvme.ko.zst", "3w-sas.ko.xz", "raid1.ko", "sbin/mdadm", "bin/sh -> dash")
    tree = make_tree(tmp_path, "\n".join(line.format(file) for file in files), tool)
    told = dict(tree.kernels(["nvme", "3w-sas", "raid1", "virtio_pci", "ahci", "mptsas"], ["igb", "bnx2"]))
    # with those of this machine's own cards, whatever they are
    assert set(told["6.1.0"].pop("without_network")) - {driver for _, driver in cards()} == {"bnx2"}
    assert told == {
        "6.1.0": {
            "drivers": {
                "nvme": "inside", "3w-sas": "inside", "raid1": "inside", "virtio_pci": "built in", "ahci": "missing",
                "mptsas": "unknown",
            },
            "tools": ["mdadm"],
        }
    }  # fmt: skip


def test_the_probe_finds_an_esp_s_loader_however_its_name_is_written(tmp_path: Path) -> None:
    assert esp(str(tmp_path))["loader"] is None
    loader = tmp_path / "efi/boot/bootx64.efi"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(b"a loader")
    (tmp_path / "efi/boot/grub.cfg").touch()
    told = esp(str(tmp_path))
    assert (told["loader"], told["files"]) == (hashlib.sha256(b"a loader").hexdigest(), 2)
