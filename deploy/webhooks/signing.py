"""Signatures after the Standard Webhooks specification (1.0.0), made by the specification's own library."""

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook as Signer

from accounts.secret import Secret

SECRET_BYTES = 32
"""The specification asks for 24 at least, 64 at most."""


def new_secret() -> Secret:
    """A fresh secret as receivers take it: `whsec_` and base64."""
    return Secret("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def headers(message: str, body: str, keys: Iterable[Secret], now: datetime) -> dict[str, str]:
    """The three headers of a delivery. With several keys it is signed by each, and any of them verifies it."""
    at = now.astimezone(UTC).replace(microsecond=0)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Signer(key.reveal()).sign(message, at, body) for key in keys),
    }
