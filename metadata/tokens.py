"""One-time tokens: 32 random bytes for the machine, their SHA-256 for us."""

import hashlib
import secrets
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from accounts.secret import Secret
from metadata.models import Purpose, Token
from servers.models import Server

KEPT_AFTER_EXPIRY = timedelta(days=7)
"""How long a machine that comes late still learns that its token has expired, not that it never was."""


class TokenUnknown(Exception):
    """Nobody was given this token for this purpose."""


class TokenSpent(Exception):
    """The token was used or has expired."""


def mint(install: UUID, server: Server, purpose: Purpose, lifetime: timedelta) -> Secret:
    """A new token for one purpose of one install. It exists in the caller's hands only: what is stored is its hash."""
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    Token.objects.filter(server=server, expires_at__lt=now - KEPT_AFTER_EXPIRY).delete()
    Token.objects.create(
        install=install, server=server, purpose=purpose, digest=_digest(token), expires_at=now + lifetime
    )
    return Secret(token)


def look(token: str, purpose: Purpose) -> Token:
    """The row of a token that is still good, without using it; raises TokenUnknown or TokenSpent."""
    row = Token.objects.filter(digest=_digest(token), purpose=purpose).select_related("server").first()
    if row is None:
        raise TokenUnknown
    if row.is_spent:
        raise TokenSpent
    return row


def redeem(token: str, purpose: Purpose) -> Token:
    """The row of a token, now used; every other token for the same purpose of that install is used with it.

    Of two calls that race, the row count of the UPDATE tells one that it has won and raises TokenSpent in the other.
    If two different tokens of one install race on PostgreSQL, it may abort one of them as a deadlock: that caller
    has used nothing and asks again.
    """
    row = look(token, purpose)
    now = timezone.now()
    with transaction.atomic():
        if not Token.objects.filter(pk=row.pk, used_at=None, expires_at__gt=now).update(used_at=now):
            raise TokenSpent
        Token.objects.filter(install=row.install, purpose=purpose, used_at=None).update(used_at=now)
    return row


def prolong(install: UUID, purpose: Purpose, lifetime: timedelta) -> None:
    """Tokens of the install for this purpose that were never used are good for `lifetime` from now."""
    Token.objects.filter(install=install, purpose=purpose, used_at=None).update(expires_at=timezone.now() + lifetime)


def expire(install: UUID) -> None:
    """No token of the install opens anything from now on."""
    now = timezone.now()
    Token.objects.filter(install=install, expires_at__gt=now).update(expires_at=now)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
