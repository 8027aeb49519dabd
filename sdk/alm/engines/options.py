"""What a user may set on an engine: names and values, checked against the fields of the engine's `Options`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar, get_args, get_type_hints

from alm.errors import EngineError

T = TypeVar("T")


@dataclass(frozen=True)
class NoOptions:
    """Of an engine on which nothing can be set."""


def read_options(kind: type[T], engine: str, given: Mapping[str, object]) -> T:
    """The frozen dataclass `kind` with the values `given` by field; what is left out keeps its default.

    EngineError for an unknown name or a value of another type, listing what there is. True and 1 are not the same.
    """
    hints = get_type_hints(kind)
    for name, value in given.items():
        if name not in hints:
            raise EngineError(f"the engine {engine!r} has no option {name!r}; it has {', '.join(hints) or 'none'}")
        types = get_args(hints[name]) or (hints[name],)
        if type(value) not in types:
            expected = " or ".join("None" if hint is type(None) else hint.__name__ for hint in types)
            raise EngineError(f"the option {name} of {engine!r} is {value!r}; expected {expected}")
    return kind(**given)


def share_options(kinds: Mapping[str, type], given: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """By engine, the options that it has. `kinds` has the dataclass of each; EngineError for a name that none has."""
    known = {engine: {field.name for field in fields(kind)} for engine, kind in kinds.items()}
    for name in given:
        if not any(name in names for names in known.values()):
            listed = "; ".join(f"{engine} has {', '.join(sorted(names)) or 'none'}" for engine, names in known.items())
            raise EngineError(f"no engine of this package has the option {name!r}; {listed}")
    return {engine: {name: given[name] for name in given if name in names} for engine, names in known.items()}
