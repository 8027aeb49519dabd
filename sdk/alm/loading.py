"""From a package file to a model, and from a saved session to a clip."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

from alm.answering.turns import WAITING
from alm.errors import EngineError, PackageError
from alm.heard.clip_cache import CACHE_BYTES
from alm.heard.saved import read_session
from alm.session import Clip

if TYPE_CHECKING:
    from alm.models import Model
    from alm.models.listener import Listener

M = TypeVar("M", bound="Model")


@overload
def load(
    path: str | Path,
    *,
    engine: str | None = None,
    threads: int | None = None,
    engine_options: Mapping[str, object] | None = None,
    verify: bool = True,
    cache_bytes: int = CACHE_BYTES,
    waiting: int = WAITING,
) -> Model: ...


@overload
def load(
    path: str | Path,
    family: type[M],
    *,
    engine: str | None = None,
    threads: int | None = None,
    engine_options: Mapping[str, object] | None = None,
    verify: bool = True,
    cache_bytes: int = CACHE_BYTES,
    waiting: int = WAITING,
) -> M: ...


def load(
    path: str | Path,
    family: type[Model] | None = None,
    *,
    engine: str | None = None,
    threads: int | None = None,
    engine_options: Mapping[str, object] | None = None,
    verify: bool = True,
    cache_bytes: int = CACHE_BYTES,
    waiting: int = WAITING,
) -> Model:
    """Open a package and load its model: an `alm.models` class by the family that the package names.

    `family`, such as `alm.models.Mellow`, insists on that class, which also tells a type checker what comes back.
    `engine` is one of those that the package was exported for; left out, it is the first of them. `threads`
    limits the engine's threads. `engine_options` sets what else its engines offer, by name, such as
    {"flash_attention": False}; `Options` in each engine's module lists them. `verify=False` skips hashing the
    entries, for a file whose integrity something else guards. `cache_bytes` limits what `listen` keeps of sound
    heard before; 0 keeps nothing. `waiting` is how many questions may wait while another is answered; the next
    raises BusyError.

    Raises PackageError for a file that is damaged, altered, or of an unknown schema or another family, and
    EngineError when the engine cannot run it here or has no such option.
    """
    # Imported here so that `import alm` stays quick and needs no engine.
    from alm.engines import ENGINES
    from alm.models import FAMILIES
    from alm.models.base import LoadOptions
    from alm.package import Package

    if engine is not None and engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; this version has {', '.join(ENGINES)}")
    package = Package.open(path, verify=verify, engine=engine)
    try:
        name = package.manifest.model.family
        if name not in FAMILIES:
            raise PackageError(
                f"{path} holds a model of the family {name!r}; this version knows "
                f"{', '.join(sorted(FAMILIES))}. Update alm-edge, or export for one of these"
            )
        if family is not None and not issubclass(FAMILIES[name], family):
            raise PackageError(
                f"{path} is a package of {name}, which can {', '.join(package.manifest.capabilities)}; "
                f"expected {' or '.join(key for key, kind in FAMILIES.items() if issubclass(kind, family))}"
            )
        return FAMILIES[name](package, LoadOptions(threads, engine_options, cache_bytes, waiting))
    except BaseException:
        package.close()
        raise


def restore(path: str | Path, model: Listener) -> Clip:
    """The session that `Clip.save` wrote, ready for questions, without the recording and without the audio encoder.

    Its answers are those of the session that was saved. Raises SessionError for a file that is damaged, of another
    schema, or made with another package than the model's: the message names both.
    """
    reader, started = model.reader, time.perf_counter()
    return Clip(read_session(path, reader), reader, time.perf_counter() - started)
