"""How many recordings a second full-size PAM scores from a package, and the authors' way of running it.

    python -m alm_bench.studies.clap_speed [--package pam-random.alm] [--clips 48] [--rounds 3] [--threads 2]

Every measurement is a fresh process; the sides take turns, and medians are compared. The authors' way is PyTorch
float32 in batches of ten, one recording read after the other. The recordings are the bundled clips, 5 s each, as often
as `--clips` asks. Weights are random in the official shapes, so speed and memory are the only things this says. Run it
on an otherwise idle machine.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from alm.commands.ending import run
from alm.engines.processor import features
from alm_bench.machine.name import machine

Runs = dict[str, list[dict[str, float]]]
"""By side, what each of its processes measured."""


def main(
    package: Annotated[Path | None, typer.Option(exists=True, help="Full-size int8 PAM package.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Recordings to score.")] = 48,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Cores that each side may use.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print every run as JSON.")] = False,
) -> None:
    """Compare a folder scored from a package with the authors' way, in turn, and print the ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clips"
        _copy_clips(folder, clips)
        package = package or _export(Path(name))
        sides = {"authors": ["authors"], "package": ["package", str(package)]}
        runs: Runs = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (kind, *rest) in sides.items():
                runs[side].append(_run([kind, str(folder), str(threads), *rest], threads))
    if as_json:
        print(json.dumps({"machine": machine(), "threads": threads, "clips": clips, "runs": runs}, indent=1))
        return
    median = {side: {k: statistics.median(run[k] for run in done) for k in done[0]} for side, done in runs.items()}
    ours, theirs = median["package"], median["authors"]
    print(machine())
    print(f"{clips} recordings of 5 s, {threads} cores, medians of {rounds}")
    print(f"authors' way  {theirs['clips_per_s']:6.2f} recordings/s  peak memory {theirs['memory_mb']:6.0f} MB")
    print(f"package       {ours['clips_per_s']:6.2f} recordings/s  peak memory {ours['memory_mb']:6.0f} MB")
    print(f"{ours['clips_per_s'] / theirs['clips_per_s']:.2f} times as many recordings a second")


def _copy_clips(folder: Path, count: int) -> None:
    folder.mkdir()
    with as_file(files("alm_quantize") / "clips") as source:
        sounds = sorted(source.glob("*.ogg"))
        for index in range(count):
            sound = sounds[index % len(sounds)]
            shutil.copy(sound, folder / f"{index:05}-{sound.name}")


def _export(folder: Path) -> Path:
    path = folder / "pam-random-int8.alm"
    # Where VNNI multiplies them exactly, signed weights run about 1.5 times as fast; elsewhere they saturate.
    exact = features(Path("/proc/cpuinfo").read_text()) & {"avx512_vnni", "avx_vnni"}
    scheme = ["--scheme", "int8"] if exact else ["--int8"]
    options = ["--weights", "random", *scheme, "--target", "x86_64", "--output", str(path), "--json"]
    code = "from alm_export.commands import main; main()"
    subprocess.run([sys.executable, "-c", code, "pam", *options], check=True, stdout=subprocess.DEVNULL)
    return path


def _run(arguments: list[str], threads: int) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "alm_bench.studies.clap_runs", *arguments]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    run(lambda: typer.run(main), "clap_speed")
