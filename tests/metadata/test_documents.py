import json
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest

from metadata.documents import (
    FOLDERS,
    MOST_USER_DATA,
    Link,
    MetaRefused,
    NetworkRefused,
    Static,
    UserDataRefused,
    documents,
    only_seen,
)
from metadata.hostnames import HostnameRefused
from tests.metadata.builders import KEY, OTHER_KEY, make_instance

FULL_SET = {"meta_data.json", "network_data.json", "user_data", "vendor_data.json"}


def read(name: str, **changes: Any) -> Any:
    return json.loads(documents(make_instance(**changes))[f"openstack/latest/{name}"])


def test_both_folders_carry_the_same_full_set() -> None:
    files = documents(make_instance(user_data=b"#!/bin/sh\n"))
    assert set(files) == {f"{folder}/{name}" for folder in FOLDERS for name in FULL_SET}
    for name in FULL_SET:
        assert files[f"openstack/latest/{name}"] == files[f"openstack/2012-08-10/{name}"]


def test_meta_data_says_who_the_machine_is() -> None:
    assert read("meta_data.json", meta={"rack": "7"}) == {
        "uuid": "6f0a9f2e-7d0f-4d0b-8f4e-2f7a3b1c9d10",
        "hostname": "web1.example.org",
        "name": "web1.example.org",
        "public_keys": {"alice": KEY},
        "keys": [{"name": "alice", "type": "ssh", "data": KEY}],
        "availability_zone": "hall-2",
        "launch_index": 0,
        "project_id": "acme",
        "devices": [],
        "meta": {"rack": "7"},
    }


def test_two_keys_of_one_name_both_log_in() -> None:
    keys = read("meta_data.json", keys=(("alice", KEY), ("alice", OTHER_KEY)))["public_keys"]
    assert sorted(keys.values()) == sorted([KEY, OTHER_KEY])


def test_dsmode_is_refused_with_the_reason() -> None:
    with pytest.raises(MetaRefused, match="steers cloud-init"):
        documents(make_instance(meta={"dsmode": "disabled"}))


def test_a_nic_without_an_address_asks_dhcp() -> None:
    assert read("network_data.json") == {
        "links": [{"id": "nic0", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56", "mtu": 1500}],
        "networks": [{"id": "network0", "link": "nic0", "type": "ipv4_dhcp"}],
        "services": [],
    }


def test_a_fixed_address_comes_with_netmask_route_and_name_servers() -> None:
    static = Static(IPv4Interface("192.0.2.14/26"), IPv4Address("192.0.2.1"))
    network = read(
        "network_data.json", links=(Link("nic0", "52:54:00:12:34:56", 9000, static),), dns=("192.0.2.2", "192.0.2.3")
    )
    assert network["links"][0]["mtu"] == 9000
    assert network["networks"] == [
        {
            "id": "network0",
            "link": "nic0",
            "type": "ipv4",
            "ip_address": "192.0.2.14",
            "netmask": "255.255.255.192",
            "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"}],
        }
    ]
    assert network["services"] == [{"type": "dns", "address": "192.0.2.2"}, {"type": "dns", "address": "192.0.2.3"}]


def test_only_cards_that_the_rescue_system_has_seen_are_named() -> None:
    there, gone = Link("nic0", "52:54:00:AA:00:01"), Link("nic1", "52:54:00:aa:00:02")
    assert only_seen((there, gone), ["52:54:00:aa:00:01", "52:54:00:aa:00:99"]) == (there,)


def test_a_system_without_any_network_is_refused() -> None:
    with pytest.raises(NetworkRefused, match="MAC addresses"):
        documents(make_instance(links=()))


def test_64_kib_of_user_data_are_the_most() -> None:
    full = b"\xff" * MOST_USER_DATA
    assert documents(make_instance(user_data=full))["openstack/latest/user_data"] == full
    with pytest.raises(UserDataRefused, match="65,537 bytes"):
        documents(make_instance(user_data=full + b"\xff"))


def test_a_name_that_is_no_host_name_is_refused() -> None:
    with pytest.raises(HostnameRefused):
        documents(make_instance(hostname="web_1"))


def test_letters_beyond_ascii_survive() -> None:
    meta = read("meta_data.json", meta={"Standort": "Köln – Halle 2 🏠"})["meta"]
    assert meta == {"Standort": "Köln – Halle 2 🏠"}
