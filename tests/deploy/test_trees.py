"""The scripts of the steps licence and bootable, run for real in trees of every distribution with stand-in programs."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from deploy.certificate import Finding, before_reboot
from deploy.errors import of_command
from deploy.step import Context
from deploy.steps.bootable import bootable
from deploy.steps.finish import asked, read_back
from deploy.steps.licence import licence
from images.flavours import FLAVOURS, Flavour
from tests.deploy.contexts import ACTIVATION_KEY, make_context
from tests.deploy.stacks import encrypted_context
from tests.deploy.trees import NEWER, OLD_ID, Tree, in_a_tree, layout, make_tree

pytestmark = in_a_tree

ONE_OF_EACH = ("debian-12", "rhel-7", "rhel-8", "rhel-9", "opensuse-leap-15", "arch")


def made_bootable(tree: Tree, ctx: Context) -> Tree:
    done = tree.run([*bootable(ctx)])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return tree


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda one: one.name)
def test_a_mirrored_uefi_server_gets_equal_esps_and_starts_from_its_own_root(tmp_path: Path, flavour: Flavour) -> None:
    ctx = make_context(of=flavour.name)
    resolver = make_tree(tmp_path, flavour).path / "etc/resolv.conf"
    before = (resolver.is_symlink(), resolver.read_text() if resolver.is_file() else "")
    tree = made_bootable(Tree(tmp_path / "tree"), ctx)
    esp = tree.files("/boot/efi")
    assert tree.files("/boot/efi2") == esp
    assert "EFI/BOOT/BOOTX64.EFI" in esp and "EFI/BOOT/fbx64.efi" not in esp
    assert re.fullmatch(r"[0-9a-f]{32}\n?", tree.read("/etc/machine-id")) and OLD_ID not in tree.read("/etc/machine-id")
    assert str(ctx.plan.root.uuid) in tree.read("/etc/fstab")
    # the installed system's own resolver, and not the rescue system's
    assert (resolver.is_symlink(), resolver.read_text() if resolver.is_file() else "") == before
    made = [one for one in tree.changes() if one in ("update-initramfs", "dracut", "mkinitcpio")]
    assert made == [flavour.initramfs.value.replace("initramfs-tools", "update-initramfs")]
    configuration = tree.read(f"{flavour.grub.folder}/grub.cfg")
    assert flavour.console in configuration and "partuuid=old" not in configuration
    if flavour.grub.bls:
        entries = tree.files("/boot/loader/entries")
        machine = tree.read("/etc/machine-id").strip()
        assert len(entries) == 2 and all(name.startswith(f"{machine}-") for name in entries)
        assert all(f"options root=UUID={ctx.plan.root.uuid} ro {flavour.console}" in text for text in entries.values())
        assert f"linux /boot/vmlinuz-{layout(flavour).version}\n" in "".join(entries.values())
    if flavour.grub.efi_signed:
        assert esp["EFI/BOOT/BOOTX64.EFI"] == "shimx64.efi of the image"
        assert esp["EFI/BOOT/grub.cfg"] == esp[f"EFI/{flavour.grub.efi_folder}/grub.cfg"] != "grub.cfg of the image"


def certified(tree: Tree, ctx: Context, *topics: str) -> list[Finding]:
    """What the certificate says on these topics, read by the probe in the tree as it does on the rescue system."""
    done = tree.run([*read_back(ctx)])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = json.loads(tree.path.with_name("result").read_text())
    return [one for one in before_reboot(asked(ctx), ctx.plan, seen).findings if one.topic in topics]


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda one: one.name)
def test_the_certificate_finds_the_kernel_and_its_initramfs(tmp_path: Path, flavour: Flavour) -> None:
    ctx = make_context(of=flavour.name)
    tree = made_bootable(make_tree(tmp_path, flavour), ctx)
    found = certified(tree, ctx, "initramfs")
    assert [one.sentence() for one in found if not one.ok] == []
    versions = [one.what.removeprefix("drivers for ") for one in found if one.what.startswith("drivers for ")]
    assert versions == [layout(flavour).version, *([NEWER] if flavour.grub.bls else [])]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_tables_and_the_loaders_are_certified_as_they_were_written(tmp_path: Path, name: str) -> None:
    ctx = encrypted_context(name) if FLAVOURS[name].luks else make_context(of=name)
    tree = made_bootable(make_tree(tmp_path, FLAVOURS[name]), ctx)
    found = certified(tree, ctx, "fstab", "initramfs", "network", "boot")
    assert [one.sentence() for one in found if not one.ok] == []
    assert {one.what.partition(":")[0] for one in found} >= {"mdadm.conf", "/boot/efi", "all ESPs"}
    loader = hashlib.sha256((tree.path / "boot/efi/EFI/BOOT/BOOTX64.EFI").read_bytes()).hexdigest()
    assert [one.found for one in found if one.what.startswith("/boot/efi") and one.topic == "boot"] == [
        f"SHA-256 {loader}", f"SHA-256 {loader}",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_bios_server_gets_grub_on_each_disk(tmp_path: Path, name: str) -> None:
    flavour = FLAVOURS[name]
    tree = made_bootable(make_tree(tmp_path, flavour), make_context(of=name, firmware="bios"))
    installs = [call for call in tree.calls() if call.startswith(f"{flavour.grub.install} ")]
    assert [call.split()[-1] for call in installs] == ["/dev/vda", "/dev/vdb"]


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if FLAVOURS[name].luks])
def test_a_boot_of_its_own_is_where_the_menu_s_entries_look(tmp_path: Path, name: str) -> None:
    tree = made_bootable(make_tree(tmp_path, FLAVOURS[name]), encrypted_context(name))
    assert (tree.path / "etc/crypttab").stat().st_mode & 0o777 == 0o600
    if FLAVOURS[name].grub.bls:
        assert f"linux /vmlinuz-{layout(FLAVOURS[name]).version}\n" in "".join(
            tree.files("/boot/loader/entries").values()
        )


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_package_that_the_image_lacks_is_installed(tmp_path: Path, name: str) -> None:
    tree = made_bootable(make_tree(tmp_path, FLAVOURS[name], without=("mdadm",)), make_context(of=name))
    assert "mdadm" in tree.read("/installed").split()
    tool = FLAVOURS[name].package_tool.name
    assert tree.changes()[0] == tool


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_package_that_cannot_be_had_ends_the_step_before_anything_else(tmp_path: Path, name: str) -> None:
    tree = make_tree(tmp_path, FLAVOURS[name], without=("mdadm",))
    tree.write("/no-network")
    done = tree.run([*bootable(make_context(of=name))])
    assert done.returncode != 0
    assert set(tree.changes()) == {FLAVOURS[name].package_tool.name} | ({"pacman"} if name == "arch" else set())
    failure = of_command(
        "chroot /run/landfall/target sh -c …", done.returncode, (done.stdout + done.stderr).splitlines()
    )
    assert (failure.code, "mdadm" in failure.message) == ("package-missing", True)


def test_done_twice_is_done_once(tmp_path: Path) -> None:
    """The step is repeated after a crash."""
    ctx = encrypted_context("rhel-9")
    tree = make_tree(tmp_path, FLAVOURS["rhel-9"])
    made_bootable(tree, ctx)
    made_bootable(tree, ctx)
    machine = tree.read("/etc/machine-id").strip()
    assert {name.partition("-")[0] for name in tree.files("/boot/loader/entries")} == {machine}
    assert len(tree.files("/boot/loader/entries")) == 2


def test_the_initramfs_of_debian_gets_the_drivers_of_servers_and_no_resume(tmp_path: Path) -> None:
    tree = made_bootable(make_tree(tmp_path, FLAVOURS["debian-12"]), encrypted_context())
    added = next(call for call in tree.calls() if call.startswith("manual_add_modules")).split()
    assert {"megaraid_sas", "nvme", "mpt3sas", "raid1", "dm_crypt"} <= set(added)
    assert not (tree.path / "etc/initramfs-tools/conf.d/resume").exists()


def test_a_kernel_without_an_initramfs_is_given_one(tmp_path: Path) -> None:
    """As when an image came without any: update-initramfs -u would be content."""
    tree = make_tree(tmp_path, FLAVOURS["debian-12"])
    for name in ("vmlinuz-6.1.0-56-amd64", "initrd.img-6.1.0-56-amd64", "vmlinuz-6.1.0-57-amd64"):
        tree.write(f"/boot/{name}")
    made_bootable(tree, make_context())
    made = [call for call in tree.calls() if call.startswith("update-initramfs")]
    assert made == ["update-initramfs -u -k all", "update-initramfs -c -k 6.1.0-57-amd64"]


@pytest.mark.parametrize("name", ["rhel-7", "rhel-8", "rhel-9", "rhel-10"])
def test_a_system_is_registered_once_by_a_key_that_nobody_can_read_afterwards(tmp_path: Path, name: str) -> None:
    ctx = make_context(of=name, licensed=True)
    tree = make_tree(tmp_path, FLAVOURS[name])
    for _ in range(2):
        done = tree.run([*licence(ctx), *bootable(ctx)])
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert ACTIVATION_KEY not in done.stdout + done.stderr
    registered = [call for call in tree.calls() if " register " in call]
    assert registered == [
        f"subscription-manager register --org=12345 --name=web-14.example.net --activationkey={ACTIVATION_KEY}"
    ]
    assert not [call for call in tree.calls() if "attach" in call]
    # arguments of programs are for all to read
    assert ACTIVATION_KEY not in tree.read("/command-lines")
    written = [one for one in tree.path.rglob("*") if one.is_file() and one.name not in ("calls", "busybox")]
    assert not [one for one in written if ACTIVATION_KEY.encode() in one.read_bytes()]
    result = (tmp_path / "result").read_text()
    assert "service: https://subscription.rhsm.redhat.com:443/subscription\n-----BEGIN CERTIFICATE" in result
