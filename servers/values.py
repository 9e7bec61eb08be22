"""Frozen dataclasses to plain JSON and back, exactly.

Facts and plans are stored with an install and must come back equal to the last byte, years later. The types say all
there is to know, so nothing is written twice: `to_plain` walks the values, `from_plain` walks the type hints.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

Value = TypeVar("Value")


class NotThisShape(ValueError):
    """The JSON is not what the type says; the message names the place."""


def to_plain(value: object) -> Any:
    """`value` as dicts, lists, strings, numbers, booleans and None, keys in the order of the fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def from_plain(kind: type[Value], data: object, at: str = "") -> Value:
    """The value of type `kind` that `to_plain` turned into `data`; NotThisShape when it cannot be one.

    Unknown keys are passed over, so that an older program reads what a newer one has stored; a missing key takes the
    field's default, and is refused where there is none.
    """
    if not isinstance(data, Mapping):
        raise NotThisShape(f"{at or kind.__name__} is not an object")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable, whatever mypy says of type variables
    given = {
        field.name: _read(hints[field.name], data[field.name], f"{at}.{field.name}" if at else field.name)
        for field in fields(kind)  # type: ignore[arg-type]  # every kind asked for is a dataclass
        if field.name in data
    }
    try:
        return kind(**given)
    except TypeError as error:
        raise NotThisShape(f"{at or kind.__name__}: {error}") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of the fields; Python takes half a millisecond to work them out, and a plan has dozens of values."""
    return get_type_hints(kind)


def _read(hint: Any, data: object, at: str) -> Any:
    """`data` as a value of the type `hint`."""
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(data, list):
            raise NotThisShape(f"{at} is not a list")
        (item, _ellipsis) = get_args(hint)
        return tuple(_read(item, one, f"{at}[{index}]") for index, one in enumerate(data))
    if origin in (Union, types.UnionType):
        if data is None and type(None) in get_args(hint):
            return None
        (inner,) = (one for one in get_args(hint) if one is not type(None))
        return _read(inner, data, at)
    if is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, data, at)
    return _read_scalar(hint, data, at)


def _read_scalar(hint: Any, data: object, at: str) -> Any:
    if issubclass(hint, Enum) or hint is UUID:
        try:
            return hint(data)
        except (ValueError, AttributeError, TypeError) as error:
            raise NotThisShape(f"{at} is not a {hint.__name__}: {data!r}") from error
    # a bool is an int to Python, but never to us
    if type(data) is not hint:
        raise NotThisShape(f"{at} is not a {hint.__name__}: {data!r}")
    return data
