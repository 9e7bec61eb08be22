"""Drawings of disks, before and after."""

from __future__ import annotations

from servers.facts import Firmware, SeenPartition
from servers.storage.draw import Bar, SegmentKind, drawing, drawing_of, table
from servers.storage.layout import Filesystem, Layout, Raid, WantedVolumeGroup, plain, raid1
from servers.storage.sizes import GIB, MIB
from tests.servers.builders import make_disk, make_facts, make_plan


def shown(bar: Bar) -> list[tuple[str, str]]:
    return [(one.kind.value, one.label) for one in bar.segments]


def test_a_mirror_is_tied_across_its_disks_by_number_and_name() -> None:
    made = drawing(make_plan(raid1(swap=GIB), make_disk(0), make_disk(1)))
    first, second = made.bars
    assert shown(first) == [
        ("boot", "ESP"), ("filesystem", "/"), ("swap", "swap"), ("config-drive", "config drive"),
    ]  # fmt: skip
    assert [(one.tie, one.array) for one in first.segments] == [(0, ""), (1, "RAID1 root"), (2, "RAID1 swap"), (0, "")]
    assert [one.tie for one in second.segments] == [0, 1, 2]
    assert made.arrays == ("RAID1 root", "RAID1 swap")
    assert [one.human for one in first.segments] == ["512 MiB", "18.5 GiB", "1 GiB", "1 MiB"]


def test_the_largest_disk_is_as_wide_as_the_drawing_and_others_to_scale() -> None:
    made = drawing(make_plan(raid1(), make_disk(0, 40 * GIB), make_disk(1, 20 * GIB)))
    assert [bar.width for bar in made.bars] == [1000, 500]


def test_a_tiny_disk_and_a_tiny_partition_stay_visible() -> None:
    made = drawing(make_plan(raid1(disks=("SERIAL0",)), make_disk(0, 8 * GIB), make_disk(1, 8000 * GIB)))
    tiny = made.bars[0]
    assert tiny.width == 160
    assert min(one.width for one in tiny.segments) >= 14


def test_space_that_nothing_uses_is_free_and_crumbs_are_not_shown() -> None:
    layout = Layout("custom", (Filesystem("/", size=8 * GIB),))
    bar = drawing(make_plan(layout, make_disk())).bars[0]
    assert shown(bar)[-2:] == [("free", "free"), ("config-drive", "config drive")]
    assert [one.kind for one in drawing(make_plan(plain(), make_disk())).bars[0].segments].count(SegmentKind.FREE) == 0


def test_a_disk_that_is_erased_and_left_empty_is_one_free_segment() -> None:
    assert shown(drawing(make_plan(plain(), make_disk(0), make_disk(1))).bars[1]) == [("free", "free")]


def test_a_kept_disk_is_one_locked_segment() -> None:
    made = drawing(make_plan(plain(keep=("SERIAL1",)), make_disk(0), make_disk(1)))
    assert [bar.kept for bar in made.bars] == [False, True]
    assert shown(made.bars[1]) == [("kept", "kept, will not be touched")]
    unused = drawing(make_plan(plain(disks=("SERIAL0",)), make_disk(0), make_disk(1)))
    assert shown(unused.bars[1]) == [("kept", "not used, will not be touched")]


def test_before_shows_what_was_found() -> None:
    partitions = (
        SeenPartition("/dev/vda1", 512 * MIB, "vfat", "EFI"),
        SeenPartition("/dev/vda2", 10 * GIB, "ext4"),
        SeenPartition("/dev/vda3", GIB, "swap"),
        SeenPartition("/dev/vda4", GIB),
        SeenPartition("/dev/vda5", MIB, "iso9660", "config-2"),
    )
    made = drawing_of(make_facts(make_disk(partitions=partitions), make_disk(1)), keep=("serial1",))
    assert shown(made.bars[0]) == [
        ("filesystem", "EFI"), ("filesystem", "ext4"), ("swap", "swap"), ("other", "vda4"),
        ("config-drive", "config-2"), ("free", "free"),
    ]  # fmt: skip
    assert shown(made.bars[1]) == [("free", "free")]
    assert [bar.kept for bar in made.bars] == [False, True]


def test_partitions_that_add_up_to_more_than_the_disk_are_still_drawn() -> None:
    overfull = make_disk(size=GIB, partitions=(SeenPartition("/dev/vda1", 2 * GIB), SeenPartition("/dev/vda2", GIB)))
    bar = drawing_of(make_facts(overfull)).bars[0]
    assert sum(one.width for one in bar.segments) == bar.width == 1000


def test_the_table_says_what_the_drawing_shows() -> None:
    made = drawing(make_plan(plain(), make_disk(), firmware=Firmware.BIOS))
    assert [(row.disk, row.path, row.what, row.mount, row.fstype, row.size) for row in table(made)] == [
        ("vda", "/dev/vda1", "BIOS boot", "", "", "1 MiB"),
        ("vda", "/dev/vda2", "/", "/", "ext4", "20 GiB"),
        ("vda", "/dev/vda3", "config drive", "", "iso9660", "1 MiB"),
    ]


def test_a_machine_without_disks_is_an_empty_drawing() -> None:
    assert drawing_of(make_facts(make_disk())).bars and not drawing_of(make_facts()).bars[0].kept


def test_a_volume_group_is_drawn_as_the_volumes_in_it_and_says_what_it_lies_on() -> None:
    group = WantedVolumeGroup("system", Raid.RAID1, encrypted=True, size=12 * GIB)
    wanted = (Filesystem("/", size=8 * GIB, volume_group="system"), Filesystem("/srv", encrypted=True))
    made = drawing(make_plan(Layout("custom", wanted, volume_groups=(group,)), make_disk(0), make_disk(1)))
    first, second = made.bars
    assert shown(first)[1:] == [
        ("filesystem", "/boot"), ("filesystem", "/"), ("free", "free for LVM"), ("filesystem", "/srv"),
        ("config-drive", "config drive"),
    ]  # fmt: skip
    tied = "RAID1 system, encrypted, volume group system"
    assert made.arrays == ("RAID1 boot", tied, "encrypted")
    assert [(one.tie, one.array, one.encrypted) for one in first.segments[2:4]] == [(2, tied, True)] * 2
    assert [one.human for one in first.segments[2:4]] == ["8 GiB", "4 GiB"]
    assert sum(one.size for one in first.segments[2:4]) == sum(one.size for one in second.segments[2:4])
    assert [row.array for row in table(made) if row.what == "/"] == [tied] * 2
