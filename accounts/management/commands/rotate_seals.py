from collections.abc import Iterator
from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.sealing import SealBroken, SealedField


class Command(BaseCommand):
    help = (
        "Seals every stored secret again, with the first key of LANDFALL_SEAL_KEYS. To change the key: put a new one "
        "(--generate) before the old one, run this, then take the old one out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--generate", action="store_true", help="print a new key and do nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["generate"]:
            self.stdout.write(Fernet.generate_key().decode())
            return
        try:
            with transaction.atomic():
                counts = {f"{field.model._meta.label}.{field.name}": reseal(field) for field in sealed_fields()}
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        for name, count in counts.items():
            self.stdout.write(f"{name}: {count} sealed again")


def sealed_fields() -> Iterator[SealedField]:
    """Every column that holds secrets."""
    for model in apps.get_models():
        yield from (field for field in model._meta.local_fields if isinstance(field, SealedField))


def reseal(field: SealedField) -> int:
    """How many secrets of the column were sealed with the first key; CommandError when one cannot be opened."""
    # Locked: a password that somebody changes meanwhile is not to be put back.
    locked = field.model._base_manager.select_for_update(no_key=True)
    rows = locked.exclude(**{field.attname: None}).exclude(**{field.attname: ""})
    count = 0
    for pk, secret in rows.order_by("pk").values_list("pk", field.attname):
        try:
            field.model._base_manager.filter(pk=pk).update(**{field.attname: secret})
        except SealBroken as error:
            raise CommandError(f"{field.model._meta.label} {pk}, {field.name}: {error} Nothing was changed.") from error
        count += 1
    return count
