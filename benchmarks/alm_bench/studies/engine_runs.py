"""One engine's decoder measured in a process of its own, through the SDK or through the engine's own runner.

python -m alm_bench.studies.engine_runs sdk:ENGINE PACKAGE THREADS TOKENS
python -m alm_bench.studies.engine_runs onnxruntime|llama.cpp|executorch FOLDER THREADS TOKENS

FOLDER is a package unzipped: a runner of the engine itself opens the same weights as the SDK. Prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from alm_bench.machine.residency import highest_mb
from alm_bench.measuring.repeats import repeated
from alm_bench.rivals.own_runners import OWN_RUNNERS
from alm_bench.rivals.sdk_runner import sdk


def main(side: str, path: str, threads: str, tokens: str) -> None:
    """Measure and print."""
    bare = highest_mb()
    kind, _, engine = side.partition(":")
    place, counts = Path(path), (int(threads), int(tokens))
    if kind == "sdk":
        runner = sdk(engine, place, *counts)
    else:
        runner = OWN_RUNNERS[kind](place / "decoder.gguf" if kind == "llama.cpp" else place, *counts)
    stages = repeated(runner.once)
    rate = (counts[1] - 1) / stages["decode"]
    figures = {"load_s": runner.load, "prefill_s": stages["prefix"], "decode_rate": rate}
    print(json.dumps({**figures, "memory_mb": highest_mb() - bare}))


if __name__ == "__main__":
    main(*sys.argv[1:])
