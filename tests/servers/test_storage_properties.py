"""What holds for every plan, whatever the layout and the disks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accounts.secret import Secret
from servers.facts import Disk, Facts, Firmware
from servers.storage import draw, render
from servers.storage.layout import (
    REST,
    DiskGroup,
    Filesystem,
    FsType,
    Layout,
    Raid,
    Rest,
    Size,
    WantedVolumeGroup,
)
from servers.storage.plan import LogicalVolume, PartitionType, Plan, Tower
from servers.storage.planner import ImageNeeds, plan
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import GIB, MIB, TIB
from tests.servers.builders import SEED
from tests.servers.storage_model import machine_with

# whole sectors, as disks are; hardly ever whole MiB
DISK_SIZES = st.integers(min_value=4 * GIB // 4096, max_value=30 * TIB // 4096).map(lambda blocks: blocks * 4096)
FILESYSTEM_SIZES = st.integers(min_value=64 * MIB, max_value=4 * TIB)
RAID = st.sampled_from([None, *Raid])
PASSPHRASE = Secret("correct horse battery staple")


@st.composite
def disks(draw_: st.DrawFn) -> tuple[Disk, ...]:
    count = draw_(st.integers(min_value=1, max_value=12))
    made = []
    for number in range(count):
        path = f"/dev/sd{chr(ord('a') + number)}" if draw_(st.booleans()) else f"/dev/nvme{number}n1"
        block = draw_(st.sampled_from([512, 4096]))
        made.append(Disk(path, draw_(DISK_SIZES), block, serial=f"SERIAL{number}"))
    assume(len({disk.path for disk in made}) == count)
    return tuple(made)


MOUNTS = ["/home", "/srv", "/var", "/var/lib", "/opt", "/data", "/snapshots", "/esp", "/boot"]
TYPES = st.sampled_from([FsType.EXT4, FsType.XFS, FsType.BTRFS])


@st.composite
def groups(draw_: st.DrawFn, free: list[str]) -> tuple[DiskGroup, ...]:
    """Up to two groups of the disks that are not kept; they may share disks."""
    names = draw_(st.sampled_from([(), ("ssd",), ("ssd", "hdd")]))
    return tuple(
        DiskGroup(name, tuple(draw_(st.lists(st.sampled_from(free), min_size=1, unique=True)))) for name in names
    )


@st.composite
def layouts(draw_: st.DrawFn, seen: tuple[Disk, ...]) -> Layout:
    serials = [disk.serial for disk in seen]
    keep = draw_(st.lists(st.sampled_from(serials), unique=True, max_size=len(serials) - 1)) if len(serials) > 1 else []
    free = [serial for serial in serials if serial not in keep]
    chosen = draw_(st.just([]) | st.lists(st.sampled_from(free), unique=True))
    there = draw_(groups(free))
    places = ["", *(one.name for one in there)]
    takers: set[str] = set()

    def size(where: str) -> Size:
        # of all that shares a place one may take the rest
        if where not in takers and draw_(st.booleans()):
            takers.add(where)
            return REST
        return draw_(FILESYSTEM_SIZES)

    volume_groups = []
    for name in draw_(st.sampled_from([(), ("system",), ("system", "root")])):
        where = draw_(st.sampled_from(places))
        volume_groups.append(WantedVolumeGroup(name, draw_(RAID), where, size(where), draw_(st.booleans())))
    filesystems = []
    for mount in draw_(st.permutations(["/", *draw_(st.lists(st.sampled_from(MOUNTS), unique=True, max_size=5))])):
        kind = FsType.EXT4 if mount == "/boot" else draw_(TYPES)
        group = draw_(st.sampled_from(["", *(one.name for one in volume_groups)])) if mount != "/boot" else ""
        if group:
            filesystems.append(Filesystem(mount, kind, size(f"VG {group}"), volume_group=group))
        else:
            where = draw_(st.sampled_from(places))
            encrypted = mount != "/boot" and draw_(st.booleans())
            filesystems.append(Filesystem(mount, kind, size(where), draw_(RAID), where, encrypted=encrypted))
    used = {one.group for one in filesystems} | {one.group for one in volume_groups}
    return Layout(
        "custom", tuple(filesystems), draw_(st.just(0) | FILESYSTEM_SIZES), tuple(chosen), tuple(keep),
        tuple(one for one in there if one.name in used), tuple(volume_groups),
    )  # fmt: skip


@st.composite
def cases(draw_: st.DrawFn) -> tuple[Layout, Facts, ImageNeeds]:
    seen = draw_(disks())
    image = ImageNeeds(
        root_bytes=draw_(st.integers(min_value=200 * MIB, max_value=8 * GIB)),
        filesystems=frozenset(one.value for one in FsType),
        grub_reads=draw_(st.sampled_from([frozenset({"ext4"}), frozenset({"ext4", "xfs"})])),
    )
    return draw_(layouts(seen)), Facts(draw_(st.sampled_from(Firmware)), disks=seen), image


CASES = cases()
Case = tuple[Layout, Facts, ImageNeeds]
HOLDS: list[Callable[[Case], None]] = []


def holds(claim: Callable[[Case], None]) -> Callable[[Case], None]:
    """Notes a claim about every plan. All are tried on the same cases: to think them up costs ten times the rest."""
    HOLDS.append(claim)
    return claim


@lru_cache(1)
def planned(case: Case) -> Plan:
    layout, facts, image = case
    try:
        return plan(layout, facts, image, SEED)
    except PlanImpossible as refusal:
        assert refusal.why and refusal.fix
        assume(False)
        raise


def commands(made: Plan) -> list[render.Call]:
    """Every command that a plan can become."""
    config_drive = render.mkfs_config_drive(made.config_drive)
    return [
        *(call(disk) for call in (render.release, render.wipe) for disk in made.disks),
        *render.lay_out(made, PASSPHRASE),
        *([config_drive] if config_drive else []),
    ]


def below(made: Plan, mount: str) -> Tower:
    """What the file system stands on."""
    return made.tower_of(next(one.device for one in made.filesystems if one.mount == mount))


def disks_of(made: Plan, tower: Tower) -> tuple[str, ...]:
    return tuple(disk.path for disk in made.disks if any(one.path in tower.members for one in disk.partitions))


def survives_a_disk(tower: Tower) -> bool:
    return tower.array is not None and tower.array.level.redundant


@holds
def partitions_are_aligned_and_never_overlap_nor_leave_the_disk(case: Case) -> None:
    for disk in planned(case).disks:
        assert [one.number for one in disk.partitions] == list(range(1, len(disk.partitions) + 1))
        for one in disk.partitions:
            assert one.start % MIB == one.size % MIB == 0
            assert one.size > 0
            assert one.start >= MIB and one.end <= disk.size - MIB
        for before, after in pairwise(disk.partitions):
            assert before.end <= after.start


@holds
def a_kept_disk_appears_in_no_command(case: Case) -> None:
    layout, facts, _image = case
    made = planned(case)
    erased = set(made.erased)
    kept = {disk.path for disk in facts.disks} - erased
    assert kept == {disk.path for disk in made.kept}
    assert {disk.path for disk in facts.disks if disk.serial in layout.keep} <= kept
    above = {one.path for one in (*made.arrays, *made.containers, *made.volumes)}
    for call in commands(made):
        for word in call.argv:
            assert not any(path in word for path in kept if re.search(rf"{path}(?![0-9a-z])|{path}p?[0-9]+$", word))
            if word.startswith("/dev/") and word not in above:
                # the disk itself, or one of its partitions by a number, never a name that merely begins alike
                owners = [disk for disk in made.disks if word == disk.path or word in {p.path for p in disk.partitions}]
                assert len(owners) == 1 and word not in kept


@holds
def the_machine_can_start_from_every_disk_that_carries_what_grub_reads(case: Case) -> None:
    _layout, _facts, image = case
    made = planned(case)
    grubs = next((one for one in made.filesystems if one.mount == "/boot"), made.root)
    tower = made.tower_of(grubs.device)
    assert grubs.type.value in image.grub_reads
    assert tower.container is tower.group is None
    assert tower.array is None or tower.array.level is Raid.RAID1
    on = [disk for disk in made.disks if disk.path in disks_of(made, tower)]
    boots = PartitionType.ESP if made.firmware is Firmware.UEFI else PartitionType.BIOS_BOOT
    assert made.boot_group == tuple(disk.path for disk in on)
    assert all(disk.partitions[0].type is boots for disk in on)
    assert len(made.esps) == (len(on) if made.firmware is Firmware.UEFI else 0)
    assert len({esp.mount for esp in made.esps}) == len({esp.uuid for esp in made.esps}) == len(made.esps)


@holds
def any_one_disk_of_a_root_that_survives_it_may_die_and_the_server_still_boots(case: Case) -> None:
    layout, _facts, _image = case
    made = planned(case)
    root = below(made, "/")
    if not survives_a_disk(root):
        return
    boot = next((one.mount for one in made.filesystems if one.mount == "/boot"), "/")
    # /boot is mirrored unless its group has but one disk, of which a note tells
    told = [note for note in made.notes if "would not start without it" in note]
    assert survives_a_disk(below(made, boot)) or any(note.startswith("/boot ") for note in told)
    for one in made.filesystems:
        vital = one.mount in ("/", "/boot", "/usr", "/var")
        lost = not survives_a_disk(made.tower_of(one.device))
        assert ("nofail" in one.options) is (lost and not vital)
        assert not (lost and vital) or any(note.startswith(f"{one.mount} ") for note in told)
    for swap in made.swaps:
        assert survives_a_disk(made.tower_of(swap.device)) and layout.swap


@holds
def the_commands_give_exactly_the_plan_on_a_machine_that_knows_only_them(case: Case) -> None:
    _layout, facts, _image = case
    made = planned(case)
    model = machine_with(facts.disks)
    for call in commands(made):
        if call.argv[0] != "mkfs.vfat" or "-i" in call.argv:  # the config drive has no UUID of ours
            model.apply(call)
    built = {
        path: (one["disk"], one["start"], one["size"], one["type"], one["uuid"], one["name"])
        for path, one in model.partitions.items()
    }
    assert built == {
        one.path: (disk.path, one.start, one.size, one.type.value, str(one.uuid), one.name)
        for disk in made.disks
        for one in disk.partitions
    }
    assert model.arrays == {
        one.path: {"level": one.level.value, "members": one.members, "uuid": one.uuid.hex, "size": one.size,
                   "name": one.name}
        for one in made.arrays
    }  # fmt: skip
    for container in made.containers:
        inside = model.devices[container.device].holds
        assert inside and inside["path"] == container.path and inside["uuid"] == str(container.uuid)
        assert model.devices[container.path].size == container.size
    assert {(name, one.device, one.extents * one.extent) for name, one in model.groups.items()} == {
        (one.name, *one.devices, one.size) for one in made.volume_groups
    }
    for one in (*made.volumes, *made.mounts, *made.swaps):
        path = one.path if isinstance(one, LogicalVolume) else one.device
        assert model.devices[path].size == one.size
    made_on = {path: (one.holds["kind"], one.holds["uuid"], one.holds["label"]) for path, one in model.devices.items()
               if one.holds and "label" in one.holds}  # fmt: skip
    assert made_on == {one.device: (one.type.value, one.uuid, one.label) for one in made.mounts} | {
        one.device: ("swap", one.uuid, one.label) for one in made.swaps
    }
    untouched = {disk.path for disk in made.kept}
    assert all(model.devices[path].holds is None for path in untouched) and not untouched & model.wiped


@holds
def a_plan_comes_back_equal_from_its_json_text(case: Case) -> None:
    made = planned(case)
    text = json.dumps(made.to_json())
    assert Plan.from_json(json.loads(text)) == made
    assert json.dumps(Plan.from_json(json.loads(text)).to_json()) == text


@holds
def the_root_always_has_room_for_the_image(case: Case) -> None:
    layout, _facts, image = case
    made = planned(case)
    assert made.root.size >= image.root_floor > image.root_bytes
    assert {one.mount for one in made.filesystems} - {one.mount for one in layout.filesystems} <= {"/boot"}
    assert min([one.size for one in made.filesystems] + [one.size for one in made.swaps]) >= 64 * MIB


def grain(made: Plan, mount: str) -> int:
    """What the sizes of file systems on such a tower are multiples of."""
    tower = below(made, mount)
    if tower.group:
        return 4 * MIB
    return tower.array.level.capacity(2 * MIB, len(tower.members)) if tower.array else MIB


@holds
def a_size_differs_from_what_was_asked_only_where_a_note_says_so(case: Case) -> None:
    layout, _facts, _image = case
    made = planned(case)
    for asked in layout.filesystems:
        got = next(one.size for one in made.filesystems if one.mount == asked.mount)
        noted = any(note.startswith((f"{asked.mount} shrunk", f"{asked.mount} grown")) for note in made.notes)
        assert isinstance(asked.size, Rest) or noted or 0 <= got - asked.size < grain(made, asked.mount)
    for swap in made.swaps:
        noted = any(note.startswith(("swap shrunk", "swap capped")) for note in made.notes)
        assert noted or swap.size >= layout.swap


@holds
def the_rest_is_given_away_whole(case: Case) -> None:
    layout, _facts, _image = case
    made = planned(case)
    towers = [below(made, one.mount) for one in layout.filesystems if one.size is REST and not one.volume_group]
    groups = [one.name for one in layout.volume_groups if one.size is REST]
    towers += [one for one in made.towers if one.group and one.group.name in groups]
    reserve = made.config_drive.size
    for tower in towers:
        gaps = [
            disk.size - MIB - reserve - sum(one.size for one in disk.partitions if one.name != "config-2") - MIB
            for disk in made.disks
            if any(one.path in tower.members for one in disk.partitions)
        ]
        # RAID10 over an odd number of disks takes every other MiB
        assert min(gaps) < 2 * MIB


@holds
def the_rest_of_a_volume_group_is_given_away_whole(case: Case) -> None:
    layout, _facts, _image = case
    made = planned(case)
    takers = {one.volume_group for one in layout.filesystems if one.size is REST and one.volume_group}
    for group in made.volume_groups:
        left = group.size - sum(one.size for one in made.volumes if one.group == group.name)
        assert left == 0 if group.name in takers else left >= 0


@holds
def an_array_fits_into_each_of_its_members(case: Case) -> None:
    made = planned(case)
    sizes = {one.path: one.size for disk in made.disks for one in disk.partitions}
    for array in made.arrays:
        assert len(array.members) == len(set(array.members)) >= array.level.least_disks
        (member,) = {sizes[member] for member in array.members}
        assert array.level.capacity(member - array.data_offset, len(array.members)) == array.size


@holds
def no_two_things_share_a_uuid_a_name_or_a_device(case: Case) -> None:
    made = planned(case)
    uuids = [
        *(disk.uuid for disk in made.disks),
        *(one.uuid for disk in made.disks for one in disk.partitions),
        *(array.uuid for array in made.arrays),
        *(one.uuid for one in made.containers),
        *(one.uuid for one in made.mounts),
        *(one.uuid for one in made.swaps),
    ]
    assert len({str(uuid) for uuid in uuids}) == len(uuids)
    devices = [*(one.device for one in made.mounts), *(one.device for one in made.swaps)]
    assert len(set(devices)) == len(devices)
    assert len({array.path for array in made.arrays}) == len(made.arrays)


@holds
def a_drawing_is_to_scale_and_shows_every_partition_and_every_kept_disk(case: Case) -> None:
    made = planned(case)
    drawing = draw.drawing(made)
    shown = {one.path for bar in drawing.bars for one in bar.segments}
    assert {one.path for disk in made.disks for one in disk.partitions} <= shown
    assert {bar.path for bar in drawing.bars if bar.kept} == {disk.path for disk in made.kept}
    for bar in drawing.bars:
        assert 0 < bar.width <= draw.FULL_WIDTH
        assert all(one.width > 0 for one in bar.segments)
        assert sum(one.width for one in bar.segments) == (bar.width if bar.segments else 0)
        for before, after in pairwise(bar.segments):
            assert before.x + before.width == after.x
    assert len(draw.table(drawing)) == sum(len(bar.segments) for bar in drawing.bars)


@holds
def the_facts_before_and_the_plan_after_draw_the_same_disks(case: Case) -> None:
    _layout, facts, _image = case
    before, after = draw.drawing_of(facts), draw.drawing(planned(case))
    assert {bar.path: bar.width for bar in before.bars} == {bar.path: bar.width for bar in after.bars}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_what_is_said_here_of_every_plan_holds_for_each(case: Case) -> None:
    planned(case)
    for claim in HOLDS:
        claim(case)
