"""The triggers that keep history as it was written, on SQLite and on PostgreSQL alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

TABLES = ("deploy_event", "deploy_logchunk")

_POSTGRESQL_REFUSAL = """
CREATE OR REPLACE FUNCTION landfall_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP;
END $$
"""


def create(connection: Any) -> list[str]:
    """The statements that make the tables append-only."""
    if connection.vendor == "postgresql":
        return [
            _POSTGRESQL_REFUSAL,
            *(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION landfall_append_only()"
                for table in TABLES
            ),
        ]
    return [
        f"CREATE TRIGGER {table}_no_{operation.lower()} BEFORE {operation} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: {operation} is refused'); END"
        for table in TABLES
        for operation in ("UPDATE", "DELETE")
    ]


def drop(connection: Any) -> list[str]:
    """The statements that lift the protection."""
    if connection.vendor == "postgresql":
        return [f"DROP TRIGGER IF EXISTS {table}_append_only ON {table}" for table in TABLES]
    return [f"DROP TRIGGER IF EXISTS {table}_no_{operation}" for table in TABLES for operation in ("update", "delete")]


def run(connection: Any, statements: list[str]) -> None:
    """Executes statements one by one."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def lifted(connection: Any) -> Iterator[None]:
    """The tables may be changed inside; the protection is back before anything of it is committed."""
    with transaction.atomic(using=connection.alias):
        run(connection, drop(connection))
        yield
        run(connection, create(connection))
