"""Run a package's ExecuTorch program under emulated Arm processors, in C++ alone, and hold its answer against the
package's self-test.

python tests/arm64/check_pte.py PACKAGE RUN_PTE

Emulated, not measured on Arm hardware: results are those of the processor named, times mean nothing.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from check import PROCESSORS

from alm.package import GOLDEN, Package


def main(path: str, runner: str) -> int:
    """Exit status 0 when every processor gives the tokens of the self-test."""
    failed = False
    with Package.open(path, engine="executorch") as package, tempfile.TemporaryDirectory() as folder:
        with np.load(io.BytesIO(package.read(GOLDEN))) as golden:
            arrays = {name: golden[name] for name in golden.files}
        # Where the package has several engines, one that answers otherwise has tokens of its own.
        tokens = arrays.get("executorch/tokens", arrays["tokens"]).tolist()
        files = {
            "model.pte": package.read(package.manifest.components["decoder"].graph),
            "audio": arrays["audio"].astype("<f4").tobytes(),
            "ids": arrays["prompt_ids"].astype("<i8").tobytes(),
        }
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        separator = package.manifest.prompt.separator_id
        command = [runner, *(str(Path(folder, name)) for name in files), str(separator), str(len(tokens))]
        for processor, board in PROCESSORS.items():
            environment = os.environ | {"QCPU": processor}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            found = [int(line) for line in done.stdout.split()]
            verdict = "the same" if found == tokens else f"OTHERS: {found}, expected {tokens}"
            print(f"{processor} ({board}, emulated): {len(tokens)} tokens, {verdict}")
            if done.returncode:
                print(f"  run_pte ended with {done.returncode}: {done.stderr[-500:]}")
            failed |= done.returncode != 0 or found != tokens
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
