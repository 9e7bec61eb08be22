"""The four documents of a config drive, as cloud-init's ConfigDrive reader (OpenStack format) wants them.

cloud-init reads the newest dated folder that it knows and looks at `latest` only when there is none. 2012-08-10 is the
oldest date that every release knows, so both folders carry the same full set.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network
from uuid import UUID

from metadata.errors import MetadataRefused
from metadata.hostnames import check_hostname

FOLDERS = ("openstack/latest", "openstack/2012-08-10")
MOST_USER_DATA = 64 * 1024
ETHERNET_MTU = 1500

Json = Mapping[str, object]
Documents = dict[str, bytes]
"""Path on the config drive, without a leading slash, to content."""


class UserDataRefused(MetadataRefused):
    """The customer's user data cannot go on the drive."""


class MetaRefused(MetadataRefused):
    """One of the customer's own key-value pairs cannot go on the drive."""


class NetworkRefused(MetadataRefused):
    """The system would come up without a network."""


@dataclass(frozen=True, slots=True)
class Static:
    """A fixed address; without a gateway the link reaches its own network only."""

    address: IPv4Interface | IPv6Interface
    gateway: IPv4Address | IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One NIC of the server; without a `static` address it asks DHCP for one (IPv4)."""

    id: str
    mac: str
    mtu: int = ETHERNET_MTU
    static: Static | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything that one install tells the new system about itself.

    `uuid` is new for every install: cloud-init takes it for the instance id, and runs its per-instance modules again
    when it changes. `keys` are (name, public key line) pairs.
    """

    uuid: UUID
    hostname: str
    keys: tuple[tuple[str, str], ...]
    links: tuple[Link, ...]
    project_id: str = ""
    availability_zone: str = ""
    user_data: bytes = b""
    vendor_data: Json = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()


def documents(instance: Instance) -> Documents:
    """The files of the config drive; raises a MetadataRefused where the instance cannot be described."""
    full_set = {
        "meta_data.json": _json(meta_data(instance)),
        "network_data.json": _json(network_data(instance)),
        "user_data": check_user_data(instance.user_data),
        "vendor_data.json": _json(instance.vendor_data),
    }
    return {f"{folder}/{name}": content for folder in FOLDERS for name, content in full_set.items()}


def meta_data(instance: Instance) -> Json:
    """meta_data.json: who the machine is, and whose keys may log in."""
    hostname = check_hostname(instance.hostname)
    keys = _distinctly_named(instance.keys)
    return {
        "uuid": str(instance.uuid),
        "hostname": hostname,
        "name": hostname,
        # cloud-init uses public_keys; `keys` is what other readers of the format (CoreOS, cloudbase-init) look at
        "public_keys": keys,
        "keys": [{"name": name, "type": "ssh", "data": line} for name, line in keys.items()],
        "availability_zone": instance.availability_zone,
        "launch_index": 0,
        "project_id": instance.project_id,
        "devices": [],
        "meta": check_meta(instance.meta),
    }


def network_data(instance: Instance) -> Json:
    """network_data.json: links, networks and services; all three are there, or cloud-init falls back to guessing."""
    if not instance.links:
        raise NetworkRefused(
            "The rescue system saw none of the server's network cards, so the installed system would have no network. "
            "Compare the MAC addresses in the inventory with those of the server."
        )
    return {
        "links": [_link(link) for link in instance.links],
        "networks": [_network(number, link) for number, link in enumerate(instance.links)],
        "services": [{"type": "dns", "address": address} for address in instance.dns],
    }


def only_seen(links: Iterable[Link], seen: Iterable[str]) -> tuple[Link, ...]:
    """The links whose MAC address is among those `seen` by the rescue system.

    cloud-init gives up on the whole network configuration when one MAC address in it belongs to no NIC.
    """
    present = {mac.lower() for mac in seen}
    return tuple(link for link in links if link.mac.lower() in present)


def check_user_data(data: bytes) -> bytes:
    """The same bytes; raises UserDataRefused above 64 KiB. Nothing else is looked at: they may be gzip or MIME."""
    if len(data) > MOST_USER_DATA:
        raise UserDataRefused(
            f"The user data has {len(data):,} bytes. At most {MOST_USER_DATA:,} (64 KiB) fit: "
            "compress it with gzip, or let a short script fetch the rest."
        )
    return data


def check_meta(meta: Mapping[str, str]) -> dict[str, str]:
    """The customer's pairs; raises MetaRefused for `dsmode`, by which cloud-init would switch its data source off."""
    for key, value in meta.items():
        if key == "dsmode":
            raise MetaRefused("The key “dsmode” steers cloud-init itself. Choose another name for it.")
        if not key or not isinstance(value, str):
            raise MetaRefused(f"The pair “{key}” needs a name and a text value.")
    return dict(meta)


def _distinctly_named(keys: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name to key line. Two keys of one name both stay: dropping one would lock its owner out."""
    named: dict[str, str] = {}
    for name, line in keys:
        unique, number = name, 2
        while unique in named:
            unique, number = f"{name}-{number}", number + 1
        named[unique] = line
    return named


def _link(link: Link) -> Json:
    return {"id": link.id, "type": "phy", "ethernet_mac_address": link.mac.lower(), "mtu": link.mtu}


def _network(number: int, link: Link) -> Json:
    name = {"id": f"network{number}", "link": link.id}
    if link.static is None:
        return {**name, "type": "ipv4_dhcp"}
    address = link.static.address
    return {
        **name,
        "type": f"ipv{address.version}",
        "ip_address": str(address.ip),
        "netmask": str(address.netmask),
        "routes": [_default_route(link.static.gateway)] if link.static.gateway else [],
    }


def _default_route(gateway: IPv4Address | IPv6Address) -> Json:
    everywhere = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
    return {"network": str(everywhere.network_address), "netmask": str(everywhere.netmask), "gateway": str(gateway)}


def _json(document: Json) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()
