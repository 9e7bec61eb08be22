"""Which addresses a webhook may have: public ones, so that nobody makes Landfall knock at doors of its own network.

The URL is read strictly when it is entered and before every attempt; its host is looked up once per attempt, every
address that comes of it must be allowed, and the connection goes to one of exactly those. A name that answers with
another address a moment later therefore gains nothing.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from django.conf import settings

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


class TargetRefused(Exception):
    """An address that a webhook may not have; says why, and what to enter instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a delivery goes: `path` is everything behind the host."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_encrypted(self) -> bool:
        return self.scheme == "https"


def parse(url: str) -> Target:
    """The parts of a URL that a webhook may have; `TargetRefused` says what is wrong with another one."""
    if len(url) > LONGEST:
        raise TargetRefused(f"This address is longer than {LONGEST} characters.")
    if not all("!" <= char <= "~" for char in url) or "\\" in url:
        raise TargetRefused(
            "An address has no spaces and ASCII alone: write %20 for a space, and names as xn--…, in ASCII."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetRefused("This is not an address: write it as https://host.example/path.") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise TargetRefused("This is not an address: write it as https://host.example/path.")
    if parts.scheme == "http" and not settings.LANDFALL_WEBHOOK_HTTP:
        raise TargetRefused("Only https:// is taken: over http:// anybody on the way could read it.")
    if "@" in parts.netloc:
        raise TargetRefused("Name and password do not belong in the address: check the signature instead.")
    if parts.fragment or url.endswith("#"):
        raise TargetRefused("Leave out the part behind #: it is never sent to a server.")
    _check_host(parts.hostname)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, _checked_port(port, parts.scheme), path)


def _check_host(host: str) -> None:
    if _literal(host):
        return
    if not _HOST.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise TargetRefused("The host is neither a name nor an IP address: write it as in https://host.example/path.")


def _literal(host: str) -> IP | None:
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
    raise TargetRefused(f"Port {port} belongs to another service: use 443, or one from 1024 on.")


def check(url: str) -> None:
    """Raises `TargetRefused` for what can be refused without asking the DNS: at once, while somebody types it."""
    target = parse(url)
    if literal := _literal(target.host):
        _refuse_unless_allowed(target.host, literal)


def addresses(target: Target) -> tuple[IP, ...]:
    """Where the target's host is, each of them allowed. `TargetRefused` for one that is not, or when there is none.

    Asks the resolver, which may take as long as the system lets it.
    """
    if literal := _literal(target.host):
        found: tuple[IP, ...] = (literal,)
    else:
        try:
            answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise TargetRefused(f"The name {target.host} cannot be found in the DNS.") from error
        found = tuple(dict.fromkeys(ipaddress.ip_address(answer[4][0]) for answer in answers))
    for address in found:
        _refuse_unless_allowed(target.host, address)
    return found


def _refuse_unless_allowed(host: str, address: IP) -> None:
    if not is_allowed(address):
        raise TargetRefused(f"{host} is at {address}, which is not a public address: deliveries do not go there.")


def is_allowed(address: IP) -> bool:
    """Whether a delivery may go to the address: a public one, or one of LANDFALL_WEBHOOK_NETWORKS."""
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    if any(plain in network for network in settings.LANDFALL_WEBHOOK_NETWORKS):
        return True
    if isinstance(plain, IPv6Address) and plain not in _ORDINARY_IPV6:
        return False
    return plain.is_global and not plain.is_multicast and not any(plain in network for network in _ODD)
