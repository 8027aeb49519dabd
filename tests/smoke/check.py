"""Every measuring command once, as a user starts it, on the small weights and the bundled recordings.

pytest tests/smoke/check.py      # two minutes; nothing here looks at how long anything took
"""

from __future__ import annotations

import csv
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alm_bench.reports.figures import decode_share, prefill_share
from alm_bench.results.files import read_result
from alm_bench.results.records import Result

CLIPS = Path(__file__).parents[2] / "quantize" / "alm_quantize" / "clips"
HEARD = {"rooster": "b", "rain": "d", "siren": "a", "church_bells": "c", "dog": "b", "helicopter": "a"}
"""Clips that are asked about, and the letter of the right option among OPTIONS."""
OPTIONS = {
    "rooster": "a) siren b) rooster crowing c) rain d) keyboard typing",
    "rain": "a) dog bark b) rooster crowing c) church bells d) rain",
    "siren": "a) siren b) rain c) footsteps d) cow mooing",
    "church_bells": "a) rain b) dog bark c) church bells d) helicopter",
    "dog": "a) clock ticking b) dog bark c) rain d) siren",
    "helicopter": "a) helicopter b) dog bark c) church bells d) crying baby",
}
STAGES = {"load", "encode", "prefill", "first_token", "decode", "next_question", "answer"}


def command(name: str, *words: object) -> str:
    """What a command of ours prints; AssertionError with its last words when it fails."""
    program = f"from alm_{name}.commands import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, f"alm-{name} {words[0]}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small weights for this machine."""
    path = tmp_path_factory.mktemp("smoke") / "small.alm"
    target = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    command("export", "mellow", "--target", target, "--int4", "-o", path)
    return path


@pytest.fixture(scope="module")
def result(package: Path) -> Result:
    """One measurement of it."""
    path = package.with_name("run.json")
    command("bench", "run", package, "--rounds", 1, "--sounds", 1, "-o", path)
    return read_result(path)


def test_run(result: Result) -> None:
    (side,) = result.sides
    assert [run.cache for run in side.runs] == ["warm", "cold"]
    for run in side.runs:
        assert run.stages.keys() == STAGES and run.steps == 23 and run.positions > 0
        assert all(reading > 0 for readings in run.stages.values() for reading in readings)
        assert decode_share(result, side, run) and prefill_share(result, side, run)
    assert side.streaming is not None and len(side.streaming.event) == 1
    (memory,) = side.memory
    assert memory.steady.file_mb > 0 and memory.peak.anonymous_mb > memory.interpreter.anonymous_mb
    assert side.package is not None and side.package.weights == "reference" and side.package.installed > 1e8
    assert side.energy is not None and side.energy.source


def test_compare_and_report(result: Result, package: Path) -> None:
    results, page = package.with_name("run.json"), package.with_name("report.html")
    again = results.with_name("again.json")
    again.write_bytes(results.read_bytes())
    assert "1.00x" in command("bench", "compare", results, again, "--within", 0)
    command("bench", "report", results, "-o", page)
    text = page.read_text()
    assert text.count("<svg") == 4 and "small" in text and not re.search(r"(?:src|href)=[\"'](?!#)", text)


def test_quality(package: Path, tmp_path: Path) -> None:
    rows = [
        {"taskname": "bundled", "filepath1": f"{name}.ogg", "filepath2": "", "subtype": "choice.json",
         "input": f"what is the sound? {OPTIONS[name]}", "answer": OPTIONS[name][OPTIONS[name].index(f"{letter})") :]}
        for name, letter in HEARD.items()
    ]  # fmt: skip
    rows += [
        {**row, "input": "caption the audio.", "answer": "a sound is heard.", "subtype": "caption.json"}
        for row in rows[:2]
    ]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    with (tmp_path / "entailment.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("Dataset", "Audio file", "Caption", "Entailment", "Neutral", "Contradiction"))
        writer.writerow(
            ("bundled", "rooster.ogg", "", "a rooster is crowing", "the rooster is old", "a siren is wailing")
        )
        writer.writerow(("bundled", "gone.ogg", "", "a dog barks", "the dog is big", "rain falls"))
    output = tmp_path / "quality.json"
    words = ("quality", package, "--task", "entailment,mcq,caption", "--data", tmp_path, "--audio", CLIPS, "-o", output)
    command("bench", *words)
    told = json.loads(output.read_text())
    scores = {(row["task"], row["group"], row["metric"]): row["values"][0] for row in told["scores"]}
    right = scores["mcq", "choice", "accuracy"]
    # Chance is 25 %; which of the six it misses depends on the processor's kernels.
    assert right["n"] == len(HEARD) and right["low"] <= right["value"] <= right["high"] and right["value"] >= 60
    assert scores["entailment", "bundled zero-shot", "accuracy"]["n"] == 3
    assert scores["caption", "caption", "ROUGE-L"]["clips"] == 2
    assert told["audio"]["missing_names"] == ["gone.ogg"]
    # A second time, nothing is asked again.
    command("bench", *words)
    assert json.loads(output.read_text())["packages"][0]["resumed"] == told["packages"][0]["clips"]
