"""Load a package with a llama.cpp that was compiled for newer processors: refused on an old one, loaded on a new one.

python tests/arm64/check_refused.py PACKAGE EMULATED_PYTHON

EXTRA_SITE names the folder that `llama_cpp.sh` made for armv8.2-a+dotprod, which a Cortex-A72 does not run.
"""

from __future__ import annotations

import os
import subprocess
import sys

LOAD = "import sys, alm; alm.load(sys.argv[1], threads=1).close()"
EXPECTED = {"cortex-a76": "", "cortex-a72": "it was built for another processor"}
"""What the last line of the error says, by processor."""


def main(package: str, emulated: str) -> int:
    """Exit status 0 when both processors end as expected, and neither by an illegal instruction."""
    failed = False
    for processor, expected in EXPECTED.items():
        environment = os.environ | {"QCPU": processor}
        done = subprocess.run([emulated, "-c", LOAD, package], env=environment, stderr=subprocess.PIPE, text=True)
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        good = done.returncode == bool(expected) and expected in said
        print(f"{processor} (emulated): {'as expected' if good else 'UNEXPECTED'}: {done.returncode} {said}")
        failed |= not good
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
