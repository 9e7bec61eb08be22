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

# 58: before DELETE (8), UPDATE (16) or TRUNCATE (32), 2 for before, once a statement. Not those switched off.
_POSTGRESQL_TRIGGERS = """
SELECT t.tgrelid::regclass::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = ANY(%s::regclass[]) AND t.tgtype = 58 AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL
AND p.prosrc = %s
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


def missing(connection: Any) -> list[str]:
    """The tables that are not, or not wholly, protected: a trigger is missing, switched off, or refuses nothing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_POSTGRESQL_TRIGGERS, [list(TABLES), _POSTGRESQL_REFUSAL.split("$$")[1]])
            protected = {table for (table,) in cursor.fetchall()}
            return [table for table in TABLES if table not in protected]
        cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")
        found = {sql for (sql,) in cursor.fetchall()}
    return [table for table in TABLES if any(f" {table} " in sql and sql not in found for sql in create(connection))]


def run(connection: Any, statements: list[str]) -> None:
    """Executes statements one by one."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def lifted(connection: Any) -> Iterator[None]:
    """The tables may be changed inside; the protection is back before anything of it is committed.

    Nobody else can write to them meanwhile. On PostgreSQL they can be read: dropping a trigger would have to wait for
    whoever reads, a backup for instance, and keep everybody else waiting.
    """
    off, on = drop(connection), create(connection)
    if connection.vendor == "postgresql":
        # Foreign keys are checked at the end of a transaction; no table is altered while such a check is still to come.
        checked = "SET CONSTRAINTS ALL IMMEDIATE"
        off = [checked, *(f"ALTER TABLE {table} DISABLE TRIGGER {table}_append_only" for table in TABLES)]
        on = [statement.replace("DISABLE", "ENABLE") for statement in off]
    with transaction.atomic(using=connection.alias):
        run(connection, off)
        yield
        run(connection, on)
