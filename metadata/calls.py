"""What machines say when they call, read and checked: JSON in, a dict with known fields out."""

import json
from collections.abc import Callable, Mapping
from typing import Any

READY_LIMIT = 256 * 1024
PHONE_HOME_LIMIT = 16 * 1024
LONGEST_TEXT = 255


class CallRefused(ValueError):
    """The body is not what a machine of ours sends; the message says why."""


def read_ready(body: bytes) -> dict[str, Any]:
    """The payload of `ready`: host keys, boot id, raw facts."""
    return _read(body, {"host_keys": _is_key_list, "boot_id": _is_text, "facts": _is_object})


def read_phone_home(body: bytes) -> dict[str, Any]:
    """The payload of `phone-home`: host keys, and texts that say which system has come up."""
    texts = ("boot_id", "machine_id", "kernel", "cloud_init", "hostname")
    # what systems that were made bootable by a former version do not say
    optional = {"mounts": _is_text_map, "degraded_arrays": _is_text_list}
    return _read(body, {"host_keys": _is_key_list, **dict.fromkeys(texts, _is_text)}, optional)


Fields = Mapping[str, Callable[[object], bool]]


def _read(body: bytes, fields: Fields, optional: Fields | None = None) -> dict[str, Any]:
    try:
        data = json.loads(body.decode())
        # databases store neither NaN, nor half a surrogate pair, nor U+0000
        stored = json.dumps(data, allow_nan=False, ensure_ascii=False)
        stored.encode()
    except (ValueError, RecursionError) as error:
        raise CallRefused("The body is not JSON that can be stored.") from error
    if "\\u0000" in stored:
        raise CallRefused("The body has a null character in it.")
    if not isinstance(data, dict):
        raise CallRefused("The body is not a JSON object.")
    for name, is_right in fields.items():
        if not is_right(data.get(name)):
            raise CallRefused(f"The field “{name}” is missing, or not of the right kind.")
    known = {name: data[name] for name in fields}
    # an optional field of another kind is passed over: the call itself is worth more
    return known | {name: data[name] for name, is_right in (optional or {}).items() if is_right(data.get(name))}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and len(value) <= 64 and all(_is_text(one) for pair in value.items() for one in pair)


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(_is_text(one) for one in value)


def _is_key_list(value: object) -> bool:
    """At least one public key: type and base64, as in a .pub file."""
    return isinstance(value, list) and 0 < len(value) <= 16 and all(_is_key(item) for item in value)


def _is_key(value: object) -> bool:
    if not isinstance(value, str) or len(value) > 16_384 or "\n" in value:
        return False
    kind, _, blob = value.partition(" ")
    return kind.startswith(("ssh-", "ecdsa-", "sk-")) and bool(blob.strip())
