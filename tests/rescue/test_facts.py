"""Raw facts: read from this host, which has processors, memory and a network card like any other."""

from __future__ import annotations

from pathlib import Path

from rescue.inside import facts


def test_facts_have_every_field_of_schema_1() -> None:
    found = facts.gather()
    assert set(found) == {
        *("schema", "firmware", "vendor", "product", "serial", "cpus", "memory_bytes", "lsblk", "by_id", "ip"),
    }
    assert found["firmware"] in ("bios", "uefi")
    assert isinstance(found["lsblk"], dict) and isinstance(found["lsblk"]["blockdevices"], list)
    assert isinstance(found["ip"], list) and any(link["ifname"] == "lo" for link in found["ip"])


def test_memory_is_in_bytes() -> None:
    assert facts.memory_bytes("MemTotal:        2019040 kB\nMemFree: 1 kB\n") == 2019040 * 1024


def test_memory_that_the_kernel_does_not_tell_is_zero() -> None:
    assert facts.memory_bytes("") == 0


def test_a_disk_has_all_the_names_that_udev_gave_it(tmp_path: Path) -> None:
    disk, other = tmp_path / "vda", tmp_path / "vdb"
    disk.touch()
    other.touch()
    names = tmp_path / "by-id"
    names.mkdir()
    (names / "wwn-1").symlink_to("../vda")
    (names / "ata-1").symlink_to("../vda")
    (names / "ata-2").symlink_to("../vdb")
    assert facts.links_of(names) == {
        str(disk): [str(names / "ata-1"), str(names / "wwn-1")],
        str(other): [str(names / "ata-2")],
    }


def test_a_machine_without_named_disks_has_no_names(tmp_path: Path) -> None:
    assert facts.links_of(tmp_path / "by-id") == {}
