"""Verify a package and print its answers about some clips as JSON. Runs under emulation: needs the SDK alone.

python answers.py PACKAGE CLIP...
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import alm
from alm.verify import verify_model

QUESTIONS = (
    "what is the sound?",
    "what is the sound? a) dog bark b) rain c) siren d) church bells",
    "is there an animal?",
)


def main(package: str, clips: list[str]) -> None:
    """One line of JSON: the machine, the self-test's differences, and answers by clip and question."""
    answers: dict[str, str] = {}
    with alm.load(package, threads=1) as model:
        verification = verify_model(model)
        for path in clips:
            with model.listen(path) as clip:
                for question in QUESTIONS:
                    answers[f"{Path(path).name}: {question}"] = clip.ask(question, max_tokens=24).text
        answers["difference"] = model.compare(clips[0], clips[1], "explain the difference.", max_tokens=32).text
    stages = {stage.stage: [stage.difference, stage.tolerance] for stage in verification.stages}
    print(json.dumps({"machine": platform.machine(), "ok": verification.ok, "stages": stages, "answers": answers}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
