"""Which of the named layouts suit a machine and an image."""

from __future__ import annotations

from dataclasses import replace

from servers.storage.layout import Raid
from servers.storage.named import named_layout, suiting
from servers.storage.sizes import GIB, TIB
from tests.servers.builders import IMAGE, make_disk, make_facts

SSDS = tuple(make_disk(number, 960 * 10**9) for number in range(2))
HDDS = tuple(make_disk(number, 8 * TIB, rotational=True) for number in range(2, 6))


def test_one_disk_suits_plain_alone() -> None:
    assert (list(suiting(make_facts(), IMAGE).layouts), suiting(make_facts(), IMAGE).default) == (["plain"], "plain")


def test_two_disks_suit_the_mirrors_too_and_a_mirror_is_offered_first() -> None:
    found = suiting(make_facts(*SSDS), IMAGE)
    assert (list(found.layouts), found.default) == (["raid1", "lvm-on-raid1", "plain"], "raid1")


def test_two_ssds_and_four_disks_suit_all_of_them_each_kind_for_its_own() -> None:
    found = suiting(make_facts(*SSDS, *HDDS), IMAGE)
    assert list(found.layouts) == ["raid1", "lvm-on-raid1", "raid10-data", "plain"]
    assert [group.disks for group in found.layouts["raid10-data"].groups] == [
        ("SERIAL0", "SERIAL1"), ("SERIAL2", "SERIAL3", "SERIAL4", "SERIAL5"),
    ]  # fmt: skip


def test_four_like_disks_carry_system_and_data_on_all_of_them() -> None:
    layout = named_layout("raid10-data", make_facts(*HDDS))
    assert layout.groups == () and len(layout.disks) == 4
    assert [(one.mount, one.raid, one.size) for one in layout.filesystems[:1]] == [("/", Raid.RAID1, 40 * GIB)]


def test_what_the_image_cannot_is_not_offered() -> None:
    facts = make_facts(*SSDS)
    assert list(suiting(facts, replace(IMAGE, lvm=False)).layouts) == ["raid1", "plain"]
    without_raid = suiting(facts, replace(IMAGE, raid=False))
    assert (list(without_raid.layouts), without_raid.default) == (["plain"], "plain")


def test_a_layout_that_would_be_lowered_is_refused_with_what_it_lacks() -> None:
    found = suiting(make_facts(), IMAGE)
    assert str(found.refused["raid1"]).startswith("RAID1 needs 2 disks, and 1 disk can be used.")
    without_raid10 = replace(IMAGE, raid_levels=frozenset({Raid.RAID1}))
    assert str(suiting(make_facts(*SSDS, *HDDS), without_raid10).refused["raid10-data"]).startswith(
        "This image knows no RAID10."
    )


def test_an_image_that_fits_nowhere_suits_nothing() -> None:
    found = suiting(make_facts(), replace(IMAGE, root_bytes=TIB))
    assert (found.layouts, found.default) == ({}, "")
