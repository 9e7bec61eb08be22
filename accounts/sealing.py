"""Secrets sealed at rest: encrypted in the database, opened only where they are used."""

from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils.functional import SimpleLazyObject

from .secret import Secret


class SealBroken(Exception):
    """A sealed value that none of the keys opens."""


def _keyring() -> MultiFernet:
    if not settings.LANDFALL_SEAL_KEYS:
        raise ImproperlyConfigured(
            "No key to seal secrets with: run bin/setup, which writes one, or set LANDFALL_SEAL_KEYS "
            "(`manage.py rotate_seals --generate` prints a new key)."
        )
    try:
        return MultiFernet([Fernet(key) for key in settings.LANDFALL_SEAL_KEYS])
    except ValueError as error:
        raise ImproperlyConfigured(
            "LANDFALL_SEAL_KEYS holds something that is no key: `manage.py rotate_seals --generate` prints a good one."
        ) from error


def seal(secret: Secret) -> str:
    """The secret as a Fernet token, made with the first key."""
    return _keyring().encrypt(secret.reveal().encode()).decode()


def unseal(token: str) -> Secret:
    """The secret inside a token that any of the keys made; `SealBroken` when none did."""
    try:
        return Secret(_keyring().decrypt(token.encode()).decode())
    except InvalidToken as error:
        raise SealBroken(
            "A sealed value cannot be opened: the key that sealed it is missing from LANDFALL_SEAL_KEYS. "
            "Add it at the end of the list."
        ) from error


if TYPE_CHECKING:
    _Text = models.TextField[Secret | str | None, Secret | None]
else:
    _Text = models.TextField


class SealedField(_Text):
    """A column that holds a Fernet token and gives a Secret, opened when it is first looked at; empty is None."""

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Any:
        # Opened late: a list of servers does not decrypt a password for each of its rows.
        return SimpleLazyObject(lambda: unseal(value)) if value else None

    def get_prep_value(self, value: object) -> str:
        if not value:
            return ""
        if not isinstance(value, Secret):
            raise TypeError(f"{self.name} takes a Secret, so that no text is stored unsealed by mistake.")
        return seal(value)

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError("A sealed field is not serialised.")
