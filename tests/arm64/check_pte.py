"""Run a package's ExecuTorch program under emulated Arm processors, in C++ alone, and hold its answers against the
package's self-test and against what the SDK answers on this machine.

python tests/arm64/check_pte.py PACKAGE RUN_PTE

Emulated, not measured on Arm hardware: results are those of the processor named, times mean nothing.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from answers import QUESTIONS
from check import CLIPS, NAMES, PROCESSORS

import alm
from alm.audio.windows import stream_windows
from alm.models.mellow import Mellow
from alm.package import GOLDEN


@dataclass(frozen=True)
class Case:
    """What is asked, and the answer that is expected."""

    name: str
    """For messages."""
    audio: np.ndarray
    """(clips, samples), one clip or two."""
    ids: np.ndarray
    """The padded prompt."""
    tokens: list[int]
    """The greedy answer."""


def cases(model: Mellow) -> Iterator[Case]:
    """The self-test, a question about each bundled clip, and a comparison."""
    with np.load(io.BytesIO(model.package.read(GOLDEN))) as golden:
        # Where the package has several engines, one that answers otherwise has tokens of its own.
        tokens = golden["executorch/tokens" if "executorch/tokens" in golden.files else "tokens"]
        yield Case("self-test", golden["audio"], golden["prompt_ids"], tokens.tolist())
    frontend, prompt = model.info.frontend, model.reader.tokenizer.prompt
    paths = [CLIPS / f"{name}.ogg" for name in NAMES]
    heard = [next(stream_windows(path, frontend.sample_rate, frontend.samples)).samples for path in paths]
    for number, (path, samples) in enumerate(zip(paths, heard, strict=True)):
        question = QUESTIONS[number % len(QUESTIONS)]
        with model.listen(path) as clip:
            answer = clip.ask(question, max_tokens=24)
        yield Case(f"{path.name}: {question}", samples[np.newaxis], prompt(question), list(answer.tokens))
    difference = "explain the difference."
    answer = model.compare(paths[0], paths[1], difference, max_tokens=32)
    yield Case(difference, np.stack(heard[:2]), prompt(difference), list(answer.tokens))


def run(command: list[str], case: Case, folder: Path, processor: str) -> list[int]:
    """The tokens that the emulated runner gives; none, and a line on why, when it fails."""
    Path(folder, "audio").write_bytes(case.audio.astype("<f4").tobytes())
    Path(folder, "ids").write_bytes(case.ids.astype("<i8").tobytes())
    done = subprocess.run(
        [*command, str(len(case.tokens))], env=os.environ | {"QCPU": processor}, capture_output=True, text=True
    )
    if done.returncode:
        print(f"  run_pte ended with {done.returncode}: {done.stderr[-500:]}")
        return []
    return [int(line) for line in done.stdout.split()]


def main(path: str, runner: str) -> int:
    """Exit status 0 when every processor gives the tokens of every case."""
    failed = False
    with alm.load(path, engine="executorch", threads=1) as model, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        components = model.info.components
        schemes = ", ".join(f"{name} {component.scheme}" for name, component in components.items())
        Path(folder, "model.pte").write_bytes(model.package.read(components["decoder"].graph))
        command = [runner, *(str(folder / name) for name in ("model.pte", "audio", "ids"))]
        command.append(str(model.info.prompt.separator_id))
        asked = [case for case in cases(model) if case.tokens]
        print(f"{schemes}: {len(asked)} answers of {sum(len(case.tokens) for case in asked)} tokens")
        for processor, board in PROCESSORS.items():
            same = 0
            for case in asked:
                found = run(command, case, folder, processor)
                same += found == case.tokens
                if found != case.tokens:
                    print(f"  {case.name}: found {found}, expected {case.tokens}")
            print(f"{processor} ({board}, emulated): {same} of {len(asked)} answers the same")
            failed |= same != len(asked)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
