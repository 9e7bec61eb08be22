"""The ISO is read back by other tools (xorriso, blkid), and its files by cloud-init's own reader."""

import base64
import json
import subprocess
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metadata.configdrive import LARGEST, ConfigDriveTooLarge, iso
from metadata.documents import FOLDERS, MOST_USER_DATA, Instance, Link, Static, documents
from tests.metadata.builders import KEY, OTHER_KEY, make_instance

READER = Path(__file__).with_name("cloudinit_reader.py")
EVERY_BYTE = bytes(range(256))
PATHS = st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,40}", fullmatch=True), min_size=1, max_size=4).map("/".join)


def extract(image: bytes, folder: Path) -> dict[str, bytes]:
    """Every file in the image, as xorriso sees it."""
    file = folder / "drive.iso"
    file.write_bytes(image)
    tree = folder / "tree"
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", file, "-extract", "/", tree], check=True, capture_output=True
    )
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def ask_cloud_init(tree: Path, instance: Instance) -> Any:
    """What cloud-init reads from the extracted drive, on a machine that has all of the instance's NICs."""
    nics = [f"{link.id}={link.mac.lower()}" for link in instance.links]
    done = subprocess.run(["/usr/bin/python3", str(READER), str(tree), *nics], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def probe(image: bytes, folder: Path) -> dict[str, str]:
    """What blkid says of the image."""
    file = folder / "drive.iso"
    file.write_bytes(image)
    done = subprocess.run(["blkid", "-p", "-o", "export", file], check=True, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_it_is_an_iso_9660_labelled_config_2(tmp_path: Path) -> None:
    found = probe(iso(documents(make_instance())), tmp_path)
    assert found["LABEL"] == "config-2"
    assert found["TYPE"] == "iso9660"


@pytest.mark.parametrize("names", [["-R"], ["-J"]], ids=["Rock Ridge", "Joliet"])
def test_both_kinds_of_names_are_the_real_ones(names: list[str], tmp_path: Path) -> None:
    files = documents(make_instance())
    file = tmp_path / "drive.iso"
    file.write_bytes(iso(files))
    listing = subprocess.run(["isoinfo", "-f", *names, "-i", file], check=True, capture_output=True, text=True)
    assert set(files) <= {line.lstrip("/") for line in listing.stdout.splitlines()}


def test_the_files_are_read_by_root_alone(tmp_path: Path) -> None:
    extract(iso(documents(make_instance())), tmp_path)
    assert (tmp_path / "tree/openstack/latest/user_data").stat().st_mode & 0o077 == 0


def test_every_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    files = documents(make_instance(user_data=EVERY_BYTE * 256))
    assert extract(iso(files), tmp_path) == files


def test_cloud_init_reads_what_went_in(tmp_path: Path) -> None:
    instance = make_instance(
        keys=(("alice", KEY), ("bob", OTHER_KEY)),
        links=(
            Link("nic0", "52:54:00:AA:00:01", 9000, Static(IPv4Interface("192.0.2.14/26"), IPv4Address("192.0.2.1"))),
            Link("nic1", "52:54:00:aa:00:02"),
            Link("nic2", "52:54:00:aa:00:03", static=Static(IPv6Interface("2001:db8::14/64"), IPv6Address("fe80::1"))),
        ),
        user_data=EVERY_BYTE * (MOST_USER_DATA // 256),
        vendor_data={"cloud-init": "#cloud-config\n{}\n"},
        meta={"rack": "7", "Standort": "Köln"},
        dns=("192.0.2.2",),
    )
    extract(iso(documents(instance)), tmp_path)
    read = ask_cloud_init(tmp_path / "tree", instance)

    metadata = read["metadata"]
    assert metadata["instance-id"] == str(instance.uuid)
    assert metadata["local-hostname"] == "web1.example.org"
    assert metadata["public_keys"] == {"alice": KEY, "bob": OTHER_KEY}
    assert metadata["project_id"] == "acme"
    assert metadata["meta"] == {"rack": "7", "Standort": "Köln"}
    assert read["dsmode"] is None
    assert base64.b64decode(read["userdata"]) == instance.user_data
    assert read["vendordata"] == {"cloud-init": "#cloud-config\n{}\n"}

    first, second, third = read["interfaces"]
    assert (first["name"], first["mac_address"], first["mtu"]) == ("nic0", "52:54:00:aa:00:01", 9000)
    assert address_of(first) == ("192.0.2.14", 26, [("0.0.0.0", 0, "192.0.2.1")])
    assert second["mac_address"] == "52:54:00:aa:00:02"
    assert [subnet["type"] for subnet in second["subnets"]] == ["dhcp4"]
    assert address_of(third) == ("2001:db8::14", 64, [("::", 0, "fe80::1")])
    assert read["dns"] == ["192.0.2.2"]


def address_of(interface: Mapping[str, Any]) -> tuple[str, int, list[tuple[str, int, str]]]:
    (subnet,) = interface["subnets"]
    routes = [(route["network"], route["prefix"], route["gateway"]) for route in subnet["routes"]]
    return subnet["address"], subnet["prefix"], routes


@pytest.mark.parametrize("kept", FOLDERS)
def test_each_of_the_two_folders_is_enough_for_cloud_init(kept: str, tmp_path: Path) -> None:
    files = documents(make_instance())
    extract(iso({path: content for path, content in files.items() if path.startswith(kept)}), tmp_path)
    assert ask_cloud_init(tmp_path / "tree", make_instance())["metadata"]["local-hostname"] == "web1.example.org"


def test_the_same_files_give_the_same_bytes_on_another_day_and_in_another_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    files = documents(make_instance(user_data=EVERY_BYTE * 64))
    today = iso(files)
    monkeypatch.setattr(time, "time", lambda: 1_234_567_890.0)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert iso(files) == today
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_order_of_the_files_does_not_matter() -> None:
    files = documents(make_instance())
    assert iso(dict(reversed(files.items()))) == iso(files)


def test_the_fullest_drive_fits_its_partition_and_more_is_refused() -> None:
    assert len(iso(documents(make_instance(user_data=b"x" * MOST_USER_DATA)))) <= LARGEST // 2
    with pytest.raises(ConfigDriveTooLarge, match="Shorten"):
        iso({"blob": b"x" * LARGEST})


@settings(max_examples=25, deadline=None)
@given(user_data=st.binary(max_size=5000), files=st.dictionaries(PATHS, st.binary(max_size=3000), max_size=5))
def test_any_content_and_any_names_survive(user_data: bytes, files: dict[str, bytes]) -> None:
    contents = documents(make_instance(user_data=user_data)) | {
        f"extra/{number}/{path.replace('..', '_').replace('/.', '/_').lstrip('.')}_": content
        for number, (path, content) in enumerate(files.items())
    }
    with TemporaryDirectory() as folder:
        assert extract(iso(contents), Path(folder)) == contents


def test_a_folder_of_a_hundred_files_crosses_sectors_and_survives(tmp_path: Path) -> None:
    files = {f"openstack/content/{number:04d}": str(number).encode() for number in range(100)}
    assert extract(iso(files), tmp_path) == files
