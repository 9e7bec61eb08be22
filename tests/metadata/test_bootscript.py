from pathlib import Path

import pytest

from accounts.secret import Secret
from metadata.bootscript import disk_script, rescue_script
from servers.facts import Firmware

GOLDEN = Path(__file__).with_name("golden")
URL = "http://10.0.2.2:8600"
MAC = "52:54:00:12:34:56"


def make_rescue_script(kernel_args: str = "console=ttyS0,115200 quiet") -> str:
    return rescue_script(URL, kernel_args, Secret("Zm9vYmFy_-token"), MAC)


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("rescue", make_rescue_script()),
        ("disk-bios", disk_script(Firmware.BIOS)),
        ("disk-uefi", disk_script(Firmware.UEFI, "/EFI/debian/grubx64.efi")),
        ("disk-uefi-unknown-loader", disk_script(Firmware.UEFI)),
    ],
)
def test_the_script_is_the_one_we_agreed_on(name: str, script: str) -> None:
    assert script == (GOLDEN / f"{name}.ipxe").read_text()


def test_the_initramfs_is_named_once_whether_or_not_the_rescue_system_says_so() -> None:
    for kernel_args in ("quiet", "initrd=initrd.img quiet"):
        (kernel,) = [line for line in make_rescue_script(kernel_args).splitlines() if line.startswith("kernel")]
        assert kernel.split().count("initrd=initrd.img") == 1


def test_every_download_has_a_way_back() -> None:
    downloads = [
        line for line in make_rescue_script().splitlines() if line.startswith(("kernel", "initrd", "boot", "chain"))
    ]
    assert len(downloads) == 4
    assert all(line.endswith("|| goto again") for line in downloads)


def test_no_attempt_at_a_disk_ends_the_script_before_exit() -> None:
    for script in (disk_script(Firmware.BIOS), disk_script(Firmware.UEFI, r"\EFI\debian\grubx64.efi")):
        *before, last = script.splitlines()
        assert last == "exit 1"
        assert all(line.endswith("||") for line in before if line.startswith("sanboot"))


def test_a_bios_comes_to_a_system_that_lies_behind_many_other_disks() -> None:
    tried = [line.split()[3] for line in disk_script(Firmware.BIOS).splitlines() if line.startswith("sanboot")]
    assert (tried[0], tried[4], tried[-1], len(tried)) == ("0x80", "0x84", "0x8f", 16)


def test_a_loader_is_the_same_with_either_slash() -> None:
    assert disk_script(Firmware.UEFI, "EFI/debian/grubx64.efi") == disk_script(
        Firmware.UEFI, r"\EFI\debian\grubx64.efi"
    )


@pytest.mark.parametrize(
    "loader", ["/EFI/a b.efi", "/EFI/${net0/mac}", "/EFI/x.efi\nshell", "//", "/EFI/x.efi || shell"]
)
def test_a_loader_that_would_steer_ipxe_is_refused(loader: str) -> None:
    with pytest.raises(ValueError, match="EFI loader"):
        disk_script(Firmware.UEFI, loader)


@pytest.mark.parametrize(
    "kernel_args", ["quiet || shell", "a ; b", "a && b", "quiet #x", "ip=${ip}", "quiet\nshell", "é"]
)
def test_kernel_arguments_that_would_steer_ipxe_are_refused(kernel_args: str) -> None:
    with pytest.raises(ValueError, match="kernel arguments"):
        make_rescue_script(kernel_args)


def test_a_comma_a_dot_or_a_hash_inside_a_word_is_fine() -> None:
    assert " a#b console=ttyS0,115200n8 " in make_rescue_script("a#b console=ttyS0,115200n8")
