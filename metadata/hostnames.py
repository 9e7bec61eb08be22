"""Which names a server may bear: RFC 1123 section 2.1, with the lengths of RFC 1035."""

import re

from metadata.errors import MetadataRefused

LONGEST_NAME = 253
LONGEST_LABEL = 63

_LETTERS_DIGITS_HYPHENS = re.compile(r"[A-Za-z0-9-]+")


class HostnameRefused(MetadataRefused):
    """The name is not a host name."""


def check_hostname(name: str) -> str:
    """The host name in lower case, short (`web1`) or fully qualified (`web1.example.org`).

    Raises HostnameRefused with the reason. A name whose last label is all digits is refused although its characters
    are allowed: RFC 1123 keeps it apart from an IP address, and resolvers read `123` as one.
    """
    if not name:
        raise HostnameRefused("The host name is empty. Give one such as web1 or web1.example.org.")
    if len(name) > LONGEST_NAME:
        raise HostnameRefused(f"The host name has {len(name)} characters. At most {LONGEST_NAME} are allowed.")
    labels = name.split(".")
    for label in labels:
        _check_label(label)
    if labels[-1].isdigit():
        raise HostnameRefused(f"“{labels[-1]}” at the end reads as an IP address. Let the last part have a letter.")
    return name.lower()


def _check_label(label: str) -> None:
    if not label:
        raise HostnameRefused("A dot stands at the start or the end, or beside another dot. Leave it out.")
    if not _LETTERS_DIGITS_HYPHENS.fullmatch(label):
        raise HostnameRefused(
            f"“{label}” has characters that a host name cannot have. Use the letters a to z, digits and hyphens."
        )
    if len(label) > LONGEST_LABEL:
        raise HostnameRefused(f"“{label[:12]}…” has {len(label)} characters. At most {LONGEST_LABEL} between two dots.")
    if label.startswith("-") or label.endswith("-"):
        raise HostnameRefused(f"“{label}” starts or ends with a hyphen. Move or remove it.")
