"""Checksums as people paste them: SHA-256 or SHA-512. Pure: text in, values out."""

import re
from typing import Final

from .refusal import ImageRefused

_DIGITS: Final = {64: "sha256", 128: "sha512"}


def check_checksum(text: str) -> str:
    """The checksum as it is kept, sha256:… or sha512:…; ImageRefused when it is neither.

    What sha256sum prints behind the digits is left out.
    """
    digits = re.sub(r"^sha-?(256|512):", "", (text.strip().lower().split() or [""])[0])
    kind = _DIGITS.get(len(digits))
    if kind is None or not re.fullmatch("[0-9a-f]+", digits):
        raise ImageRefused(
            "This is no SHA-256 and no SHA-512.", "Give its 64 or 128 hexadecimal digits, as sha256sum prints them."
        )
    return f"{kind}:{digits}"
