"""Addresses that somebody gives us to connect to: read strictly, looked up, and public ones alone.

So that nobody makes Landfall, or a server that it installs, knock at doors of its own network. Whoever connects goes to
one of exactly the addresses that were judged: a name that answers with another one a moment later gains nothing.
Standard library alone: the rescue system gets this file too, and judges by it.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

LONGEST = 500
PORTS = {"https": 443, "http": 80}

_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")

_ORDINARY_IPV6 = ipaddress.ip_network("2000::/3")
# Inside these an IPv4 address travels along, or nobody knows where they lead.
_ODD = tuple(
    ipaddress.ip_network(text)
    for text in ("192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")  # 6to4 relays, Teredo, 6to4, documentation
)

IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AddressRefused(Exception):
    """An address that is not connected to; says why, and what to enter instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: `path` is everything behind the host."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_encrypted(self) -> bool:
        return self.scheme == "https"


def parse(url: str, longest: int = LONGEST) -> Target:
    """The parts of an http(s) URL; `AddressRefused` says what is wrong with another one."""
    if len(url) > longest:
        raise AddressRefused(f"This address is longer than {longest} characters.")
    if not all("!" <= char <= "~" for char in url) or "\\" in url:
        raise AddressRefused(
            "An address has no spaces and ASCII alone: write %20 for a space, and names as xn--…, in ASCII."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefused("This is not an address: write it as https://host.example/path.") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise AddressRefused("This is not an address: write it as https://host.example/path.")
    if "@" in parts.netloc:
        raise AddressRefused("Name and password do not belong in the address.")
    if parts.fragment or url.endswith("#"):
        raise AddressRefused("Leave out the part behind #: it is never sent to a server.")
    _check_host(parts.hostname)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, _checked_port(port, parts.scheme), path)


def _check_host(host: str) -> None:
    if literal(host):
        return
    if not _HOST.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise AddressRefused("The host is neither a name nor an IP address: write it as in https://host.example/path.")


def literal(host: str) -> IP | None:
    """The address that the host is written as; None for a name. 2130706433, 0x7f.1 and 127.1 are neither."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _checked_port(port: int | None, scheme: str) -> int:
    if port is None:
        return PORTS[scheme]
    if port in PORTS.values() or port >= 1024:
        return port
    raise AddressRefused(f"Port {port} belongs to another service: use 443, or one from 1024 on.")


def check_literal(target: Target, networks: Iterable[Network]) -> None:
    """Raises `AddressRefused` for what can be refused without asking the DNS: at once, while somebody types it."""
    if address := literal(target.host):
        _refuse_unless_allowed(target.host, address, networks)


def addresses(target: Target, networks: Iterable[Network]) -> tuple[IP, ...]:
    """Where the target's host is, each of them allowed. `AddressRefused` for one that is not, or when there is none.

    Asks the resolver, which may take as long as the system lets it.
    """
    if address := literal(target.host):
        found: tuple[IP, ...] = (address,)
    else:
        try:
            answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise AddressRefused(f"The name {target.host} cannot be found in the DNS.") from error
        found = tuple(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))
    networks = tuple(networks)
    for address in found:
        _refuse_unless_allowed(target.host, address, networks)
    return found


def _refuse_unless_allowed(host: str, address: IP, networks: Iterable[Network]) -> None:
    if not is_allowed(address, networks):
        where = "" if literal(host) else f"at {address}, which is "
        raise AddressRefused(f"{host} is {where}not a public address: nothing is sent there.")


def is_allowed(address: IP, networks: Iterable[Network]) -> bool:
    """Whether one may connect to the address: a public one, or one of these networks."""
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    if any(plain in network for network in networks):
        return True
    if isinstance(plain, IPv6Address) and plain not in _ORDINARY_IPV6:
        return False
    return plain.is_global and not plain.is_multicast and not any(plain in network for network in _ODD)
