import base64
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from accounts.sshkeys import KeyRefused, parse_public_key

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def fields(*values: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(value)) + value for value in values)


def mpint(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def line(*values: bytes, key_type: str = "") -> str:
    return f"{key_type or values[0].decode()} {base64.b64encode(fields(*values)).decode()}"


def rsa_line(bits: int = 2048, exponent: int = 65537) -> str:
    return line(b"ssh-rsa", mpint(exponent), mpint(2 ** (bits - 1) + 1))


def why(text: str) -> str:
    with pytest.raises(KeyRefused) as refused:
        parse_public_key(text)
    assert str(refused.value) == refused.value.why
    return refused.value.why


@pytest.mark.parametrize("options", [
    ["-t", "ed25519"], ["-t", "rsa", "-b", "2048"], ["-t", "rsa", "-b", "3072"],
    ["-t", "ecdsa", "-b", "256"], ["-t", "ecdsa", "-b", "384"], ["-t", "ecdsa", "-b", "521"],
])  # fmt: skip
def test_what_ssh_keygen_makes_is_read_as_ssh_keygen_reads_it(options: list[str], tmp_path: Path) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", *options, "-N", "", "-C", "alice at home", "-f", file], check=True)
    key = parse_public_key(file.with_suffix(".pub").read_text())
    seen = subprocess.run(["ssh-keygen", "-l", "-f", file], check=True, capture_output=True, text=True).stdout
    assert key.fingerprint == seen.split()[1]
    assert key.line == file.with_suffix(".pub").read_text().strip()
    assert key.comment == "alice at home"


def test_keys_on_hardware_are_welcome() -> None:
    token = line(b"sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:")
    assert parse_public_key(token).key_type == "sk-ssh-ed25519@openssh.com"
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    encoded = point.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    assert parse_public_key(line(b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", encoded, b"ssh:")).comment == ""


def test_blanks_around_a_key_do_not_matter() -> None:
    key = parse_public_key(f"\n  {ED25519}   alice   \r\n")
    assert key.line == f"{ED25519} alice"


def test_a_key_needs_no_comment() -> None:
    assert parse_public_key(ED25519).line == ED25519


def test_nothing_is_no_key() -> None:
    assert "paste the one line" in why(" \n")


@pytest.mark.parametrize("kind", [serialization.PrivateFormat.OpenSSH, serialization.PrivateFormat.PKCS8])
def test_a_private_key_is_refused_before_anything_is_read(kind: serialization.PrivateFormat) -> None:
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    assert "private key" in why(pem.decode())


def test_a_putty_key_is_refused_as_private() -> None:
    assert "private key" in why("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none")


def test_other_formats_come_with_the_command_that_converts_them() -> None:
    assert "ssh-keygen -i" in why("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----")


def test_dsa_is_refused() -> None:
    assert "DSA" in why(line(b"ssh-dss", mpint(7), mpint(7), mpint(7), mpint(7)))


def test_short_rsa_is_refused_with_its_size() -> None:
    assert "1024 bits" in why(rsa_line(1024))
    assert "2047 bits" in why(rsa_line(2047))
    assert parse_public_key(rsa_line(2048)).key_type == "ssh-rsa"


def test_endless_rsa_is_refused() -> None:
    assert "32768 bits" in why(rsa_line(32768))


def test_a_small_exponent_is_refused() -> None:
    assert "exponent 3" in why(rsa_line(exponent=3))


def test_several_lines_are_refused() -> None:
    assert "several lines" in why(f"{ED25519} alice\n{ED25519} bob")
    assert "several lines" in why(f"{ED25519[:50]}\n{ED25519[50:]}")


@pytest.mark.parametrize("options", ['from="10.0.0.0/8"', 'command="rm -rf /",no-pty', "restrict"])
def test_options_before_the_key_are_refused(options: str) -> None:
    assert "Options" in why(f"{options} {ED25519} alice")


def test_a_certificate_is_refused() -> None:
    assert "certificate" in why(f"ssh-ed25519-cert-v01@openssh.com {ED25519.split()[1]}")


def test_an_unknown_type_is_refused() -> None:
    assert "'ssh-magic'" in why("ssh-magic AAAA")


@pytest.mark.parametrize("length", range(0, 68, 3))
def test_a_truncated_key_is_refused(length: int) -> None:
    key_type, encoded = ED25519.split()
    assert "damaged" in why(f"{key_type} {encoded[:length]}")


def test_bytes_after_the_key_are_refused() -> None:
    assert "too many" in why(line(b"ssh-ed25519", b"k" * 32, b"more"))


def test_the_type_in_front_must_be_the_type_inside() -> None:
    assert "says ssh-rsa" in why(line(b"ssh-ed25519", b"k" * 32, key_type="ssh-rsa"))


def test_a_point_beside_the_curve_is_refused() -> None:
    assert "curve" in why(line(b"ecdsa-sha2-nistp256", b"nistp256", b"\4" + b"\1" * 64))


def test_a_curve_that_is_not_its_types_is_refused() -> None:
    assert "another curve" in why(line(b"ecdsa-sha2-nistp256", b"nistp384", b"\4" + b"\1" * 64))


@pytest.mark.parametrize("number", [b"", b"\x80" + b"\1" * 255, b"\0\0\1\0\1"])
def test_a_number_that_is_badly_written_is_refused(number: bytes) -> None:
    assert "badly written" in why(line(b"ssh-rsa", number, mpint(2**2047 + 1)))


def test_an_invisible_character_in_the_comment_is_refused() -> None:
    assert "invisible" in why(f"{ED25519} alice\x1b[31m")


def test_far_too_much_text_is_refused() -> None:
    assert "longer than any" in why("ssh-rsa " + "A" * 20_000)


@given(st.text(max_size=300))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for candidate in (text, f"ssh-rsa {text}", f"{ED25519} {text}"):
        try:
            key = parse_public_key(candidate)
        except KeyRefused:
            continue
        assert parse_public_key(key.line) == key


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(blob: bytes) -> None:
    for key_type in ("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256"):
        text = f"{key_type} {base64.b64encode(fields(key_type.encode()) + blob).decode()}"
        try:
            assert parse_public_key(text).line == text
        except KeyRefused:
            continue
