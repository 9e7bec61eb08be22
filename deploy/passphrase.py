"""The passphrase of encrypted disks: made by us or given, and fit to be typed at the console of a server."""

import secrets
from typing import Final

from accounts.secret import Secret

SHORTEST: Final = 12
LONGEST: Final = 200
"""Characters; cryptsetup itself reads 512 bytes from a keyboard."""

# At boot the console has not heard of anybody's keyboard yet. These letters lie in the same place on QWERTY, QWERTZ
# and AZERTY alike (no a, m, q, w, y, z, no digit, no dash), and none looks like another (no l).
_LETTERS: Final = "bcdefghijknoprstuvx"
_GROUPS, _GROUP = 6, 4


class PassphraseRefused(ValueError):
    """It cannot be the passphrase of a disk; the message says why and what to do."""


def make() -> Secret:
    """A new one of 24 letters (102 bits) in groups of four, which any keyboard types alike."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return Secret(" ".join(groups))


def check(passphrase: Secret) -> Secret:
    """The same; PassphraseRefused where it could not be typed when the server starts, or is too short."""
    text = passphrase.reveal()
    if len(text) < SHORTEST:
        raise PassphraseRefused(f"The passphrase has {len(text)} characters. Give it at least {SHORTEST}.")
    if len(text) > LONGEST:
        raise PassphraseRefused(f"The passphrase has {len(text)} characters. At most {LONGEST} are allowed.")
    if not (text.isascii() and text.isprintable()):
        raise PassphraseRefused(
            "The passphrase has characters that the console of a starting server may not know. "
            "Use letters without accents, digits, signs of an English keyboard and spaces."
        )
    if text != text.strip():
        raise PassphraseRefused("The passphrase begins or ends with a space, which nobody sees. Take it away.")
    return passphrase
