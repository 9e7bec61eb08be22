"""What holds for every plan, whatever the layout and the disks."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from servers.facts import Disk, Facts, Firmware
from servers.storage import draw, render
from servers.storage.layout import REST, Filesystem, Layout, Raid, Rest
from servers.storage.plan import PartitionType, Plan
from servers.storage.planner import ImageNeeds, plan
from servers.storage.refusal import PlanImpossible
from servers.storage.sizes import GIB, MIB, TIB
from tests.servers.builders import SEED

# whole sectors, as disks are; hardly ever whole MiB
DISK_SIZES = st.integers(min_value=4 * GIB // 4096, max_value=30 * TIB // 4096).map(lambda blocks: blocks * 4096)
FILESYSTEM_SIZES = st.integers(min_value=64 * MIB, max_value=4 * TIB)
RAID = st.sampled_from([None, Raid.RAID1])


@st.composite
def disks(draw_: st.DrawFn) -> tuple[Disk, ...]:
    count = draw_(st.integers(min_value=1, max_value=12))
    kinds = ("/dev/sd{}", "/dev/nvme{}n1")
    made = []
    for number in range(count):
        path = draw_(st.sampled_from(kinds)).format(number if draw_(st.booleans()) else chr(ord("a") + number))
        block = draw_(st.sampled_from([512, 4096]))
        made.append(Disk(path, draw_(DISK_SIZES), block, serial=f"SERIAL{number}"))
    assume(len({disk.path for disk in made}) == count)
    return tuple(made)


@st.composite
def layouts(draw_: st.DrawFn, seen: tuple[Disk, ...]) -> Layout:
    mounts = draw_(st.lists(st.sampled_from(["/home", "/srv", "/var", "/var/lib", "/opt", "/data"]), unique=True))
    taker = draw_(st.sampled_from(["/", *mounts, None]))
    filesystems = tuple(
        Filesystem(mount, size=REST if mount == taker else draw_(FILESYSTEM_SIZES), raid=draw_(RAID))
        for mount in draw_(st.permutations(["/", *mounts]))
    )
    serials = [disk.serial for disk in seen]
    keep = draw_(st.lists(st.sampled_from(serials), unique=True, max_size=len(serials) - 1)) if len(serials) > 1 else []
    free = [serial for serial in serials if serial not in keep]
    chosen = draw_(st.just([]) | st.lists(st.sampled_from(free), unique=True))
    swap = draw_(st.just(0) | FILESYSTEM_SIZES)
    return Layout("custom", filesystems, swap, tuple(chosen), tuple(keep))


@st.composite
def cases(draw_: st.DrawFn) -> tuple[Layout, Facts, ImageNeeds]:
    seen = draw_(disks())
    image = ImageNeeds(root_bytes=draw_(st.integers(min_value=200 * MIB, max_value=8 * GIB)))
    return draw_(layouts(seen)), Facts(draw_(st.sampled_from(Firmware)), disks=seen), image


CASES = cases()


def planned(case: tuple[Layout, Facts, ImageNeeds]) -> Plan:
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
        *(call(disk) for disk in made.disks for call in (render.release, render.wipe, render.write_table)),
        *(render.create_array(array) for array in made.arrays),
        *(render.mkfs(filesystem) for filesystem in made.mounts),
        *(render.mkswap(swap) for swap in made.swaps),
        *([config_drive] if config_drive else []),
    ]


@given(CASES)
def test_partitions_are_aligned_and_never_overlap_nor_leave_the_disk(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    for disk in planned(case).disks:
        assert [one.number for one in disk.partitions] == list(range(1, len(disk.partitions) + 1))
        for one in disk.partitions:
            assert one.start % MIB == one.size % MIB == 0
            assert one.size > 0
            assert one.start >= MIB and one.end <= disk.size - MIB
        for before, after in pairwise(disk.partitions):
            assert before.end <= after.start


@given(CASES)
def test_a_kept_disk_appears_in_no_command(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    layout, facts, _image = case
    made = planned(case)
    erased = set(made.erased)
    kept = {disk.path for disk in facts.disks} - erased
    assert kept == {disk.path for disk in made.kept}
    assert {disk.path for disk in facts.disks if disk.serial in layout.keep} <= kept
    for call in commands(made):
        for word in call.argv:
            if word.startswith("/dev/") and not word.startswith("/dev/md/"):
                # the disk itself, or one of its partitions by a number, never a name that merely begins alike
                owners = [disk for disk in made.disks if word == disk.path or word in {p.path for p in disk.partitions}]
                assert len(owners) == 1 and word not in kept


@given(CASES)
def test_every_disk_that_carries_the_root_can_start_the_machine(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    made = planned(case)
    array = next((one for one in made.arrays if one.path == made.root.device), None)
    carriers = array.members if array else (made.root.device,)
    boots = PartitionType.ESP if made.firmware is Firmware.UEFI else PartitionType.BIOS_BOOT
    on = [disk for disk in made.disks if any(one.path in carriers for one in disk.partitions)]
    assert made.boot_group == tuple(disk.path for disk in on)
    assert all(disk.partitions[0].type is boots for disk in on)
    assert len(made.esps) == (len(on) if made.firmware is Firmware.UEFI else 0)
    assert len({esp.mount for esp in made.esps}) == len({esp.uuid for esp in made.esps}) == len(made.esps)


@given(CASES)
def test_a_plan_comes_back_equal_from_its_json_text(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    made = planned(case)
    text = json.dumps(made.to_json())
    assert Plan.from_json(json.loads(text)) == made
    assert json.dumps(Plan.from_json(json.loads(text)).to_json()) == text


@given(CASES)
def test_the_root_always_has_room_for_the_image(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    layout, _facts, image = case
    made = planned(case)
    assert made.root.size >= image.root_floor > image.root_bytes
    assert {one.mount for one in made.filesystems} == {one.mount for one in layout.filesystems}
    assert min([one.size for one in made.filesystems] + [one.size for one in made.swaps]) >= 64 * MIB


@given(CASES)
def test_a_size_differs_from_what_was_asked_only_where_a_note_says_so(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    layout, _facts, _image = case
    made = planned(case)
    for asked in layout.filesystems:
        got = next(one.size for one in made.filesystems if one.mount == asked.mount)
        noted = any(note.startswith((f"{asked.mount} shrunk", f"{asked.mount} grown")) for note in made.notes)
        assert isinstance(asked.size, Rest) or noted or 0 <= got - asked.size < MIB


@given(CASES)
def test_the_rest_is_given_away_whole(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    layout, _facts, _image = case
    made = planned(case)
    taker = next((one.mount for one in layout.filesystems if one.size is REST), None)
    assume(taker is not None)
    device = next(one.device for one in made.filesystems if one.mount == taker)
    members = next((one.members for one in made.arrays if one.path == device), (device,))
    reserve = made.config_drive.size
    gaps = [
        disk.size - MIB - reserve - sum(one.size for one in disk.partitions if one.name != "config-2") - MIB
        for disk in made.disks
        if any(one.path in members for one in disk.partitions)
    ]
    assert min(gaps) < MIB


@given(CASES)
def test_an_array_fits_into_each_of_its_members(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    made = planned(case)
    sizes = {one.path: one.size for disk in made.disks for one in disk.partitions}
    for array in made.arrays:
        assert len(array.members) == len(set(array.members)) >= 2
        assert all(sizes[member] == array.size + array.data_offset for member in array.members)


@given(CASES)
def test_no_two_things_share_a_uuid_a_name_or_a_device(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    made = planned(case)
    uuids = [
        *(disk.uuid for disk in made.disks),
        *(one.uuid for disk in made.disks for one in disk.partitions),
        *(array.uuid for array in made.arrays),
        *(one.uuid for one in made.mounts),
        *(one.uuid for one in made.swaps),
    ]
    assert len({str(uuid) for uuid in uuids}) == len(uuids)
    devices = [*(one.device for one in made.mounts), *(one.device for one in made.swaps)]
    assert len(set(devices)) == len(devices)
    assert len({array.path for array in made.arrays}) == len(made.arrays)


@given(CASES)
def test_a_drawing_is_to_scale_and_shows_every_partition_and_every_kept_disk(
    case: tuple[Layout, Facts, ImageNeeds],
) -> None:
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


@given(CASES)
def test_the_facts_before_and_the_plan_after_draw_the_same_disks(case: tuple[Layout, Facts, ImageNeeds]) -> None:
    _layout, facts, _image = case
    before, after = draw.drawing_of(facts), draw.drawing(planned(case))
    assert {bar.path: bar.width for bar in before.bars} == {bar.path: bar.width for bar in after.bars}
