"""Layouts on disks that do not allow them, or on which no machine would start: what is mended, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from servers.facts import Disk, Firmware, SeenPartition
from servers.storage.layout import (
    REST,
    DiskGroup,
    Filesystem,
    FsType,
    Layout,
    Raid,
    WantedVolumeGroup,
    lvm_on_raid1,
    plain,
    raid1,
)
from servers.storage.plan import PartitionType, Plan
from servers.storage.planner import ImageNeeds, plan
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import GIB, MIB, TIB
from tests.servers.builders import IMAGE, SEED, make_disk, make_facts, make_plan

ANY = replace(IMAGE, filesystems=frozenset({"ext4", "xfs", "btrfs"}))
VG = WantedVolumeGroup("system", Raid.RAID1)


def disks(count: int, **given: Any) -> tuple[Disk, ...]:
    return tuple(make_disk(number, **given) for number in range(count))


def made(layout: Layout, count: int = 1, image: ImageNeeds = ANY, **given: Any) -> Plan:
    return make_plan(layout, *disks(count, **given), image=image)


def refused(layout: Layout, *there: Disk, image: ImageNeeds = ANY) -> PlanImpossible:
    with pytest.raises(PlanImpossible) as refusal:
        plan(layout, make_facts(*there), image, SEED)
    assert refusal.value.why.endswith(".") and refusal.value.fix.endswith(".")
    return refusal.value


def custom(*filesystems: Filesystem, **more: Any) -> Layout:
    return Layout("custom", filesystems, **more)


# RAID


@pytest.mark.parametrize(
    ("asked", "count", "got"),
    [
        ("raid6", 4, "raid6"), ("raid6", 3, "raid5"), ("raid6", 2, "raid1"), ("raid6", 1, None),
        ("raid10", 5, "raid10"), ("raid10", 4, "raid10"), ("raid10", 3, "raid5"), ("raid10", 2, "raid1"),
        ("raid5", 3, "raid5"), ("raid5", 2, "raid1"), ("raid1", 2, "raid1"), ("raid1", 1, None),
        ("raid0", 2, "raid0"), ("raid0", 1, None),
    ],
)  # fmt: skip
def test_a_level_is_lowered_to_what_the_disks_allow_and_the_plan_says_so(asked: str, count: int, got: str) -> None:
    plan = made(custom(Filesystem("/"), Filesystem("/srv", size=GIB, raid=Raid(asked))), count)
    levels = {one.name: one.level.value for one in plan.arrays}
    assert levels.get("srv") == got
    notes = [note for note in plan.notes if note.startswith("/srv is on")]
    assert len(notes) == (asked != got) and all(f"and {count} disk" in note for note in notes)


def test_no_level_that_survives_a_disk_becomes_raid0() -> None:
    image = replace(ANY, raid_levels=frozenset({Raid.RAID0}))
    why = refused(custom(Filesystem("/", raid=Raid.RAID6)), *disks(4), image=image).why
    assert why == "/ is to lie on RAID6, and this image knows no such level (it knows RAID0)."


def test_a_level_that_the_image_does_not_know_is_lowered_too() -> None:
    image = replace(ANY, raid_levels=frozenset({Raid.RAID0, Raid.RAID1}))
    plan = made(custom(Filesystem("/", raid=Raid.RAID5)), 3, image)
    assert plan.notes == ("/ is on RAID1 in place of RAID5: this image knows no RAID5.",)


@pytest.mark.parametrize(
    ("level", "count", "disks_of_data"),
    [("raid0", 3, 3), ("raid5", 4, 3), ("raid6", 5, 3), ("raid10", 6, 3), ("raid1", 3, 1)],
)
def test_an_array_holds_what_its_level_leaves_of_its_disks(level: str, count: int, disks_of_data: int) -> None:
    plan = made(custom(Filesystem("/"), Filesystem("/srv", size=30 * GIB, raid=Raid(level)), disks=()), count)
    array = plan.arrays[0]
    member = next(one for one in plan.disks[0].partitions if one.name == "srv")
    assert array.size == (member.size - 8 * MIB) * disks_of_data


def test_raid10_over_five_disks_holds_half_of_them_to_the_mib() -> None:
    plan = made(custom(Filesystem("/", raid=Raid.RAID1, size=4 * GIB), Filesystem("/srv", raid=Raid.RAID10)), 5)
    srv = next(one for one in plan.arrays if one.name == "srv")
    assert srv.size % MIB == 0 and srv.size * 2 == 5 * (plan.disks[0].partitions[-2].size - 8 * MIB)


# /boot


@pytest.mark.parametrize(
    ("root", "more", "why"),
    [
        (Filesystem("/", raid=Raid.RAID5), {}, "on RAID5"),
        (Filesystem("/", raid=Raid.RAID0), {}, "on RAID0"),
        (Filesystem("/", raid=Raid.RAID1, encrypted=True), {}, "encrypted"),
        (Filesystem("/", volume_group="system"), {"volume_groups": (VG,)}, "in a volume group"),
        (Filesystem("/", FsType.XFS, raid=Raid.RAID1), {}, "of type xfs"),
        (Filesystem("/", FsType.BTRFS, raid=Raid.RAID1), {}, "of type btrfs"),
    ],
)
def test_a_boot_that_grub_can_read_is_added_on_every_disk_of_the_root(root: Filesystem, more: Any, why: str) -> None:
    plan = made(custom(root, **more), 3)
    boot = next(one for one in plan.filesystems if one.mount == "/boot")
    array = next(one for one in plan.arrays if one.path == boot.device)
    assert (boot.type, boot.size, array.level, len(array.members)) == (FsType.EXT4, GIB, Raid.RAID1, 3)
    assert plan.boot_group == plan.erased and len(plan.esps) == 3
    assert f"/boot of 1 GiB added: GRUB cannot start from a root that is {why}." in plan.notes
    # in front of all others, where every BIOS reaches it
    assert [one.name for one in plan.disks[0].partitions[:2]] == ["esp", "boot"]


def test_no_boot_is_added_where_grub_reads_the_root() -> None:
    image = replace(ANY, grub_reads=frozenset({"ext4", "xfs"}))
    assert made(custom(Filesystem("/", FsType.XFS, raid=Raid.RAID1)), 2, image).notes == ()


def test_a_boot_of_the_customers_own_is_mirrored_where_the_root_is() -> None:
    plan = made(custom(Filesystem("/", raid=Raid.RAID6), Filesystem("/boot", size=GIB)), 4)
    assert plan.boot_group == plan.erased
    assert plan.notes[0].startswith("/boot is on RAID1: else the server would not start without one disk")
    lowered = made(custom(Filesystem("/", raid=Raid.RAID6), Filesystem("/boot", size=GIB, raid=Raid.RAID6)), 4)
    assert lowered.notes == ("/boot is on RAID1: GRUB does not start from RAID6.",)


def test_a_boot_of_a_type_that_grub_cannot_read_is_refused() -> None:
    layout = custom(Filesystem("/"), Filesystem("/boot", FsType.BTRFS, GIB))
    assert refused(layout, make_disk()).why == "/boot is to be btrfs, which this image's GRUB cannot read."


def test_a_small_boot_is_grown() -> None:
    plan = made(custom(Filesystem("/"), Filesystem("/boot", size=100 * MIB)))
    assert plan.notes == ("/boot grown from 100 MiB to 512 MiB: kernels need that much.",)


# Volume groups, encryption


def test_the_stack_goes_from_partitions_over_md_and_luks_to_the_volumes() -> None:
    group = replace(VG, encrypted=True)
    layout = custom(Filesystem("/", size=8 * GIB, volume_group="system"), Filesystem("/home", volume_group="system"),
                    swap=GIB, volume_groups=(group,))  # fmt: skip
    plan = made(layout, 2)
    tower = plan.tower_of(plan.root.device)
    assert tower.title == "RAID1 system, encrypted, volume group system"
    assert plan.containers[0].device == "/dev/md/system"
    assert plan.volume_groups[0].devices == ("/dev/mapper/luks-system",)
    assert [(one.path, one.size) for one in plan.volumes[:1]] == [("/dev/system/root", 8 * GIB)]
    assert sum(one.size for one in plan.volumes) == plan.volume_groups[0].size
    assert plan.swaps[0].device == "/dev/system/swap"
    assert plan.summary() == ("RAID1 on 2 x 20 GiB, encrypted, LVM",)  # /boot beside it is not worth a word


def test_a_volume_group_of_a_size_leaves_what_nothing_takes() -> None:
    group = WantedVolumeGroup("data", size=6 * GIB)
    layout = custom(Filesystem("/"), Filesystem("/srv", size=2 * GIB, volume_group="data"), volume_groups=(group,))
    plan = made(layout)
    assert (plan.volume_groups[0].size, plan.volumes[0].size) == (6 * GIB, 2 * GIB)
    assert plan.disks[0].partitions[2].type is PartitionType.LVM


def test_an_empty_volume_group_is_made_for_later() -> None:
    plan = made(custom(Filesystem("/", size=8 * GIB), volume_groups=(WantedVolumeGroup("data"),)))
    assert plan.volumes == () and plan.volume_groups[0].size > 10 * GIB


def test_what_is_too_much_for_its_volume_group_is_shrunk_and_the_plan_says_so() -> None:
    group = WantedVolumeGroup("data", size=4 * GIB)
    parts = (Filesystem("/a", size=4 * GIB, volume_group="data"), Filesystem("/b", size=4 * GIB, volume_group="data"))
    plan = made(custom(Filesystem("/"), *parts, volume_groups=(group,)))
    assert [one.size for one in plan.volumes] == [2 * GIB, 2 * GIB]
    assert plan.notes[0] == "/a shrunk from 4 GiB to 2 GiB: the volume group data is no larger."


def test_a_container_on_blocks_of_4096_bytes_encrypts_by_these() -> None:
    layout = custom(Filesystem("/", encrypted=True))
    assert made(layout, logical_block=4096).containers[0].sector == 4096
    assert made(layout).containers[0].sector == 512
    assert made(layout).disks[0].partitions[2].type is PartitionType.LUKS


@pytest.mark.parametrize(
    ("lacks", "layout", "why"),
    [
        ({"lvm": False}, lvm_on_raid1(), "The layout has the volume group system, and this image has no lvm2."),
        ({"luks": False}, custom(Filesystem("/", encrypted=True)), "/ is to be encrypted, and this image has no crypt"),
        ({"raid": False}, lvm_on_raid1(), "system is to lie on RAID1, and this image has no mdadm."),
        ({"filesystems": frozenset({"ext4", "xfs"})}, custom(Filesystem("/"), Filesystem("/srv", FsType.BTRFS, GIB)),
         "/srv is to be btrfs, which this image cannot mount."),
    ],
)  # fmt: skip
def test_what_the_image_has_no_tools_for_is_refused(lacks: Any, layout: Layout, why: str) -> None:
    assert refused(layout, *disks(2), image=replace(ANY, **lacks)).why.startswith(why)


def test_a_volume_group_of_the_same_name_on_a_kept_disk_is_refused() -> None:
    kept = make_disk(1, holders=("/dev/mapper/system-old",))
    assert "has a volume group system already" in refused(lvm_on_raid1(keep=("SERIAL1",)), make_disk(), kept).why


def test_a_volume_group_whose_name_only_begins_the_same_is_no_reason_to_refuse() -> None:
    # the volume lv of the group system-x: the device mapper doubles the dashes of names
    kept = make_disk(1, holders=("/dev/mapper/system--x-lv",))
    assert make_plan(lvm_on_raid1(keep=("SERIAL1",)), make_disk(), kept).volume_groups[0].name == "system"


def test_an_array_is_called_otherwise_where_one_on_a_kept_disk_has_its_name() -> None:
    members = (SeenPartition("/dev/vdc1", GIB, "linux_raid_member", "any:root"),)
    kept = make_disk(2, partitions=members)
    layout = raid1(keep=("SERIAL2",), swap=GIB)
    planned = make_plan(layout, make_disk(0), make_disk(1), kept)
    assert [array.path for array in planned.arrays] == ["/dev/md/root-2", "/dev/md/swap"]
    assert planned.mounts[0].device == "/dev/md/root-2"
    assert any("The array of root is called root-2" in note for note in planned.notes)
    erased = make_plan(raid1(swap=GIB), make_disk(0), make_disk(1), kept)
    assert [array.name for array in erased.arrays] == ["root", "swap"]


# Groups of disks


def grouped(**more: Any) -> Layout:
    groups = (DiskGroup("ssd", ("SERIAL0", "SERIAL1")), DiskGroup("hdd", tuple(f"SERIAL{n}" for n in range(2, 6))))
    return custom(
        Filesystem("/", raid=Raid.RAID1, group="ssd"), Filesystem("/srv", FsType.XFS, REST, Raid.RAID6, "hdd"),
        groups=groups, **more,
    )  # fmt: skip


def test_each_group_carries_its_own_and_the_machine_starts_from_the_root_s() -> None:
    plan = made(grouped(swap=GIB), 6)
    assert [[one.name for one in disk.partitions] for disk in plan.disks] == [
        ["esp", "root", "swap", "config-2"], ["esp", "root", "swap"], *([["srv"]] * 4),
    ]  # fmt: skip
    assert plan.boot_group == ("/dev/vda", "/dev/vdb")
    assert plan.summary() == ("RAID1 on 2 x 20 GiB", "RAID6 on 4 x 20 GiB")


def test_a_disk_in_no_group_stays_where_nothing_lies_outside_of_groups() -> None:
    plan = made(grouped(), 7)
    assert [(disk.path, disk.asked) for disk in plan.kept] == [("/dev/vdg", False)]


def test_a_group_of_a_disk_that_is_gone_is_refused() -> None:
    assert "The name SERIAL5 fits 0 of the disks" in refused(grouped(), *disks(5)).why


def test_two_that_take_the_rest_of_a_disk_that_is_in_both_their_groups_are_refused() -> None:
    groups = (DiskGroup("a", ("SERIAL0", "SERIAL1")), DiskGroup("b", ("SERIAL1",)))
    layout = custom(Filesystem("/", raid=Raid.RAID1, group="a"), Filesystem("/srv", group="b"), groups=groups)
    assert (
        refused(layout, *disks(2)).why == "/ and /srv take the rest of the same disk, which is in the groups of both."
    )


def test_data_that_does_not_survive_a_disk_does_not_keep_a_mirrored_system_from_starting() -> None:
    plan = made(custom(Filesystem("/", raid=Raid.RAID1), Filesystem("/srv", size=GIB, encrypted=True)), 2)
    srv = next(one for one in plan.filesystems if one.mount == "/srv")
    # whose passphrase nobody has typed yet is waited for, and holds up nothing: nofail
    assert srv.options == ("nofail", "x-systemd.device-timeout=0") and plan.containers[0].lost_is_fine


def test_what_a_mirrored_system_needs_and_may_lose_is_told_and_holds_up_nothing_that_lies_beside_it() -> None:
    group = (WantedVolumeGroup("data", size=2 * GIB),)
    var = Filesystem("/var", size=GIB, volume_group="data")
    srv = Filesystem("/srv", size=64 * MIB, volume_group="data")
    plan = made(custom(Filesystem("/", raid=Raid.RAID1), var, srv, volume_groups=group), 2)
    assert {one.mount: one.options for one in plan.filesystems if one.mount in ("/var", "/srv")} == {
        "/var": (), "/srv": ("nofail",),
    }  # fmt: skip
    assert plan.notes == (
        "/var does not survive the loss of a disk, as / does: the server would not start without it.",
    )


# Sizes


def test_more_swap_than_a_quarter_of_the_disks_is_capped_and_the_plan_says_so() -> None:
    plan = made(custom(Filesystem("/"), swap=16 * GIB))
    assert plan.swaps[0].size < 5 * GIB
    assert plan.notes == ("swap capped from 16 GiB to 4.87 GiB: it gets a quarter of its disks at most.",)
    huge = made(custom(Filesystem("/"), swap=2 * TIB), size=30 * TIB)
    assert huge.swaps[0].size == TIB


def test_a_file_system_is_never_smaller_than_its_type_allows() -> None:
    plan = made(custom(Filesystem("/"), Filesystem("/srv", FsType.XFS, 64 * MIB)))
    assert plan.notes == ("/srv grown from 64 MiB to 320 MiB: xfs needs that much.",)


def test_a_vfat_behind_its_end_is_refused() -> None:
    layout = custom(Filesystem("/", size=8 * GIB), Filesystem("/srv", FsType.VFAT))
    assert "vfat ends at 2 TiB" in refused(layout, make_disk(size=4 * TIB)).why


def test_names_that_mdadm_and_lvm_take_for_something_else_are_never_given() -> None:
    mounts = ("/snapshots", "/md5", "/d0", "/esp", "/config-2", "/pvmove0")
    plan = made(custom(Filesystem("/"), *(Filesystem(mount, size=GIB) for mount in mounts)))
    names = [one.name for one in plan.disks[0].partitions]
    assert names == [
        "esp", "root", "fs-snapshots", "fs-md5", "fs-d0", "esp-2", "config-2-2", "fs-pvmove0", "config-2",
    ]  # fmt: skip


def test_a_bios_that_starts_from_another_disk_than_the_first_is_told() -> None:
    layout = custom(
        Filesystem("/", raid=Raid.RAID1, group="system"), Filesystem("/srv", raid=Raid.RAID5, group="data"),
        groups=(DiskGroup("system", ("SERIAL3", "SERIAL4")), DiskGroup("data", ("SERIAL0", "SERIAL1", "SERIAL2"))),
    )  # fmt: skip
    note = "The firmware has to start from /dev/vdd or /dev/vde, not from the machine's first disk /dev/vda."
    assert note in make_plan(layout, *disks(5), firmware=Firmware.BIOS).notes
    # the firmware of such a machine knows loaders by their files, and no other disk of ours has one
    assert make_plan(layout, *disks(5)).notes == ()


def test_a_kept_disk_in_front_is_told_to_every_firmware_where_something_may_be_on_it() -> None:
    used = make_disk(0, partitions=(SeenPartition("/dev/vda1", GIB, "vfat"),))
    note = "The firmware has to start from /dev/vdb, not from the machine's first disk /dev/vda."
    layout = plain(keep=("SERIAL0",))
    assert note in make_plan(layout, used, make_disk(1), firmware=Firmware.UEFI).notes
    assert note in make_plan(layout, used, make_disk(1), firmware=Firmware.BIOS).notes
    assert make_plan(layout, *disks(2)).notes == ()
    assert note in make_plan(layout, *disks(2), firmware=Firmware.BIOS).notes


def test_what_only_the_inspection_saw_on_a_kept_disk_makes_no_other_plan() -> None:
    entered = make_plan(plain(keep=("SERIAL0",)), *disks(2))
    used = make_disk(0, partitions=(SeenPartition("/dev/vda1", GIB, "vfat"),))
    inspected = make_plan(plain(keep=("SERIAL0",)), used, make_disk(1))
    assert inspected.notes != entered.notes and entered.agrees_with(inspected)


def test_a_machine_that_starts_from_its_first_disk_is_told_nothing() -> None:
    for layout in (plain(), raid1()):
        plan = make_plan(layout, *disks(2), firmware=Firmware.BIOS)
        assert not any("first disk" in note for note in plan.notes)


def test_a_bios_is_told_that_it_hardly_starts_from_large_blocks() -> None:
    plan = make_plan(custom(Filesystem("/")), make_disk(logical_block=4096), firmware=Firmware.BIOS)
    assert plan.notes[-1] == "/dev/vda has blocks of 4096 bytes, from which hardly any BIOS starts: UEFI would."
