"""What a customer may ask for, and what each mistake gets for an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.storage.layout import (
    NAMED,
    REST,
    DiskGroup,
    Filesystem,
    FsType,
    Layout,
    Raid,
    WantedVolumeGroup,
    default_layout,
    plain,
    raid1,
)
from servers.storage.refusal import LayoutRefused
from servers.storage.sizes import GIB, MIB
from tests.servers.builders import make_disk, make_facts

ROOT: dict[str, Any] = {"mount": "/", "size": "rest"}


def wanted(*more: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": "custom", "filesystems": [ROOT, *more], **keys}


def on(group: str, size: str = "1 GiB") -> dict[str, Any]:
    return {"mount": "/srv", "size": size, "group": group}


def test_a_layout_is_read_as_a_person_writes_it() -> None:
    layout = Layout.from_json(
        {
            "name": "web",
            "swap": "4 GiB",
            "keep": ["S3Z8NB0K"],
            "disks": "all",
            "filesystems": [
                {"mount": "/", "size": "40 GiB", "raid": "raid1", "type": "ext4"},
                {"mount": "/home", "raid": "raid1"},
            ],
        }
    )
    assert layout == Layout(
        "web",
        (Filesystem("/", size=40 * GIB, raid=Raid.RAID1), Filesystem("/home", size=REST, raid=Raid.RAID1)),
        swap=4 * GIB,
        keep=("S3Z8NB0K",),
    )


def test_groups_volume_groups_and_encryption_are_read_and_come_back_equal() -> None:
    data = {
        "filesystems": [
            {"mount": "/", "volume_group": "system", "size": "20 GiB"},
            {"mount": "/srv", "type": "xfs", "raid": "raid6", "group": "data", "encrypted": True},
        ],
        "groups": [{"name": "data", "disks": ["S3", "S4", "S5", "S6"]}],
        "volume_groups": [{"name": "system", "raid": "raid1", "encrypted": True}],
        "secure_erase": True,
    }
    layout = Layout.from_json(data)
    assert layout == Layout(
        "custom",
        (
            Filesystem("/", size=20 * GIB, volume_group="system"),
            Filesystem("/srv", FsType.XFS, REST, Raid.RAID6, "data", encrypted=True),
        ),
        groups=(DiskGroup("data", ("S3", "S4", "S5", "S6")),),
        volume_groups=(WantedVolumeGroup("system", Raid.RAID1, encrypted=True),),
        secure_erase=True,
    )
    assert layout.encrypted and Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "not a JSON object"),
        ([], "not a JSON object"),
        ({}, "no file systems"),
        ({"filesystems": []}, "no file systems"),
        ({"filesystems": {"/": "rest"}}, "no file systems"),
        ({"filesystems": ["/"]}, "not a JSON object"),
        ({"filesystems": [{"mount": "/home"}]}, "No file system is mounted at /"),
        ({"filesystems": [{"size": "rest"}]}, "mount point of a file system is no text"),
        (wanted(mirrors=2), "unknown key 'mirrors'"),
        (wanted({"mount": "/home"}), "2 file systems take the rest: /, /home"),
        (wanted({"mount": "/", "size": "1 GiB"}), "/ is listed 2 times"),
        (wanted({"mount": "home", "size": "1 GiB"}), "'home' is no mount point"),
        (wanted({"mount": "/a/../b", "size": "1 GiB"}), "'/a/../b' is no mount point"),
        (wanted({"mount": "/home/", "size": "1 GiB"}), "'/home/' is no mount point"),
        (wanted({"mount": "/a b", "size": "1 GiB"}), "'/a b' is no mount point"),
        (wanted({"mount": "/x\n/y", "size": "1 GiB"}), "is no text"),
        (wanted({"mount": "/boot/efi", "size": "1 GiB"}), "/boot/efi belongs to the system"),
        (wanted({"mount": "/proc/x", "size": "1 GiB"}), "/proc/x belongs to the system"),
        (wanted({"mount": "/srv", "size": "a lot"}), "size of /srv is 'a lot'"),
        (wanted({"mount": "/srv", "size": True}), "size of /srv is 'True'"),
        (wanted({"mount": "/srv", "size": -1}), "size of /srv is '-1'"),
        (wanted({"mount": "/srv", "size": "1 MiB"}), "/srv has 1 MiB, which is too small"),
        (wanted({"mount": "/srv", "size": "1 GiB", "type": "ntfs"}), "unknown type 'ntfs'"),
        (wanted({"mount": "/var/lib", "size": "1 GiB", "type": "vfat"}), "/var/lib is asked for as vfat"),
        ({"filesystems": [ROOT | {"type": "vfat"}]}, "/ is asked for as vfat"),
        (wanted({"mount": "/srv", "size": "1 GiB", "raid": "raid9"}), "unknown RAID level 'raid9'"),
        (wanted(swap="rest"), "swap is to take the rest"),
        (wanted(swap="1 MiB"), "swap of 1 MiB is too small"),
        (wanted(swap=[]), "size of the swap is '[]'"),
        (wanted(keep="S1"), "'keep' is not a list"),
        (wanted(keep=[1]), "A disk in 'keep' is no text"),
        (wanted(keep=["/dev/sda"]), "/dev/sda may be another disk"),
        (wanted(disks=["S1"], keep=["s1"]), "disk s1 is to be used and to be kept"),
        (wanted(secure_erase="yes"), "'secure_erase' is 'yes'"),
        (wanted(groups={"name": "data"}), "'groups' is not a list"),
        (wanted(groups=[{"name": "data", "disks": ["S1"]}]), "Nothing lies on the disk group data"),
        (wanted(on("data"), groups=[{"name": "data"}]), "disk group data has no disks"),
        (wanted(on("data")), "group data, which the layout does not have (it has none)"),
        (wanted(on("a/b"), groups=[{"name": "a/b", "disks": ["S1"]}]), "'a/b' is no name for a disk group"),
        (
            wanted(on("data"), groups=[{"name": "data", "disks": ["S1"]}], keep=["s1"]),
            "s1 is to be used and",
        ),
        (wanted(on("data"), groups=[{"name": "data", "disks": ["S1"]}] * 2), "Two disk groups are called data"),
        (
            wanted(
                on("data", size="rest"), {"mount": "/x", "group": "data"}, groups=[{"name": "data", "disks": ["S1"]}]
            ),
            "2 file systems take the rest of the disk group data: /srv, /x",
        ),
        (
            wanted({"mount": "/srv", "size": "1 GiB", "volume_group": "vg"}),
            "volume group vg, which the layout does not",
        ),
        (wanted(volume_groups=[{"name": "vg"}]), "2 things take the rest: /, vg"),
        (wanted(volume_groups=[{"name": "sdb", "size": "1 GiB"}]), "/dev/sdb is taken"),
        (wanted(volume_groups=[{"name": "a-b", "size": "1 GiB"}]), "'a-b' is no name for a volume group"),
        (wanted(volume_groups=[{"name": "vg", "size": "1 MiB"}]), "vg has 1 MiB, which is too small"),
        (wanted(volume_groups=[{"name": "vg", "raid": "raid7"}]), "vg has the unknown RAID level 'raid7'"),
        (
            {
                "filesystems": [ROOT | {"volume_group": "vg"}, {"mount": "/srv", "volume_group": "vg"}],
                "volume_groups": [{"name": "vg"}],
            },
            "2 file systems take the rest of the volume group vg: /, /srv",
        ),
        (
            {"filesystems": [ROOT | {"volume_group": "vg", "raid": "raid1"}], "volume_groups": [{"name": "vg"}]},
            "/ lies in the volume group vg and has a level",
        ),
        (wanted({"mount": "/boot", "size": "1 GiB", "encrypted": True}), "/boot is to be encrypted"),
        (wanted({"mount": "/boot/efi2", "size": "1 GiB"}), "/boot/efi2 belongs to the system"),
        (wanted({"mount": "/srv", "size": "1 GiB", "encrypted": 1}), "'encrypted' of /srv is '1'"),
        (wanted(name=""), "name is no text"),
        (wanted(name="a" * 101), "name is no text"),
    ],
)
def test_a_layout_that_no_machine_could_have_is_refused_with_reason_and_fix(data: object, why: str) -> None:
    with pytest.raises(LayoutRefused) as refusal:
        Layout.from_json(data)
    assert why in refusal.value.why
    assert refusal.value.fix.endswith(".")


@given(
    st.lists(st.sampled_from(["/home", "/srv", "/var/lib", "/opt"]), unique=True),
    st.integers(min_value=64 * MIB, max_value=1 << 50),
    st.sampled_from([None, Raid.RAID1]),
    st.integers(min_value=64 * MIB, max_value=1 << 40) | st.just(0),
    st.lists(st.sampled_from(["S1", "S2"]), unique=True),
)
def test_a_layout_comes_back_equal_from_json(
    mounts: list[str], size: int, raid: Raid | None, swap: int, keep: list[str]
) -> None:
    filesystems = (Filesystem("/", raid=raid), *(Filesystem(mount, size=size, raid=raid) for mount in mounts))
    layout = Layout("custom", filesystems, swap, ("S3",), tuple(keep))
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


SCALARS = st.none() | st.integers() | st.text(max_size=5)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_nothing_that_is_sent_breaks_the_reader(data: object) -> None:
    for layout in (
        data,
        {"filesystems": data},
        {"filesystems": [data]},
        wanted(swap=data),
        wanted(keep=data),
        wanted(groups=data),
        wanted(groups=[data]),
        wanted(volume_groups=[data]),
    ):
        try:
            Layout.from_json(layout)
        except LayoutRefused as refusal:
            assert refusal.why and refusal.fix


def test_the_named_layouts_are_what_their_names_say() -> None:
    assert NAMED["plain"](swap=GIB) == plain(GIB) == Layout("plain", (Filesystem("/"),), GIB)
    assert NAMED["raid1"](keep=("S1",)).root.raid is raid1().root.raid is Raid.RAID1


SSD, HDD = {"rotational": False}, {"rotational": True}


def test_two_like_disks_are_offered_as_a_mirror() -> None:
    assert default_layout(make_facts(make_disk(0), make_disk(1))) == raid1()


def test_one_disk_is_offered_plain() -> None:
    assert default_layout(make_facts(make_disk())) == plain()


def test_unlike_disks_are_not_offered_as_a_mirror() -> None:
    assert default_layout(make_facts(make_disk(0, **SSD), make_disk(1, **HDD))) == plain()
    assert default_layout(make_facts(make_disk(0), make_disk(1, size=40 * GIB))) == plain()


def test_of_many_disks_the_first_pair_is_offered_by_name() -> None:
    disks = (make_disk(0, 4 * GIB, **SSD), make_disk(1, **HDD), make_disk(2, **SSD), make_disk(3, **SSD))
    assert default_layout(make_facts(*disks)) == raid1(disks=("SERIAL2", "SERIAL3"))
