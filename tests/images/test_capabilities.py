"""What an image can be installed on, and how long."""

from datetime import date, timedelta

import pytest

from deploy.context import image_needs
from images.capabilities import storage, with_said
from images.life import SOON, Life, life
from images.models import Image
from servers.storage.layout import Raid

FLAVOUR = (("ext4", "xfs"), ("raid0", "raid1", "raid10"), True)
DAY = date(2028, 6, 30)


def test_an_image_of_which_nothing_is_said_can_what_its_flavour_can() -> None:
    can = storage({}, *FLAVOUR)
    assert can.filesystems == {"ext4", "xfs"}
    assert can.raid_levels == {Raid.RAID0, Raid.RAID1, Raid.RAID10}
    assert can.raid
    assert can.lvm


def test_what_is_said_of_an_image_only_takes_away() -> None:
    can = storage({"filesystems": ["xfs", "btrfs"], "raid": ["raid1", "raid6"], "lvm": False}, *FLAVOUR)
    assert (can.filesystems, can.raid_levels, can.lvm) == ({"xfs"}, {Raid.RAID1}, False)
    assert not storage({"lvm": True}, ("ext4",), ("raid1",), False).lvm


@pytest.mark.parametrize("raid", [[], False, None])
def test_an_image_without_mdadm_can_no_raid(raid: object) -> None:
    assert not storage({"raid": raid}, *FLAVOUR).raid


def test_a_plan_asks_the_image() -> None:
    image = Image(flavour="debian-12", root_bytes=1, capabilities={"raid": ["raid1"], "lvm": False})
    needs = image_needs(image)
    assert (needs.raid, needs.raid_levels, needs.lvm) == (True, {Raid.RAID1}, False)


def test_what_the_inspection_found_stays_when_people_say_something_else() -> None:
    assert with_said({"disk": {}, "raid": [], "lvm": False}, {"raid": ["raid1"]}) == {"disk": {}, "raid": ["raid1"]}


@pytest.mark.parametrize(
    ("days", "stands"), [(-400, Life.PAST), (0, Life.PAST), (1, Life.SOON), (SOON.days, Life.SOON), (91, Life.FINE)]
)
def test_an_image_has_ended_on_the_day_itself(days: int, stands: Life) -> None:
    assert life(DAY + timedelta(days=days), DAY) is stands
    assert life(None, DAY) is Life.FINE
