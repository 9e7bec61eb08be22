"""The command line of a virtual machine follows from its specification alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import pytest

from lab import GIB, Bus, MachineSpec, mac_of
from lab.__main__ import machine
from lab.spec import Accelerator, autoexec, qemu_argv

URL = "http://10.0.2.2:8000"
FOLDER = Path("/lab/oak")


def oak(firmware: Literal["bios", "uefi"] = "bios", disks: int = 1) -> MachineSpec:
    return MachineSpec("oak", firmware, (GIB,) * disks, ssh_port=2201)


def line_of(spec: MachineSpec, accelerator: Accelerator = Accelerator.TCG) -> str:
    return " ".join(qemu_argv(spec, FOLDER, URL, accelerator))


def test_a_name_always_has_the_same_mac_and_another_name_another() -> None:
    assert mac_of("oak") == mac_of("oak") == oak().mac
    assert mac_of("oak") != mac_of("elm")
    assert mac_of("oak").startswith("52:54:00:")


def test_a_mac_that_was_chosen_is_kept() -> None:
    spec = MachineSpec("oak", "bios", (GIB,), 2201, mac="02:00:00:00:00:01")
    assert "mac=02:00:00:00:00:01" in line_of(spec)


def test_a_bios_machine_asks_the_controller_by_the_rom_of_its_card() -> None:
    line = line_of(oak("bios"))
    assert f"bootfile={URL}/boot/{mac_of('oak').replace(':', '-')}" in line
    assert "pflash" not in line and "tftp=" not in line


def test_a_uefi_machine_loads_our_own_ipxe_which_asks_the_controller() -> None:
    line = line_of(oak("uefi"))
    assert "tftp=/lab/oak/tftp,bootfile=snponly.efi" in line
    assert "romfile= " in line + " "
    assert "file=/lab/oak/efi-vars.fd" in line
    assert f"chain {URL}/boot/{mac_of('oak').replace(':', '-')}" in autoexec(oak("uefi"), URL)


def test_the_network_comes_before_every_disk() -> None:
    argv = qemu_argv(oak(disks=3), FOLDER, URL, Accelerator.TCG)
    order = [(int(word.partition("bootindex=")[2].partition(",")[0]), word) for word in argv if "bootindex=" in word]
    assert [word.partition(",")[0] for _, word in sorted(order)] == ["virtio-net-pci"] + ["virtio-blk-pci"] * 3


def test_every_disk_has_a_serial_number_of_its_own_that_virtio_does_not_cut() -> None:
    serials = {oak(disks=4).disk_serial(number) for number in range(4)} | {oak().disk_serial(0)}
    assert len(serials) == 4
    assert all(len(serial) <= 20 for serial in serials)


def test_everything_listens_on_loopback() -> None:
    argv = qemu_argv(oak(), FOLDER, URL, Accelerator.TCG)
    assert ["hostfwd=tcp:127.0.0.1:2201-:22" in word for word in argv if "hostfwd" in word] == [True]
    assert not any("0.0.0.0" in word or "vnc" in word for word in argv)


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [(Accelerator.KVM, "-accel kvm -cpu host"), (Accelerator.TCG, "-accel tcg,thread=multi")],
)
def test_the_accelerator_is_the_one_that_works(accelerator: Accelerator, expected: str) -> None:
    assert expected in line_of(oak(), accelerator)


def test_a_machine_is_described_in_words() -> None:
    spec = machine("name=elm,firmware=uefi,disks=8G+512M,ssh=2202,memory=3072")
    assert spec == MachineSpec("elm", "uefi", (8 * GIB, GIB // 2), 2202, 3072)


@pytest.mark.parametrize(
    "text", ["name=elm", "name=elm,firmware=openboot,disks=8G,ssh=22", "name=elm,firmware=bios,disks=8X,ssh=22", "elm"]
)
def test_a_description_that_makes_no_sense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"e\.g\. name=oak"):
        machine(text)


def test_disks_are_what_the_specification_says() -> None:
    spec = MachineSpec("fir", "uefi", (GIB, GIB), 2203, bus=Bus.NVME, sector=4096)
    line = line_of(spec)
    assert line.count("-device nvme,id=disk") == 2
    assert line.count("logical_block_size=4096,physical_block_size=4096") == 2
    assert "logical_block_size" not in line_of(oak())


def test_a_512e_disk_stores_in_larger_blocks_than_it_speaks_of() -> None:
    line = line_of(MachineSpec("fir", "bios", (GIB,), 2203, physical=4096))
    assert line.count("logical_block_size=512,physical_block_size=4096") == 1


def test_each_disk_may_have_blocks_of_its_own() -> None:
    spec = MachineSpec("fir", "uefi", (GIB,) * 3, 2203, sectors=(512, 512, 4096), physicals=(512, 4096, 4096))
    assert [spec.disk_blocks(number) for number in range(3)] == [(512, 512), (512, 4096), (4096, 4096)]
    argv = qemu_argv(spec, FOLDER, URL, Accelerator.TCG)
    devices = [word for word in argv if word.startswith("virtio-blk-pci")]
    assert ["physical_block_size=4096" in word for word in devices] == [False, True, True]
    assert ["logical_block_size=4096" in word for word in devices] == [False, False, True]


def test_a_disk_that_was_pulled_is_not_there_and_the_others_keep_their_names() -> None:
    line = " ".join(qemu_argv(oak(disks=2), FOLDER, URL, Accelerator.TCG, pulled={0}))
    assert "disk0" not in line
    assert f"id=disk1,drive=drive1,serial={oak().disk_serial(1)}" in line
