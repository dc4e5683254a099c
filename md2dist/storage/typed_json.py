"""Typed values from JSON: dataclasses filled field by field, each checked against its type."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")


def parse_record(record: type[Record], values: object) -> Record:
    """Fills a dataclass from decoded JSON.

    Args:
        record: a dataclass; its fields are scalars, `dict`, optional values or other dataclasses.
        values: what `json.loads` returned; unknown keys are ignored, as later versions add some.

    Raises:
        ValueError: naming the first field that is missing or has another type.
    """
    return _parse(record, values, "")


def _parse(kind: Any, value: Any, name: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name or 'the content'} is {value!r}, expected an object")
        hints, given = typing.get_type_hints(kind), {}
        for field in dataclasses.fields(kind):
            path = f"{name}.{field.name}".lstrip(".")
            if field.name in value:
                given[field.name] = _parse(hints[field.name], value[field.name], path)
            elif _is_required(field):
                raise ValueError(f"{path} is missing")
        return kind(**given)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (inner,) = [option for option in typing.get_args(kind) if option is not types.NoneType]
        return None if value is None else _parse(inner, value, name)
    plain: type = typing.get_origin(kind) or kind
    accepted: tuple[type, ...] = (int, float) if plain is float else (plain,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        raise ValueError(f"{name} is {value!r}, expected {plain.__name__}")
    return value


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
