"""The version matrix: which versions of the engines' libraries are taken, and which were tested together.

`pyproject.toml` states the same ranges and `constraints.txt` the same tested versions; a test holds them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alm.errors import EngineError


@dataclass(frozen=True)
class Library:
    """One library of an engine."""

    name: str
    """Its distribution, as pip knows it."""
    tested: str
    """The version this alm-edge is tested with."""
    oldest: str
    """The oldest version that is taken."""
    below: str
    """The first version that is refused: interfaces may change with it."""

    @property
    def installed(self) -> str | None:
        """The version here; None when pip does not know the library."""
        # Imported here: it takes longer to import than the rest of alm.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(self.name)
        except PackageNotFoundError:
            return None

    @property
    def range(self) -> str:
        """The versions that are taken, in words."""
        return f"{self.oldest} to below {self.below}"

    def takes(self, version: str) -> bool:
        """Whether a version is in the range."""
        return _release(self.oldest) <= _release(version) < _release(self.below)


LIBRARIES = {
    "onnxruntime": (Library("onnxruntime", "1.32.0", "1.27", "2"),),
    "llama.cpp": (Library("llama-cpp-python", "0.3.36", "0.3.36", "0.4"),),
    # Its Python module is linked against the C++ library of one torch version.
    "executorch": (Library("executorch", "1.5.1", "1.5.1", "1.6"), Library("torch", "2.13.0", "2.13", "2.14")),
}
"""Libraries by engine; the first one is the engine's own."""


def check_versions(engine: str) -> None:
    """EngineError when a library of the engine is installed in a version outside its range."""
    for library in LIBRARIES.get(engine, ()):
        found = library.installed
        if found is not None and not library.takes(found):
            raise EngineError(
                f"the engine {engine!r} takes {library.name} {library.range}, found {found}; "
                f"install the version it is tested with: pip install '{library.name}=={library.tested}'"
            )


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with, without closing zeros: 2.0, 2 and 2.0.0+cpu are one."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    release = [int(number) for number in numbers[0].split(".")] if numbers else []
    while release and not release[-1]:
        release.pop()
    return tuple(release)
