"""A customer's own image: what its address, checksum and headers must be before anything is done with it."""

import re
from dataclasses import dataclass

from django.conf import settings

from accounts import addresses
from accounts.addresses import AddressRefused, Target
from accounts.models import Project
from accounts.secret import Secret

from .checksums import check_checksum as check_checksum
from .flavours import UnknownFlavour, flavour
from .importing import file_name
from .models import Format, Image, ImageState, OwnImage
from .refusal import ImageRefused
from .store import public_source

LONGEST_URL = 4000
"""Characters: signed addresses are long."""
MOST_HEADERS = 20
LONGEST_HEADERS = 16 * 1024
MOST_HOOK = 64 * 1024
"""Bytes of a hook script."""

NO_HEADERS = Secret("")

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# They belong to the connection, or to what Landfall asks with: another value would break the transfer.
_OURS = frozenset({"host", "range", "content-length", "connection", "transfer-encoding", "accept-encoding", "te"})


@dataclass(frozen=True, slots=True)
class OwnImageWish:
    """The image that a customer brings: `headers` are lines «Name: value», `checksum` a SHA-256 or SHA-512."""

    url: Secret
    checksum: str
    format: Format
    flavour: str
    headers: Secret = NO_HEADERS


_EVERYWHERE = "Give an address that is reached from everywhere, with neither name nor password in it."


def check_url(url: str) -> Target:
    """Where the address leads; ImageRefused when it is none, or leads into our own networks as far as it says so."""
    try:
        target = addresses.parse(url, LONGEST_URL)
        addresses.check_literal(target, settings.LANDFALL_IMAGE_NETWORKS)
    except AddressRefused as refused:
        raise ImageRefused(str(refused), _EVERYWHERE) from refused
    return target


def check_headers(text: str) -> str:
    """The headers, one a line, blanks cut off; ImageRefused for what is none, or would break the transfer.

    No message repeats a header: its value may be a password.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_HEADERS or len(text) > LONGEST_HEADERS:
        raise ImageRefused(f"These are more than {MOST_HEADERS} headers.", "Leave out what the server does not need.")
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or not value.strip() or not value.isprintable():
            raise ImageRefused(f"Header {number} is none.", "Write each as Name: value, on a line of its own.")
        if name.lower() in _OURS:
            raise ImageRefused(f"The header {name} is set by Landfall itself.", "Leave it out.")
    return "".join(f"{line}\n" for line in lines)


def check_hook(script: str) -> str:
    """The hook script as it is kept; ImageRefused when it is too long or cannot be run."""
    script = script.replace("\r\n", "\n")
    if len(script.encode()) > MOST_HOOK:
        raise ImageRefused(f"The hook script has more than {MOST_HOOK // 1024} KiB.", "Let it fetch what it needs.")
    if script.strip() and not script.startswith("#!"):
        raise ImageRefused("The hook script does not say what runs it.", "Begin it with a line such as #!/bin/sh.")
    return script if script.strip() else ""


def own_image(wish: OwnImageWish, project: Project) -> Image:
    """The image and, in its `own`, where it comes from, both unsaved; ImageRefused for what is wrong with the wish.

    Asks the resolver: a name that leads into our own networks is refused here, and once more when it is fetched.
    """
    url = wish.url.reveal()
    target = check_url(url)
    checksum, headers = check_checksum(wish.checksum), check_headers(wish.headers.reveal())
    try:
        flavour(wish.flavour)
        found = addresses.addresses(target, settings.LANDFALL_IMAGE_NETWORKS)
    except UnknownFlavour as error:
        raise ImageRefused(f"There is no flavour {wish.flavour!r}.", str(error).partition(". ")[2]) from error
    except AddressRefused as refused:
        raise ImageRefused(str(refused), _EVERYWHERE) from refused
    inside = all(any(address in network for network in settings.LANDFALL_IMAGE_NETWORKS) for address in found)
    if headers and not target.is_encrypted and not inside:
        raise ImageRefused("The headers would travel over http:// in clear.", "Give an address with https://.")
    image = Image(
        name=(file_name(url) or target.host)[:100],
        flavour=wish.flavour,
        format=wish.format,
        size=0,
        virtual_size=0,
        project=project,
        state=ImageState.OWN,
    )
    image.own = OwnImage(url=wish.url, headers=Secret(headers), checksum=checksum, shown_url=public_source(url)[:1000])
    return image


def forget_secrets(image: Image) -> None:
    """The image has been copied: nobody needs its address and headers any more, which may open other things."""
    OwnImage.objects.filter(image=image).update(url="", headers="")


def is_own(image: Image) -> bool:
    """Whether a customer brought the image, and the server fetches it by itself."""
    return image.state == ImageState.OWN
