"""A result as one JSON file that another machine can read and that is never believed unchecked."""

from __future__ import annotations

import errno
from pathlib import Path

from alm.errors import PackageError
from alm.package.atomic import atomic_write
from alm.package.schema import decode, found, parse_json
from alm_bench.results.records import SCHEMA, STAGES, BenchError, Result


def read_result(path: Path) -> Result:
    """The result in a file. BenchError says what is wrong with it."""
    try:
        return parse_result(path.read_bytes(), str(path))
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from None


def parse_result(text: bytes | str, where: str) -> Result:
    """The result in JSON; `where` names it in a BenchError."""
    try:
        value = parse_json(text, where)
        if not isinstance(value, dict) or "schema" not in value:
            raise BenchError(f"{where} is not a result of alm-bench: found {found(value)}")
        if value["schema"] != SCHEMA:
            raise BenchError(
                f"{where} has schema {found(value['schema'])}, this version reads {SCHEMA}; "
                "measure again with this version, or read it with the version that wrote it"
            )
        result = decode(Result, value, where)
    except PackageError as error:
        raise BenchError(str(error)) from None
    _check(result, where)
    return result


def write_result(result: Result, path: Path) -> None:
    """Write a result file; BenchError where it cannot be written."""
    write_text(path, result.to_json())


def write_text(path: Path, text: str) -> None:
    """Write a file and the folders that lead to it; it appears complete or not at all. BenchError says why not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(text.encode())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise  # every command says this alike
        raise BenchError(f"{path} cannot be written: {error.strerror}") from error


def _check(result: Result, where: str) -> None:
    names = [side.name for side in result.sides]
    if not names or len(set(names)) != len(names):
        raise BenchError(f"{where}: found the sides {names}, expected one or more with names of their own")
    for side in result.sides:
        for run in side.runs:
            if odd := sorted(run.stages.keys() - STAGES.keys()):
                raise BenchError(f"{where}: {side.name} has the stage {odd[0]!r}, expected some of {', '.join(STAGES)}")
            if empty := [name for name, values in run.stages.items() if not values]:
                raise BenchError(f"{where}: {side.name} has no reading of {empty[0]!r}, expected at least one")
