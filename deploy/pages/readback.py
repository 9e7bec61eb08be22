"""The read-back certificate as the install's page shows it: topic by topic, what was planned and what is there."""

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.certificate import TOPICS, Certificate, Finding
from deploy.events import State

TITLES = {
    "partitions": "Partitions",
    "arrays": "RAID arrays",
    "encryption": "Encryption",
    "volumes": "Volumes",
    "filesystems": "File systems",
    "fstab": "fstab, crypttab, mdadm.conf",
    "initramfs": "Drivers in the initramfs",
    "network": "Drivers of network cards in the kernel",
    "boot": "What the firmware starts from",
    "config-drive": "Config drive",
    "running": "What the new system says of itself",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """The findings on one thing."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """All that was read back, and how much of it is as it was planned."""

    topics: tuple[Topic, ...]

    @property
    def facts(self) -> int:
        return sum(len(topic.findings) for topic in self.topics)

    @property
    def wrong(self) -> int:
        return sum(not finding.ok for topic in self.topics for finding in topic.findings)


def read_back(state: State) -> ReadBack | None:
    """What was read back of an install; None where nothing was, as before the reboot or in older installs."""
    certificate = Certificate.from_json(state.result("verify").get("certificate") or state.certificate)
    # what differs comes first: it is what one opens the page for
    topics = tuple(sorted(_topics(certificate), key=lambda topic: topic.ok))
    return ReadBack(topics) if topics else None


def _topics(certificate: Certificate) -> Iterator[Topic]:
    names = dict.fromkeys((*TOPICS, *(finding.topic for finding in certificate.findings)))
    for name in names:
        if findings := tuple(finding for finding in certificate.findings if finding.topic == name):
            yield Topic(TITLES.get(name, name), findings)
