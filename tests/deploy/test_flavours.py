"""What is done for each distribution, as text: read by a person once, and again whenever it changes.

One of each family is written out in full, for a mirrored UEFI server with a licence where there is one; everything else
as what differs from that. Written anew with WRITE_GOLDEN=1.
"""

import difflib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.commands import WriteFile, detail, script, shown
from deploy.step import TARGET, Context
from deploy.steps import STEPS
from deploy.steps.bootable import bootable
from images.flavours import FLAVOURS, EfiLoader, Flavour, Initramfs
from metadata import phonehome
from servers.storage.layout import Filesystem, Layout, Raid
from tests.deploy.contexts import ACTIVATION_KEY, TOKENS, make_context
from tests.deploy.stacks import encrypted_context

GOLDEN = Path(__file__).with_name("golden") / "flavours"
SHOWN_IN_FULL = {"debian": "debian-12", "redhat": "rhel-9", "suse": "opensuse-leap-15", "arch": "arch"}


def family(flavour: Flavour) -> str:
    if flavour.initramfs is Initramfs.INITRAMFS_TOOLS:
        return "debian"
    if flavour.initramfs is Initramfs.MKINITCPIO:
        return "arch"
    return "redhat" if flavour.selinux else "suse"


def contexts(flavour: Flavour) -> Iterator[tuple[str, Context]]:
    yield "UEFI, RAID1", make_context(of=flavour.name, licensed=bool(flavour.licence))
    yield "BIOS, one disk", make_context(of=flavour.name, firmware="bios", disks=1)
    if flavour.luks:
        yield "UEFI, LVM in LUKS on RAID1", encrypted_context(flavour.name)


def commands(ctx: Context) -> list[str]:
    """The commands of the steps licence and bootable, and what they write."""
    lines: list[str] = []
    for name in ("licence", "bootable"):
        generator = STEPS[name].commands
        assert generator
        for command in generator(ctx):
            # The same for all, with tests of its own.
            if phonehome.NAME not in shown(command):
                lines += [f"$ {shown(command)}", *(f"    {line}".rstrip() for line in detail(command).splitlines())]
    return lines


def difference(before: list[str], after: list[str]) -> list[str]:
    """What changes, without where."""
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def golden_text(flavour: Flavour) -> str:
    model = FLAVOURS[SHOWN_IN_FULL[family(flavour)]]
    of_model = {name: commands(ctx) for name, ctx in contexts(model)}
    lines: list[str] = []
    for name, ctx in contexts(flavour):
        if flavour is not model:
            lines += [f"## {name}: what differs from {model.name}", *difference(of_model[name], commands(ctx))]
        elif not lines:
            lines += [f"## {name}", *of_model[name]]
        else:
            lines += [f"## {name}: what differs from {next(iter(of_model))}"]
            lines += difference(next(iter(of_model.values())), of_model[name])
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda one: one.name)
def test_the_commands_of_a_flavour_are_those_that_were_read_and_approved(flavour: Flavour) -> None:
    file = GOLDEN / f"{flavour.name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(golden_text(flavour))
    assert golden_text(flavour) == file.read_text()


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda one: one.name)
def test_the_scripts_of_a_flavour_are_ones_that_bash_understands_and_hold_no_secret_in_clear(flavour: Flavour) -> None:
    for _, ctx in contexts(flavour):
        text = "".join(script(STEPS[name].commands(ctx)) for name in ("licence", "bootable"))  # type: ignore[misc]
        checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert not [secret for secret in (*TOKENS, ACTIVATION_KEY) if secret in text]


def written(ctx: Context, path: str) -> str:
    """What the last command that writes this file of the new system writes."""
    contents = [one.content for one in bootable(ctx) if isinstance(one, WriteFile) and one.path == TARGET + path]
    assert isinstance(contents[-1], str)
    return contents[-1]


def test_grub_s_configuration_is_never_written_over_the_stub_of_a_signed_loader() -> None:
    stubs = [one for one in FLAVOURS.values() if one.grub.efi_loader is EfiLoader.SIGNED_STUB]
    assert {"rhel-9", "rhel-10", "rocky-9", "alma-10", "fedora-43"} <= {one.name for one in stubs}
    for flavour in stubs:
        lines = [shown(command) for command in bootable(make_context(of=flavour.name))]
        assert not [line for line in lines if "mkconfig" in line and "/boot/efi" in line], flavour.name


def test_a_stub_finds_boot_by_its_uuid_wherever_it_is() -> None:
    stub = "/boot/efi/EFI/redhat/grub.cfg"
    ctx, apart = make_context(of="rhel-9"), encrypted_context("rhel-9")
    boot = next(one for one in apart.plan.filesystems if one.mount == "/boot")
    assert f"--set=dev {ctx.plan.root.uuid}\nset prefix=($dev)/boot/grub2\n" in written(ctx, stub)
    assert f"--set=dev {boot.uuid}\nset prefix=($dev)/grub2\n" in written(apart, stub)


def test_a_data_array_is_not_waited_for_at_the_start() -> None:
    layout = Layout("data", (Filesystem("/", size=5 << 30), Filesystem("/srv", raid=Raid.RAID1)))
    ctx = make_context(of="rhel-9", layout=layout)
    assert ctx.plan.arrays and "rd.md.uuid" not in written(ctx, "/etc/default/grub")


def test_the_initramfs_is_told_of_every_level_below_the_root() -> None:
    for name, words in {
        "rhel-9": ("rd.md.uuid=", "rd.luks.uuid=", "rd.lvm.lv=system/root"),
        "arch": ("rd.luks.name=",),
    }.items():
        cmdline = written(encrypted_context(name), "/etc/default/grub")
        assert all(word in cmdline for word in words), cmdline


def test_only_a_container_below_the_root_is_opened_by_the_initramfs() -> None:
    assert ",initramfs" in written(encrypted_context("debian-12"), "/etc/crypttab")
    assert "initramfs" not in written(encrypted_context("debian-12", "/srv"), "/etc/crypttab")


def test_a_flavour_is_called_tested_only_where_a_machine_of_the_lab_was_logged_into() -> None:
    assert {"debian-12"} <= {one.name for one in FLAVOURS.values() if one.tested_here} <= {
        "debian-11", "debian-12", "debian-13",
    }  # fmt: skip


def packages_asked_for(ctx: Context) -> list[str]:
    line = next(shown(command) for command in bootable(ctx) if " packages " in shown(command))
    return line.split(" packages ")[1].split()


def test_the_packages_are_those_that_the_plan_needs() -> None:
    always = ["linux-image-amd64", "initramfs-tools", "grub2-common"]
    assert packages_asked_for(make_context(firmware="bios", disks=1)) == [*always, "grub-pc-bin"]
    assert packages_asked_for(encrypted_context()) == [
        *always, "grub-efi-amd64-bin", "mdadm", "lvm2", "cryptsetup-initramfs",
    ]  # fmt: skip
