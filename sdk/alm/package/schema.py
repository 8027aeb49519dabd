"""Strict JSON to frozen dataclasses: every value is checked against the field's annotation.

The JSON may be hostile. Whatever is wrong with it ends in one PackageError that names the field, what
was found and what was expected; no other exception leaves `parse_json` and `decode`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import reprlib
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from alm.errors import PackageError

T = TypeVar("T")

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 60


@dataclass(frozen=True)
class Between:
    """A number's closed range."""

    low: float
    """Smallest accepted value."""
    high: float
    """Largest accepted value."""

    def problem(self, value: Any) -> str | None:
        """What was expected in place of the value; None where it fits."""
        return None if self.low <= value <= self.high else f"a number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Matches:
    """A string's full-match pattern."""

    pattern: str
    """Regular expression for the whole string."""
    meaning: str
    """What the pattern stands for, in words."""

    def problem(self, value: Any) -> str | None:
        """What was expected in place of the value; None where it fits."""
        return None if re.fullmatch(self.pattern, value) else self.meaning


def parse_json(text: bytes | str, where: str) -> Any:
    """Parse UTF-8 JSON without NaN, duplicate keys or lone surrogates; `where` names it in the
    PackageError for anything else."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{where} is not valid JSON: {error}") from None


def decode(kind: type[T], value: Any, where: str) -> T:
    """Build the dataclass `kind` from a parsed JSON object; `where` is the path used in errors.

    Every field must be there but those whose default is None.
    """
    return _dataclass(kind, value, where)  # type: ignore[no-any-return]


def found(value: Any) -> str:
    """A short description of a JSON value for an error message."""
    return SHORT.repr(value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {found(repeated)} occurs twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _wrong(where: str, value: Any, expected: str) -> PackageError:
    return PackageError(f"{where}: found {found(value)}, expected {expected}")


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise PackageError(f"{where}: found the unknown field {found(unknown[0])}, expected only {', '.join(fields)}")
    missing = sorted(name for name in set(fields) - set(value) if fields[name].default is not None)
    if missing:
        raise PackageError(f"{where}: the field {missing[0]!r} is missing")
    return kind(**{name: _value(hints[name], value.get(name), f"{where}.{name}") for name in fields})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        base, *checks = get_args(hint)
        result = _value(base, value, where)
        for check in checks:
            if expected := check.problem(result):
                raise _wrong(where, value, expected)
        return result
    if origin is Literal:
        if value not in get_args(hint) or isinstance(value, bool):
            raise _wrong(where, value, f"one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if origin in (Union, types.UnionType):
        inner = next(option for option in get_args(hint) if option is not type(None))
        return None if value is None else _value(inner, value, where)
    if origin is dict:
        return _mapping(get_args(hint), value, where)
    if origin is tuple:
        return _sequence(get_args(hint)[0], value, where)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, where)
    return SCALARS[hint](value, where)


def _mapping(hints: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    key_hint, value_hint = hints
    if value_hint is Any:
        return value
    return {
        _value(key_hint, key, f"{where} key"): _value(value_hint, item, f"{where}[{found(key)}]")
        for key, item in value.items()
    }


def _sequence(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    return tuple(_value(hint, item, f"{where}[{index}]") for index, item in enumerate(value))


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(where, value, "a whole number")
    return value


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(where, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(where, value, "a finite number")
    return number


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, value, "a string")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, value, "true or false")
    return value


SCALARS: dict[Any, Callable[[Any, str], Any]] = {int: _integer, float: _number, str: _text, bool: _flag}
