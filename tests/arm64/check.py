"""Run a package under emulated Arm processors and hold its answers against this machine's.

python tests/arm64/check.py PACKAGE EMULATED_PYTHON

For a package with a decoder in GGUF, EXTRA_SITE names the folder that `llama_cpp.sh` made for the emulated side.
Emulated, not measured on Arm hardware: results are those of the processor named, times mean nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROCESSORS = {"cortex-a76": "Raspberry Pi 5", "cortex-a72": "Raspberry Pi 4"}
CLIPS = Path(__file__).parents[2] / "quantize" / "alm_quantize" / "clips"
NAMES = ("dog", "rain", "siren", "church_bells", "rooster", "crying_baby", "clock_tick", "sea_waves")


def run(python: str, package: str, **environment: str) -> dict:
    """What `answers.py` prints under an interpreter."""
    clips = [str(CLIPS / f"{name}.ogg") for name in NAMES]
    script = str(Path(__file__).with_name("answers.py"))
    done = subprocess.run(
        [python, script, package, *clips], env=os.environ | environment, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(package: str, emulated: str) -> int:
    """Exit status 0 when every processor passes the self-test and gives this machine's answers."""
    here = run(sys.executable, package)
    print(f"{here['machine']}: {len(here['answers'])} answers")
    failed = not here["ok"]
    for processor, board in PROCESSORS.items():
        there = run(emulated, package, QCPU=processor)
        different = {q: (a, there["answers"][q]) for q, a in here["answers"].items() if a != there["answers"][q]}
        same = len(here["answers"]) - len(different)
        verdict = "passed" if there["ok"] else "FAILED"
        print(f"{processor} ({board}, emulated {there['machine']}): self-test {verdict}, {same} answers the same")
        for stage, (difference, tolerance) in there["stages"].items():
            print(f"  {stage:<14}{difference:.3g} of {tolerance:.3g}")
        for question, (expected, found) in different.items():
            print(f"  {question}\n    here:  {expected}\n    there: {found}")
        failed |= not there["ok"] or bool(different) or there["machine"] != "aarch64"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
