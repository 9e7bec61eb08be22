"""Statements that are put together once: what an install writes by the dozen, what a worker asks all the time.

Django's ORM composes every statement anew, which takes more processor time than the database needs to carry it out.
Values are stored as the ORM stores them, on SQLite and on PostgreSQL: those that differ go through the model's fields.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.db import connection
from django.db.models import (
    AutoField,
    BooleanField,
    CharField,
    DateTimeField,
    Field,
    ForeignKey,
    IntegerField,
    Model,
    QuerySet,
    TextField,
    UUIDField,
)

Row = Mapping[str, Any]
"""Values by the names of their columns, which for a foreign key ends in `_id`."""


def update(model: type[Model], values: Row, where: Row) -> int:
    """How many rows have these values now: those whose columns are equal to `where`. One statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            _update(model, tuple(values), tuple(where)), [*_parameters(model, values), *_parameters(model, where)]
        )
        return int(cursor.rowcount)


def update_each(model: type[Model], changes: Sequence[tuple[Row, Row]]) -> None:
    """The same for many rows, each with values of its own; all name the same columns."""
    if not changes:
        return
    values, where = changes[0]
    with connection.cursor() as cursor:
        cursor.executemany(
            _update(model, tuple(values), tuple(where)),
            [[*_parameters(model, values), *_parameters(model, where)] for values, where in changes],
        )


def insert(model: type[Model], rows: Sequence[Row]) -> None:
    """Writes the rows, which all have the same columns. One statement."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _insert(model, tuple(rows[0]), len(rows)), [one for row in rows for one in _parameters(model, row)]
        )


@cache
def _update(model: type[Model], values: tuple[str, ...], where: tuple[str, ...]) -> str:
    quoted = connection.ops.quote_name
    to_set = ", ".join(f"{quoted(name)} = %s" for name in values)
    to_match = " AND ".join(f"{quoted(name)} = %s" for name in where)
    return f"UPDATE {quoted(model._meta.db_table)} SET {to_set} WHERE {to_match}"


@cache
def _insert(model: type[Model], columns: tuple[str, ...], rows: int) -> str:
    quoted = connection.ops.quote_name
    names = ", ".join(quoted(name) for name in columns)
    one = f"({', '.join(['%s'] * len(columns))})"
    return f"INSERT INTO {quoted(model._meta.db_table)} ({names}) VALUES {', '.join([one] * rows)}"


def _parameters(model: type[Model], row: Row) -> list[Any]:
    fields = _fields(model, connection.vendor)
    return [
        value if name not in fields or value is None else fields[name].get_db_prep_save(value, connection)
        for name, value in row.items()
    ]


_AS_IT_IS = (AutoField, BooleanField, CharField, DateTimeField, ForeignKey, IntegerField, TextField, UUIDField)
"""What psycopg takes as Python has it; to be told so by the field takes longer than to send it."""


@cache
def _fields(model: type[Model], vendor: str) -> Mapping[str, "Field[Any, Any]"]:
    """The fields, by their columns, whose values are stored as something else than they are."""
    as_it_is = _AS_IT_IS if vendor == "postgresql" else ()
    return {
        field.column: field
        for field in model._meta.concrete_fields
        if field.column and not (isinstance(field, as_it_is) and _is_of_django(field))
    }


def _is_of_django(field: "Field[Any, Any]") -> bool:
    return type(field).__module__.startswith("django.db.models.")


class Question:
    """A query that is composed once, of which nothing changes but the time of asking."""

    def __init__(self, make: Callable[[datetime], "QuerySet[Any, Any]"]) -> None:
        self._composed = cache(lambda vendor: _composed(make))

    def ask(self, now: datetime) -> list[tuple[Any, ...]]:
        """The rows that it finds now."""
        sql, parameters = self._composed(connection.vendor)
        adapted = connection.ops.adapt_datetimefield_value
        with connection.cursor() as cursor:
            cursor.execute(
                sql, [adapted(now + value) if isinstance(value, timedelta) else value for value in parameters]
            )
            return list(cursor.fetchall())


_SAMPLE = datetime(2001, 2, 3, 4, 5, 6, 789_012, UTC)


def _composed(make: Callable[[datetime], "QuerySet[Any, Any]"]) -> tuple[str, list[Any]]:
    """The statement and its parameters: each that is a time as the span by which it lies behind that of asking."""
    sql, parameters = make(_SAMPLE).query.sql_with_params()
    return sql, [_span(value) for value in parameters]


def _span(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value).replace(tzinfo=UTC)  # as SQLite keeps times
        except ValueError:
            return value
    return value - _SAMPLE if isinstance(value, datetime) else value
