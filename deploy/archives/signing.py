"""The key with which a Landfall signs its archives: Ed25519, so that whoever has the public half can prove them."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.conf import settings


class KeyUnusable(Exception):
    """There is no key, or it is none; the message says how to get one."""


def own_key() -> Ed25519PrivateKey:
    """The key in `LANDFALL_ARCHIVE_KEY`: 32 random bytes in base64."""
    try:
        seed = base64.b64decode(settings.LANDFALL_ARCHIVE_KEY, validate=True)
        return Ed25519PrivateKey.from_private_bytes(seed)
    except (binascii.Error, ValueError) as error:
        raise KeyUnusable(
            "There is no key to sign archives with: bin/setup writes one into var/archive.key; or set "
            "LANDFALL_ARCHIVE_KEY to 32 random bytes in base64."
        ) from error


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public half as openssl reads it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_hex(key: Ed25519PublicKey) -> str:
    """The public half in 64 hexadecimal digits, as it stands in the database."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def from_hex(digits: str) -> Ed25519PublicKey:
    """The public half out of the database."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(digits))


def from_pem(pem: bytes) -> Ed25519PublicKey:
    """A public half that somebody kept; `KeyUnusable` when it is none."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise KeyUnusable("This is no public key in PEM: `manage.py purge --public-key` prints one.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable("This is no Ed25519 key: `manage.py purge --public-key` prints the right one.")
    return key


def is_signed_by(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether the signature is this key's, of exactly these bytes."""
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
