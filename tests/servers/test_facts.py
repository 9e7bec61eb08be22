"""What the rescue system saw: cases as JSON in the folder facts/, and what must never be taken for a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.facts import (
    Facts,
    FactsRefused,
    Nic,
    disk_from_json,
    disk_to_json,
    from_json,
    parse_facts,
    to_json,
    wrong_machine,
)
from tests.servers.builders import make_disk, make_facts

CASES = sorted((Path(__file__).parent / "facts").glob("*.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_machine_is_read_as_its_case_says(case: Path) -> None:
    data = json.loads(case.read_text())
    assert to_json(parse_facts(data["raw"])) == data["facts"]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_facts_come_back_equal_from_json_text(case: Path) -> None:
    facts = parse_facts(json.loads(case.read_text())["raw"])
    assert from_json(json.loads(json.dumps(to_json(facts)))) == facts
    assert tuple(disk_from_json(disk_to_json(disk)) for disk in facts.disks) == facts.disks


def test_text_is_read_like_what_it_says() -> None:
    raw = json.loads(CASES[0].read_text())["raw"]
    assert parse_facts(json.dumps(raw)) == parse_facts(json.dumps(raw).encode()) == parse_facts(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ([], "not a JSON object"),
        (None, "not a JSON object"),
        ({}, "firmware is None"),
        ({"firmware": "coreboot"}, "'coreboot'"),
        ({"firmware": ["uefi"]}, "firmware is ['uefi']"),
        ({"firmware": "uefi"}, "no list of disks"),
        ({"firmware": "uefi", "lsblk": {"blockdevices": {}}}, "no list of disks"),
        ({"firmware": "uefi", "schema": 2, "lsblk": {"blockdevices": []}}, "schema 2"),
    ],
)
def test_what_describes_no_machine_is_refused_with_a_reason(raw: object, why: str) -> None:
    with pytest.raises(FactsRefused) as refusal:
        parse_facts(raw)
    assert why in refusal.value.why


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KEYS = ("name", "path", "type", "size", "log-sec", "rota", "model", "serial", "label", "ro", "rm", "tran", "children")
NODES = st.dictionaries(st.sampled_from(KEYS), ANYTHING | st.just("disk"))
TOP = ("vendor", "serial", "cpus", "memory_bytes", "by_id", "ip", "schema")


@given(st.dictionaries(st.sampled_from(TOP), ANYTHING), st.lists(NODES | ANYTHING, max_size=4))
def test_no_report_whatever_breaks_the_parser(top: dict[str, Any], nodes: list[Any]) -> None:
    raw = {"firmware": "bios", **top, "lsblk": {"blockdevices": nodes}}
    try:
        facts = parse_facts(raw)
    except FactsRefused:
        return
    assert from_json(json.loads(json.dumps(to_json(facts)))) == facts
    assert all(disk.size > 0 for disk in facts.disks)


def test_stored_facts_of_another_shape_are_refused() -> None:
    data = to_json(make_facts())
    data["disks"][0]["size"] = "large"
    with pytest.raises(FactsRefused, match=r"disks\[0\].size is not a int"):
        from_json(data)


def test_a_disk_answers_to_wwn_serial_path_and_by_id_name_and_to_nothing_else() -> None:
    disk = make_disk(wwn="0xABC", serial="S1", by_id="/dev/disk/by-id/wwn-0xABC")
    for name in ("0xabc", "S1", " s1 ", "/dev/vda", "/dev/disk/by-id/wwn-0xABC"):
        assert disk.answers_to(name)
    for name in ("", " ", "S", "vd", "0xAB"):
        assert not disk.answers_to(name)
    assert not make_disk(serial="").answers_to("")


def machine(serial: str, *macs: str) -> Facts:
    return make_facts(serial=serial, nics=tuple(Nic(f"eth{number}", mac) for number, mac in enumerate(macs)))


MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"


@pytest.mark.parametrize(
    ("expected_serial", "expected_macs", "facts"),
    [
        ("SN-1", {MAC}, machine("SN-1", MAC)),
        ("sn-1", {MAC}, machine("SN-1", OTHER)),
        ("", {MAC, OTHER}, machine("SN-1", OTHER)),
        ("SN-1", {"52-54-00-00-00-01"}, machine("", MAC)),
        ("To be filled by O.E.M.", {MAC}, machine("SN-1", MAC)),
    ],
)
def test_the_right_machine_is_known_by_its_serial_number_or_by_a_mac(
    expected_serial: str, expected_macs: set[str], facts: Facts
) -> None:
    assert wrong_machine(expected_serial, expected_macs, facts) is None


def test_a_wrong_serial_number_with_a_right_mac_is_wrong_and_both_are_said() -> None:
    why = wrong_machine("SN-1", {MAC}, machine("SN-2", MAC))
    assert why == "The machine that called has serial number SN-2, not SN-1 although the MAC agrees."


def test_a_machine_without_known_serial_number_and_mac_is_wrong() -> None:
    why = wrong_machine("SN-1", {MAC}, machine("", OTHER))
    assert why is not None and MAC in why and OTHER in why and "SN-1" in why


def test_a_server_of_which_nothing_is_on_record_is_never_recognised() -> None:
    assert "Neither" in (wrong_machine("", set(), machine("SN-1", MAC)) or "")
