from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from servers.facts import Disk, Facts, Firmware, Nic
from servers.inventory import record_facts
from servers.models import Server
from tests.builders import make_disk, make_server

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def seen(**changes: Any) -> Facts:
    plain = Facts(Firmware.BIOS, vendor="Acme", product="Box 3", serial="S1", cpus=8, memory_bytes=64 << 30)
    return replace(plain, **changes)


def test_facts_come_back_as_they_were_seen() -> None:
    server = make_server(serial="S1")
    disks = (make_disk("/dev/sda", wwn="0x5000c5001", rotational=True), make_disk("/dev/nvme0n1", logical_block=4096))
    facts = seen(disks=disks, nics=(Nic("eth0", server.nics.get().mac),))
    record_facts(server, facts, AT)
    assert Server.objects.get(pk=server.pk).facts() == facts
    assert server.facts_at == AT


def test_disks_that_are_gone_are_forgotten() -> None:
    server = make_server(disks=3)
    record_facts(server, seen(disks=(Disk("/dev/vdb", 1 << 40),)), AT)
    assert [disk.path for disk in server.disks.all()] == ["/dev/vdb"]


def test_the_serial_number_on_record_is_not_changed_by_what_a_machine_says() -> None:
    server = make_server(serial="S1")
    record_facts(server, seen(serial="S2"), AT)
    assert server.serial == "S1"
    unknown = make_server(serial="")
    record_facts(unknown, seen(serial="S2"), AT)
    assert unknown.serial == "S2"


def test_a_card_that_was_entered_keeps_its_address() -> None:
    server = make_server()
    nic = server.nics.get()
    nic.address_cidr = "192.0.2.14/24"
    nic.save()
    record_facts(server, seen(nics=(Nic("ens3", "52:54:00:aa:bb:cc"),)), AT)
    assert server.nics.get(pk=nic.pk).address_cidr == "192.0.2.14/24"
    assert server.nics.get(mac="52:54:00:aa:bb:cc").name == "ens3"


def test_a_card_of_another_server_stays_there() -> None:
    other, server = make_server(mac="52:54:00:aa:bb:cc"), make_server()
    record_facts(server, seen(nics=(Nic("ens3", "52:54:00:aa:bb:cc"),)), AT)
    assert other.nics.get().mac == "52:54:00:aa:bb:cc"
    assert server.nics.count() == 1
