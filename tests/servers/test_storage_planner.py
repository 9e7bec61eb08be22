"""Plans for machines that one meets, mended and refused ones too; what holds for every plan is in the properties."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest

from servers.facts import Firmware
from servers.storage.layout import REST, Filesystem, FsType, Layout, Raid, plain, raid1
from servers.storage.plan import ConfigDriveKind, PartitionType, Plan
from servers.storage.planner import ESP_SIZE, ImageNeeds, plan
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import GIB, MIB
from tests.servers.builders import IMAGE, SEED, make_disk, make_facts, make_plan

MIRROR = Raid.RAID1


def refusal_of(layout: Layout, *disks: object, image: ImageNeeds = IMAGE) -> PlanImpossible:
    with pytest.raises(PlanImpossible) as refusal:
        plan(layout, make_facts(*disks) if disks else replace(make_facts(), disks=()), image, SEED)  # type: ignore[arg-type]
    assert refusal.value.why.endswith(".") and refusal.value.fix.endswith(".")
    return refusal.value


def names(made: Plan) -> list[list[str]]:
    return [[partition.name for partition in disk.partitions] for disk in made.disks]


def test_a_plain_uefi_disk_has_esp_root_and_config_drive() -> None:
    made = make_plan(plain(), make_disk())
    assert names(made) == [["esp", "root", "config-2"]]
    assert made.arrays == () and made.swaps == () and made.notes == ()
    assert made.root.device == "/dev/vda2" and made.root.options == ("errors=remount-ro",)
    assert [(esp.mount, esp.options) for esp in made.esps] == [("/boot/efi", ("umask=0077",))]
    assert made.summary() == ("No RAID, on 1 x 20 GiB",)


def test_a_plain_bios_disk_starts_from_a_bios_boot_partition_and_has_no_esp() -> None:
    made = make_plan(plain(), make_disk(), firmware=Firmware.BIOS)
    assert names(made) == [["bios-boot", "root", "config-2"]]
    assert made.disks[0].partitions[0].type is PartitionType.BIOS_BOOT
    assert made.disks[0].partitions[0].size == MIB
    assert made.esps == ()


def test_a_mirror_has_two_equal_disks_that_the_machine_can_start_from() -> None:
    made = make_plan(raid1(swap=2 * GIB), make_disk(0), make_disk(1))
    assert names(made) == [["esp", "root", "swap", "config-2"], ["esp", "root", "swap"]]
    first, second = made.disks
    assert [(one.start, one.size) for one in first.partitions[:3]] == [
        (one.start, one.size) for one in second.partitions
    ]
    assert made.boot_group == ("/dev/vda", "/dev/vdb")
    assert [(array.path, array.members) for array in made.arrays] == [
        ("/dev/md/root", ("/dev/vda2", "/dev/vdb2")),
        ("/dev/md/swap", ("/dev/vda3", "/dev/vdb3")),
    ]
    assert [esp.mount for esp in made.esps] == ["/boot/efi", "/boot/efi2"]
    assert all(esp.size == ESP_SIZE and "nofail" in esp.options for esp in made.esps)
    assert made.swaps[0].device == "/dev/md/swap" and made.swaps[0].size == 2 * GIB
    assert made.summary() == ("RAID1 on 2 x 20 GiB",)


def test_no_esp_lies_on_an_array() -> None:
    made = make_plan(raid1(), make_disk(0), make_disk(1))
    members = {member for array in made.arrays for member in array.members}
    assert not members & {esp.device for esp in made.esps}


def test_a_mirror_over_unlike_disks_is_as_large_as_the_smaller() -> None:
    made = make_plan(raid1(), make_disk(0, 40 * GIB), make_disk(1, 20 * GIB))
    assert made.root.size < 20 * GIB
    assert made.summary() == ("RAID1 on 40 GiB and 20 GiB",)


def test_disks_whose_names_end_in_a_digit_have_a_p_before_the_partition() -> None:
    made = make_plan(plain(), make_disk(path="/dev/nvme0n1"))
    assert [one.path for one in made.disks[0].partitions] == ["/dev/nvme0n1p1", "/dev/nvme0n1p2", "/dev/nvme0n1p3"]


def test_file_systems_have_names_of_their_own_whatever_they_are_mounted_at() -> None:
    mounts = ("/", "/root", "/swap", "/var/lib", "/var-lib", "/127", "/Home")
    wanted = tuple(Filesystem(mount, size=REST if mount == "/" else GIB, raid=MIRROR) for mount in mounts)
    made = make_plan(Layout("custom", wanted, swap=GIB), make_disk(0), make_disk(1))
    assert [array.name for array in made.arrays] == [
        "root", "root-2", "swap-2", "var-lib", "var-lib-2", "fs-127", "home", "swap",
    ]  # fmt: skip


def test_the_root_comes_first_wherever_the_layout_lists_it() -> None:
    made = make_plan(Layout("custom", (Filesystem("/srv", size=GIB), Filesystem("/"))), make_disk())
    assert names(made) == [["esp", "root", "srv", "config-2"]]
    assert [one.mount for one in made.filesystems] == ["/", "/srv"]


def test_mounts_come_after_what_they_lie_in() -> None:
    wanted = (Filesystem("/var/lib", size=GIB), Filesystem("/"), Filesystem("/var", size=GIB))
    made = make_plan(Layout("custom", wanted), make_disk())
    assert [one.mount for one in made.mounts] == ["/", "/var", "/boot/efi", "/var/lib"]


def test_a_disk_with_4096_byte_blocks_gets_a_vfat_config_drive_and_the_plan_says_so() -> None:
    made = make_plan(plain(), make_disk(logical_block=4096))
    assert made.config_drive.kind is ConfigDriveKind.VFAT and made.config_drive.size == 4 * MIB
    (note,) = made.notes
    assert note.startswith("The config drive is vfat and has 4 MiB: /dev/vda has blocks of 4096 bytes")


def test_a_disk_with_512_byte_blocks_gets_an_iso_at_its_end() -> None:
    made = make_plan(raid1(), make_disk(0), make_disk(1))
    assert (made.config_drive.kind, made.config_drive.partition) == (ConfigDriveKind.ISO9660, "/dev/vda3")
    assert made.disks[0].partitions[-1].end == 20 * GIB - MIB


def test_a_mirror_on_one_disk_is_lowered_and_the_plan_says_so() -> None:
    made = make_plan(raid1(swap=GIB), make_disk())
    assert made.arrays == ()
    assert made.notes == ("/ is on one disk without RAID: RAID1 needs 2 disks, and 1 disk can be used.",)


def test_too_large_sizes_are_shrunk_in_proportion_and_the_plan_says_so() -> None:
    wanted = (Filesystem("/", size=10 * GIB), Filesystem("/home", size=40 * GIB))
    made = make_plan(Layout("custom", wanted), make_disk())
    root, home = made.filesystems
    assert IMAGE.root_floor < root.size < 10 * GIB < home.size < 20 * GIB
    assert made.notes == (
        "/ shrunk from 10 GiB to 5.18 GiB: the disks are smaller.",
        "/home shrunk from 40 GiB to 14.3 GiB: the disks are smaller.",
    )


def test_a_root_that_is_smaller_than_the_image_is_grown_and_the_plan_says_so() -> None:
    made = make_plan(Layout("custom", (Filesystem("/", size=GIB), Filesystem("/srv"))), make_disk())
    assert made.root.size == IMAGE.root_floor > IMAGE.root_bytes
    assert made.notes == ("/ grown from 1 GiB to 2.5 GiB: the image needs that much.",)


def test_a_plain_layout_on_two_disks_erases_the_second_and_says_so() -> None:
    made = make_plan(plain(), make_disk(0), make_disk(1))
    assert made.erased == ("/dev/vda", "/dev/vdb") and names(made)[1] == []
    assert made.boot_group == ("/dev/vda",)
    assert made.notes == ("/dev/vdb (20 GiB) is erased and left empty: this layout uses one disk.",)
    assert made.losses("web-14") == "Both disks of web-14 will be erased."


def test_disks_that_are_not_chosen_are_kept() -> None:
    made = make_plan(plain(disks=("SERIAL1",)), make_disk(0), make_disk(1))
    assert made.erased == ("/dev/vdb",)
    assert [(disk.path, disk.asked) for disk in made.kept] == [("/dev/vda", False)]
    assert made.losses("web-14") == "1 of 2 disks of web-14 will be erased: /dev/vdb (20 GiB). 1 disk is kept."


def test_a_kept_disk_is_named_by_wwn_or_serial_number() -> None:
    disks = (make_disk(0, wwn="0xA"), make_disk(1), make_disk(2))
    for keep in (("0xa",), ("serial0",)):
        made = make_plan(raid1(keep=keep), *disks)
        assert made.erased == ("/dev/vdb", "/dev/vdc")
        assert [(disk.path, disk.asked) for disk in made.kept] == [("/dev/vda", True)]


def test_a_data_mirror_beside_a_plain_root_leaves_one_disk_to_start_from() -> None:
    wanted = (Filesystem("/", size=8 * GIB), Filesystem("/srv", raid=MIRROR))
    made = make_plan(Layout("custom", wanted), make_disk(0), make_disk(1))
    assert names(made) == [["esp", "root", "srv", "config-2"], ["srv"]]
    assert made.boot_group == ("/dev/vda",) and len(made.esps) == 1


def test_the_same_seed_gives_the_same_plan_and_another_seed_other_uuids() -> None:
    facts = make_facts(make_disk(0), make_disk(1))
    one, again = (plan(raid1(), facts, IMAGE, SEED) for _ in range(2))
    other = plan(raid1(), facts, IMAGE, UUID(int=7))
    assert one == again
    assert one.root.uuid != other.root.uuid and one.disks[0].uuid != other.disks[0].uuid
    assert one.esps[0].uuid != other.esps[0].uuid


def test_a_plan_agrees_with_itself_after_an_inspection_that_found_serial_numbers() -> None:
    entered = make_plan(raid1(), make_disk(0, serial="", model=""), make_disk(1, serial="", model=""))
    inspected = make_plan(raid1(), make_disk(0), make_disk(1))
    assert entered != inspected and entered.agrees_with(inspected) and inspected.agrees_with(entered)


def test_a_plan_does_not_agree_with_one_for_other_disks() -> None:
    approved = make_plan(raid1(), make_disk(0), make_disk(1))
    for other in (
        make_plan(raid1(), make_disk(0), make_disk(1, serial="SWAPPED")),
        make_plan(raid1(), make_disk(0), make_disk(1, wwn="0xB"), make_disk(2)),
        make_plan(raid1(), make_disk(0, 21 * GIB), make_disk(1)),
        make_plan(raid1(swap=GIB), make_disk(0), make_disk(1)),
        make_plan(raid1(keep=("SERIAL2",)), make_disk(0), make_disk(1), make_disk(2)),
    ):
        assert not approved.agrees_with(other)


def test_a_plan_of_an_older_version_is_still_read() -> None:
    data = make_plan(plain(), make_disk()).to_json()
    data["a key of tomorrow"] = 1
    assert Plan.from_json(json.loads(json.dumps(data))) == make_plan(plain(), make_disk())


# What is refused


def test_a_machine_without_disks_is_refused() -> None:
    assert refusal_of(plain()).why == "No disk is left to install on: 0 disks seen, 0 of them kept."


def test_keeping_every_disk_is_refused() -> None:
    assert "1 disk seen, 1 of them kept" in refusal_of(plain(keep=("SERIAL0",)), make_disk()).why


def test_an_image_larger_than_the_disk_is_refused_with_both_numbers() -> None:
    why = refusal_of(plain(), make_disk(size=8 * GIB), image=ImageNeeds(root_bytes=20 * GIB)).why
    assert why == "The system needs 22.8 GiB on a disk that has 7.5 GiB to give (/ 22.8 GiB)."


def test_a_disk_smaller_than_its_esp_is_refused() -> None:
    assert "has 0 B to give" in refusal_of(plain(), make_disk(size=100 * MIB)).why


def test_a_kept_disk_that_is_gone_is_refused_and_the_disks_that_are_there_are_named() -> None:
    why = refusal_of(plain(keep=("S-GONE",)), make_disk()).why
    assert "S-GONE" in why and "vda 20 GiB SERIAL0" in why


def test_a_chosen_disk_that_is_gone_is_refused() -> None:
    assert "The name S-GONE fits 0 of the disks" in refusal_of(plain(disks=("S-GONE",)), make_disk()).why


def test_a_serial_number_that_two_disks_share_chooses_none_of_them() -> None:
    disks = (make_disk(0, serial="S"), make_disk(1, serial="S"))
    assert "fits 2 of the disks" in refusal_of(plain(disks=("S",)), *disks).why


def test_a_serial_number_that_two_disks_share_keeps_both() -> None:
    made = make_plan(plain(keep=("S",)), make_disk(0, serial="S"), make_disk(1, serial="S"), make_disk(2))
    assert made.erased == ("/dev/vdc",) and all(disk.asked for disk in made.kept)


def test_a_stale_config_drive_on_a_disk_that_stays_is_refused() -> None:
    disks = (make_disk(0), make_disk(1, config_drive=True))
    assert "/dev/vdb is kept and carries an old config drive" in refusal_of(plain(keep=("SERIAL1",)), *disks).why
    assert "/dev/vdb is kept" in refusal_of(plain(disks=("SERIAL0",)), *disks).why


def test_a_stale_config_drive_on_a_disk_that_is_erased_does_not_matter() -> None:
    assert make_plan(plain(), make_disk(config_drive=True)).notes == ()


def test_an_array_over_a_kept_and_an_erased_disk_is_refused() -> None:
    disks = (make_disk(0, holders=("/dev/md127",)), make_disk(1, holders=("/dev/md127", "/dev/mapper/vg-x")))
    why = refusal_of(plain(keep=("SERIAL1",)), *disks).why
    assert why == "/dev/md127 lies on /dev/vdb, which is kept, and on /dev/vda, which would be erased."


def test_a_file_system_that_the_image_cannot_mount_is_refused() -> None:
    image = ImageNeeds(root_bytes=GIB, filesystems=frozenset({"xfs"}))
    assert refusal_of(plain(), make_disk(), image=image).fix == "Choose one of xfs for it."


def test_a_mirror_is_refused_where_the_image_has_no_mdadm() -> None:
    image = ImageNeeds(root_bytes=GIB, raid=False)
    assert "no mdadm" in refusal_of(raid1(), make_disk(0), make_disk(1), image=image).why
    assert make_plan(raid1(), make_disk(), image=image).arrays == ()


def test_blocks_of_520_bytes_are_refused() -> None:
    assert "blocks of 520 bytes" in refusal_of(plain(), make_disk(logical_block=520)).why


def test_vfat_is_for_firmware_alone() -> None:
    made = make_plan(raid1(), make_disk(0), make_disk(1))
    assert {one.type for one in made.filesystems} == {FsType.EXT4} and {one.type for one in made.esps} == {FsType.VFAT}
