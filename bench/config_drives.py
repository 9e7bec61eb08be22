"""How many config drives (four documents, twice, as an ISO) one process builds in a second."""

import os
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Interface, ip_address
from uuid import uuid4

from bench.report import table
from metadata.configdrive import iso
from metadata.documents import MOST_USER_DATA, Instance, Link, Static, documents
from tests.builders import public_key

SECONDS = 3.0

SMALL = b"#cloud-config\npackages: [nginx]\n"
USER_DATA: Mapping[str, bytes] = {
    f"{len(SMALL)} bytes": SMALL,
    # Random, because the customer may have compressed it.
    "64 KiB, the most": os.urandom(MOST_USER_DATA),
}


def builder(user_data: bytes) -> Callable[[], bytes]:
    """Builds the drive of one more install: two keys, two network cards, one of them with a fixed address."""
    keys = (("alice", public_key("alice@example.org")), ("bob", public_key("bob@example.org")))
    static = Static(IPv4Interface("192.0.2.14/24"), ip_address("192.0.2.1"))
    links = (Link("eth0", "52:54:00:00:00:01", static=static), Link("eth1", "52:54:00:00:00:02"))
    return lambda: iso(documents(Instance(uuid4(), "web-14.example.net", keys, links, user_data=user_data)))


def per_second(build: Callable[[], bytes]) -> float:
    """How often it is done in a second of processor time: what else the machine does is not counted."""
    done, began = 0, time.process_time()
    while (took := time.process_time() - began) < SECONDS:
        build()
        done += 1
    return done / took


def main() -> None:
    rows = []
    for name, user_data in USER_DATA.items():
        build = builder(user_data)
        size = len(build())
        rate = per_second(build)
        rows.append((name, f"{rate:.0f}", f"{1000 / rate:.1f}", f"{size / 1024:.0f}"))
    print(table(("user data", "drives per second", "ms each", "ISO, KiB"), rows))


if __name__ == "__main__":
    main()
