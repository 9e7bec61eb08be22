"""Which addresses a webhook may have: public ones, so that nobody makes Landfall knock at doors of its own network.

The URL is read strictly when it is entered and before every attempt; its host is looked up once per attempt, every
address that comes of it must be allowed, and the connection goes to one of exactly those.
"""

from django.conf import settings

from accounts import addresses as judge
from accounts.addresses import IP, LONGEST, Target
from accounts.addresses import AddressRefused as TargetRefused


def parse(url: str) -> Target:
    """The parts of a URL that a webhook may have; `TargetRefused` says what is wrong with another one."""
    target = judge.parse(url)
    if not target.is_encrypted and not settings.LANDFALL_WEBHOOK_HTTP:
        raise TargetRefused("Only https:// is taken: over http:// anybody on the way could read it.")
    return target


def check(url: str) -> None:
    """Raises `TargetRefused` for what can be refused without asking the DNS: at once, while somebody types it."""
    judge.check_literal(parse(url), settings.LANDFALL_WEBHOOK_NETWORKS)


def addresses(target: Target) -> tuple[IP, ...]:
    """Where the target's host is, each of them allowed. `TargetRefused` for one that is not, or when there is none."""
    return judge.addresses(target, settings.LANDFALL_WEBHOOK_NETWORKS)


def is_allowed(address: IP) -> bool:
    """Whether a delivery may go to the address: a public one, or one of LANDFALL_WEBHOOK_NETWORKS."""
    return judge.is_allowed(address, settings.LANDFALL_WEBHOOK_NETWORKS)


__all__ = ["IP", "LONGEST", "Target", "TargetRefused", "addresses", "check", "is_allowed", "parse"]
