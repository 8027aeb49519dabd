"""The far side of a measurement: what `alm-bench run` starts on a device that it reached.

python -m alm_bench.measuring.remote DEVICE PLAN PACKAGE...    # PLAN is JSON; prints the result as one line of JSON
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from alm.errors import AlmError
from alm_bench.measuring.sweep import Plan
from alm_bench.measuring.turns import measure
from alm_bench.results.files import parse_result
from alm_bench.results.records import BenchError, Result


def words(device: str, plan: Plan, packages: Sequence[str]) -> list[str]:
    """Arguments of the far side's Python."""
    return ["-m", "alm_bench.measuring.remote", device, json.dumps(dataclasses.asdict(plan)), *packages]


def parse(output: str, where: str) -> Result:
    """The result in what the far side printed; BenchError when it could not measure."""
    lines = output.strip().splitlines()
    if not lines:
        raise BenchError(f"{where} printed nothing")
    if lines[-1].startswith("FAILED "):
        raise BenchError(f"{where}: {lines[-1].removeprefix('FAILED ')}")
    return parse_result(lines[-1], where)


def main(device: str, plan: str, *packages: str) -> None:
    """Measure here and print, for a program that reads it elsewhere."""
    options = json.loads(plan)
    chosen = Plan(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})
    try:
        result = measure([Path(package) for package in packages], chosen, lambda words: None, device)
    except AlmError as error:
        print("FAILED", " ".join(str(error).split()))
        return
    print(json.dumps(json.loads(result.to_json())))


if __name__ == "__main__":
    main(*sys.argv[1:])
