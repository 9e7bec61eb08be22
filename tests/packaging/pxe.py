"""A network card's boot ROM, as far as DHCP and TFTP see it: `python -m tests.packaging.pxe` in a network of its own.

Runs inside a fresh network namespace: makes a second one for the client, starts dnsmasq on its own side, and prints
what each kind of firmware was told as one line of JSON. Nothing of it reaches the host's network.
"""

import argparse
import json
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SERVER, CLIENT, NETMASK = "192.0.2.10", "192.0.2.77", 24
MAGIC = b"\x63\x82\x53\x63"
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5


@dataclass(frozen=True, slots=True)
class Firmware:
    """Who asks."""

    name: str
    arch: int
    is_ipxe: bool = False

    def options(self) -> bytes:
        """What it says about itself."""
        vendor = f"PXEClient:Arch:{self.arch:05}:UNDI:003016".encode()
        said = [
            (55, bytes([1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97])), (60, vendor), (93, struct.pack("!H", self.arch)),
            (94, b"\1\3\x10"), (97, b"\0" + b"landfall-firmware"[:16]),
        ]  # fmt: skip
        if self.is_ipxe:
            said += [(77, b"iPXE"), (175, b"\xeb\x03\x01\x15\x01")]
        return b"".join(option(number, value) for number, value in said)


FIRMWARE = (
    Firmware("BIOS", 0), Firmware("UEFI", 7), Firmware("UEFI as type 9", 9), Firmware("iPXE on BIOS", 0, is_ipxe=True),
    Firmware("iPXE on UEFI", 7, is_ipxe=True),
)  # fmt: skip


def option(number: int, value: bytes) -> bytes:
    return bytes([number, len(value)]) + value


@dataclass(frozen=True, slots=True)
class Reply:
    """A DHCP message from the server."""

    address: str
    next_server: str
    file: str
    options: Mapping[int, bytes]

    @classmethod
    def read(cls, data: bytes) -> "Reply":
        """From its bytes."""
        options: dict[int, bytes] = {}
        rest = data[240:]
        while rest and rest[0] != 255:
            if rest[0] == 0:
                rest = rest[1:]
                continue
            options[rest[0]] = options.get(rest[0], b"") + rest[2 : 2 + rest[1]]
            rest = rest[2 + rest[1] :]
        file = options.get(67) or data[108:236]
        next_server = socket.inet_ntoa(data[20:24])
        if 66 in options and next_server == "0.0.0.0":
            next_server = options[66].rstrip(b"\0").decode()
        return cls(socket.inet_ntoa(data[16:20]), next_server, file.rstrip(b"\0").decode(), options)

    @property
    def kind(self) -> int:
        """OFFER or ACK."""
        return self.options.get(53, b"\0")[0]


class Card:
    """A network card that asks. With an address of its own it is one that another DHCP server has configured."""

    def __init__(self, interface: str, firmware: Firmware, own_address: str = "") -> None:
        self.firmware, self.own_address = firmware, own_address
        self.mac = bytes([0x52, 0x54, 0, 0, firmware.arch, firmware.is_ipxe])
        self.xid = secrets.token_bytes(4)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        self._socket.bind(("", 68))
        self._socket.settimeout(5)

    def discover(self) -> Reply:
        """The first offer."""
        return self._ask(DISCOVER, b"", ("255.255.255.255", 67), OFFER)

    def request(self, offer: Reply) -> Reply:
        """What is agreed on."""
        asked = option(50, socket.inet_aton(offer.address)) + option(54, offer.options[54])
        return self._ask(REQUEST, asked, ("255.255.255.255", 67), ACK)

    def request_boot(self, offer: Reply) -> Reply:
        """The boot server's own answer: for the first entry of the menu in the offer; UEFI gets none, and just asks."""
        menu = suboptions(offer.options.get(43, b""))
        entry = option(43, option(71, menu[9][:2] + b"\0\0") + b"\xff") if 9 in menu else b""
        asked = entry + option(54, offer.options[54])
        return self._ask(REQUEST, asked, (socket.inet_ntoa(offer.options[54]), 4011), ACK)

    def close(self) -> None:
        self._socket.close()

    def _ask(self, kind: int, more: bytes, to: tuple[str, int], wanted: int) -> Reply:
        own = socket.inet_aton(self.own_address) if to[1] == 4011 else b"\0\0\0\0"
        head = struct.pack("!4B4sHH4s4s4s4s16s192x", 1, 1, 6, 0, self.xid, 0, 0x8000, own, b"", b"", b"", self.mac)
        message = head + MAGIC + option(53, bytes([kind])) + more + self.firmware.options() + b"\xff"
        for _ in range(5):
            self._socket.sendto(message, to)
            with suppress(TimeoutError):
                while True:
                    data = self._socket.recv(4096)
                    if data[4:8] == self.xid and (reply := Reply.read(data)).kind == wanted:
                        return reply
        raise TimeoutError(f"no answer to {self.firmware.name} from {to}")


def suboptions(data: bytes) -> dict[int, bytes]:
    """What is packed into option 43."""
    found: dict[int, bytes] = {}
    while data and data[0] != 255:
        found[data[0]] = data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
    return found


def fetch(host: str, name: str) -> str:
    """A file by TFTP, short ones only; or what the server says against it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(5)
        line.sendto(b"\0\1" + name.encode() + b"\0octet\0", (host, 69))
        content = b""
        while True:
            data, peer = line.recvfrom(1024)
            if data[:2] == b"\0\5":
                return f"error: {data[4:].rstrip(bytes(1)).decode()}"
            content += data[4:]
            line.sendto(b"\0\4" + data[2:4], peer)
            if len(data) < 516:
                return content.decode()


def ask_all(interface: str, proxy: bool) -> list[dict[str, str]]:
    """What each kind of firmware is told, in the client's namespace."""
    told = []
    for firmware in FIRMWARE:
        card = Card(interface, firmware, CLIENT if proxy else "")
        offer = card.discover()
        if not proxy:
            final = card.request(offer)
        elif offer.file:
            final = offer
        else:
            final = card.request_boot(offer)
        card.close()
        answer = {
            "who": firmware.name, "file": final.file, "server": final.next_server, "address": offer.address,
            "router": socket.inet_ntoa(offer.options[3]) if 3 in offer.options else "",
        }  # fmt: skip
        if not final.file.startswith("http"):
            answer["content"] = fetch(final.next_server, final.file)
        told.append(answer)
    return told


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def try_out(config: Path, proxy: bool) -> list[dict[str, str]]:
    """dnsmasq on this side of a cable, firmware on the other one."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        _wait_for_namespace(holder.pid)
        run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "card0", "netns", str(holder.pid))
        run("ip", "address", "add", f"{SERVER}/{NETMASK}", "dev", "eth1")
        run("ip", "link", "set", "eth1", "up")
        inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        run(*inside, "ip", "link", "set", "card0", "up")
        run(*inside, "ip", "address", "add", f"{CLIENT}/{NETMASK}", "dev", "card0")
        dnsmasq = subprocess.Popen([
            "dnsmasq", "--keep-in-foreground", f"--conf-file={config}", "--log-facility=-", "--log-dhcp",
            "--user=root", "--group=root", "--pid-file=", f"--dhcp-leasefile={config.parent}/leases",
            "--no-ping",  # it would look for three seconds whether an address is free
        ], stderr=sys.stderr)  # fmt: skip
        try:
            time.sleep(0.5)
            ask = [*inside, sys.executable, "-m", "tests.packaging.pxe", "--client", *(["--proxy"] if proxy else [])]
            done = subprocess.run(ask, stdout=subprocess.PIPE, check=True, text=True)
            return list(json.loads(done.stdout))
        finally:
            dnsmasq.send_signal(signal.SIGTERM)
            dnsmasq.wait()
    finally:
        holder.kill()
        holder.wait()


def _wait_for_namespace(pid: int) -> None:
    own = Path("/proc/self/ns/net").readlink()
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}/ns/net").readlink() == own:
        if time.monotonic() > end:
            raise TimeoutError("no second network namespace")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--client", action="store_true")
    options = parser.parse_args()
    found = ask_all("card0", options.proxy) if options.client else try_out(options.config, options.proxy)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
