"""Public SSH keys, read strictly: what is accepted here opens the server at the end, and nothing else does.

Pure: text in, values out. The wire format is RFC 4253 section 6.6, with the curves of RFC 5656 and 8709 and the
hardware keys (`sk-`) of OpenSSH's PROTOCOL.u2f.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

SMALLEST_RSA: Final = 2048
LARGEST_RSA: Final = 16384  # OpenSSL, and so sshd, refuses to use a longer one
SMALLEST_RSA_EXPONENT: Final = 65537
LONGEST_COMMENT: Final = 200
LONGEST_TEXT: Final = 16 * 1024

MAKE_ONE: Final = "Make one with: ssh-keygen -t ed25519"


class KeyRefused(Exception):
    """A text that is no good public key; `why` says so in a sentence, and what to do instead."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that sshd accepts: `line` is how it stands in authorized_keys, `fingerprint` what ssh-keygen -l prints."""

    key_type: str
    blob: bytes
    comment: str

    @property
    def fingerprint(self) -> str:
        """SHA256: and the digest in base64 without padding."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """Type, key and comment, in one line."""
        return f"{self.key_type} {base64.b64encode(self.blob).decode()} {self.comment}".rstrip()


def parse_public_key(text: str) -> PublicKey:
    """The key in a text as it was pasted; `KeyRefused` when it is none, or a weak one."""
    line = text.strip()
    _refuse_what_is_no_line(line)
    key_type, _, rest = line.partition(" ")
    _refuse_type(key_type, line)
    encoded, _, comment = rest.strip().partition(" ")
    comment = comment.strip()
    if len(comment) > LONGEST_COMMENT or not comment.isprintable():
        raise KeyRefused(
            f"The comment after the key has invisible characters, or more than {LONGEST_COMMENT}: shorten it."
        )
    blob = _decoded(encoded)
    _check_blob(key_type, blob)
    return PublicKey(key_type, blob, comment)


def _refuse_what_is_no_line(line: str) -> None:
    if not line:
        raise KeyRefused("There is no key here: paste the one line of a file such as ~/.ssh/id_ed25519.pub.")
    if "PRIVATE KEY" in line or line.startswith("PuTTY-User-Key-File"):
        raise KeyRefused(
            "This is a private key, which never leaves its owner's machine: paste the public one, from the file that "
            "ends in .pub. Whoever has seen this one can use it, so replace it."
        )
    if "BEGIN SSH2 PUBLIC KEY" in line or "BEGIN PUBLIC KEY" in line or "BEGIN RSA PUBLIC KEY" in line:
        raise KeyRefused("This key has another program's format. Convert it with: ssh-keygen -i -f FILE (-m PKCS8)")
    if len(line) > LONGEST_TEXT:
        raise KeyRefused("This is far longer than any public key: paste one key alone.")
    if len(line.splitlines()) > 1:
        raise KeyRefused("This has several lines: paste one key, in one line, and add the others one by one.")


def _refuse_type(key_type: str, line: str) -> None:
    if key_type in _READERS:
        return
    if key_type == "ssh-dss":
        raise KeyRefused(f"DSA keys are broken and today's servers ignore them. {MAKE_ONE}")
    if key_type.endswith("-cert-v01@openssh.com"):
        raise KeyRefused("This is a certificate, not a key: paste the public key that it was made from.")
    if any(f" {known} " in f" {line}" for known in _READERS):
        raise KeyRefused(
            f"Options before the key are not accepted: begin with the key itself, without {key_type[:40]!r}."
        )
    raise KeyRefused(f"{key_type[:40]!r} is no type of key that is accepted here. {MAKE_ONE}")


def _decoded(encoded: str) -> bytes:
    """The bytes of the base64 part, which must be whole and in the one form that encodes them."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if not blob or base64.b64encode(blob).decode() != encoded:
        raise _damaged("its base64 text cannot be decoded")
    return blob


def _check_blob(key_type: str, blob: bytes) -> None:
    wire = _Wire(blob)
    inside = wire.string()
    if inside != key_type.encode():
        raise KeyRefused(
            f"The line says {key_type}, but the key in it is another one ({inside[:40].decode(errors='replace')}): "
            "copy the line again."
        )
    _READERS[key_type](wire)
    if wire.left:
        raise _damaged(f"{wire.left} bytes too many at its end")


def _damaged(how: str) -> KeyRefused:
    return KeyRefused(f"The key is damaged ({how}): copy the whole line again.")


class _Wire:
    """The fields of a key, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._data)

    def string(self) -> bytes:
        """The next field: four bytes of length, and that many bytes."""
        length = int.from_bytes(self._data[:4], "big")
        if len(self._data) < 4 or len(self._data) < 4 + length:
            raise _damaged("it ends too early")
        value, self._data = self._data[4 : 4 + length], self._data[4 + length :]
        return value

    def number(self) -> int:
        """The next field as a positive number, written as short as it can be."""
        field = self.string()
        value = int.from_bytes(field, "big", signed=True)
        if value <= 0 or len(field) != value.bit_length() // 8 + 1:
            raise _damaged("a number in it is badly written")
        return value


def _rsa(wire: _Wire) -> None:
    exponent, modulus = wire.number(), wire.number()
    bits = modulus.bit_length()
    if bits < SMALLEST_RSA:
        raise KeyRefused(f"This RSA key has {bits} bits, and fewer than {SMALLEST_RSA} are too weak. {MAKE_ONE}")
    if bits > LARGEST_RSA:
        raise KeyRefused(f"This RSA key has {bits} bits, and no server uses more than {LARGEST_RSA}. {MAKE_ONE}")
    if exponent < SMALLEST_RSA_EXPONENT:
        raise KeyRefused(f"This RSA key has the exponent {exponent}, which is too small to be safe. {MAKE_ONE}")
    if exponent % 2 == 0 or modulus % 2 == 0:
        raise _damaged("its numbers are even, as no RSA key's are")


def _ed25519(wire: _Wire) -> None:
    if len(wire.string()) != 32:
        raise _damaged("an Ed25519 key has 32 bytes")


def _ecdsa(name: bytes, curve: ec.EllipticCurve) -> Callable[[_Wire], None]:
    def read(wire: _Wire) -> None:
        if wire.string() != name:
            raise _damaged("it names another curve than its type")
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(curve, point := wire.string())
        except ValueError as error:
            raise _damaged("its point is not on the curve") from error
        if point[0] != 4:
            raise _damaged("its point is compressed, which sshd does not read")

    return read


def _on_hardware(read: Callable[[_Wire], None]) -> Callable[[_Wire], None]:
    def read_both(wire: _Wire) -> None:
        read(wire)
        if not wire.string():
            raise _damaged("a hardware key names its application")

    return read_both


_NISTP256: Final = _ecdsa(b"nistp256", ec.SECP256R1())
_READERS: Final[Mapping[str, Callable[[_Wire], None]]] = {
    "ssh-ed25519": _ed25519,
    "ssh-rsa": _rsa,
    "ecdsa-sha2-nistp256": _NISTP256,
    "ecdsa-sha2-nistp384": _ecdsa(b"nistp384", ec.SECP384R1()),
    "ecdsa-sha2-nistp521": _ecdsa(b"nistp521", ec.SECP521R1()),
    "sk-ssh-ed25519@openssh.com": _on_hardware(_ed25519),
    "sk-ecdsa-sha2-nistp256@openssh.com": _on_hardware(_NISTP256),
}
"""The types that are accepted, and what checks their fields."""
