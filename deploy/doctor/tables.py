"""Whether the database still refuses to change history."""

from collections.abc import Iterator

from django.db import connection, transaction

from deploy import appendonly

from .finding import Code, Finding


def examine() -> Iterator[Finding]:
    """The tables whose rows could be changed."""
    for table in appendonly.missing(connection):
        yield Finding(
            Code.UNPROTECTED, f"The table {table} is not append-only: a trigger is missing, switched off or changed.",
            "`manage.py doctor --mend` makes the triggers again. Find out what took them away: a restore, a migration, "
            "a person.",
            mendable=True,
        )  # fmt: skip


def protect() -> bool:
    """Whether all tables are protected again."""
    with transaction.atomic():
        appendonly.run(connection, [*appendonly.drop(connection), *appendonly.create(connection)])
    return not appendonly.missing(connection)
