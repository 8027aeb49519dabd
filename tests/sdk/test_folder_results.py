"""Results of a folder in a file: read by other programs, gone on with after a kill, never mixed with another run's."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from tiny_mellow import RATE, noise

import alm
from alm.errors import ResultsError
from alm.folder import each, find_recordings
from alm.models import Pam
from alm.results import Results
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl"])
def test_results_are_read_by_others(run, folder: Path, tmp_path: Path, tiny_space: Export, ending: str) -> None:
    package, output = tiny_space("clap").path, tmp_path / f"out.{ending}"
    status, out, err = run("classify", package, folder, "rain", "dog bark", "-o", output)
    assert (status, out) == (0, "")
    assert "1 of 6 recordings could not be used" in err
    assert "broken.flac: " in err
    text = output.read_text()
    if ending == "csv":
        rows = list(csv.DictReader(text.splitlines()))
    else:
        rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
    assert [row["file"] for row in rows] == [recording.name for recording in find_recordings(folder)]
    for row in rows:
        if row["file"] == "broken.flac":
            assert "cannot be decoded" in row["error"]
        else:
            assert float(row["p(rain)"]) + float(row["p(dog bark)"]) == pytest.approx(1)
            assert float(row["probability"]) == float(row[f"p({row['label']})"])
            assert not row["error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, "sounds"]


def test_each_prompt_pair_is_a_column(run, folder: Path, tmp_path: Path, tiny_space: Export) -> None:
    pairs, output = tmp_path / "pairs.yaml", tmp_path / "o.json"
    pairs.write_text("- {name: noise, good: clear, bad: noisy}\n- {name: wind, good: still air, bad: wind}\n")
    package = tiny_space("pam", prompts=str(pairs)).path
    assert run("score", package, folder, "-o", output)[0] == 0
    rows = {row["file"]: row for row in json.loads(output.read_text())}
    with alm.load(package, Pam) as model:
        expected = model.score(folder / "0.wav").values
    assert {name: rows["0.wav"][name] for name in ("noise", "wind")} == pytest.approx(expected, abs=1e-6)


def test_a_killed_run_goes_on_and_counts_each_once(folder: Path, tmp_path: Path, tiny_space: Export) -> None:
    for index in range(40):
        soundfile.write(folder / f"more{index}.wav", noise(RATE, index)[0], RATE)
    output = tmp_path / "out.jsonl"
    words = ["embed", str(tiny_space("clap").path), str(folder), "-o", str(output)]
    command = [sys.executable, "-c", "from alm.commands import main; main()", *words]
    part = tmp_path / "out.jsonl.part"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (not part.exists() or part.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = part.read_bytes()
    assert before.count(b"\n") >= 4
    part.write_bytes(before + b'{"file": "more')  # a line that was being written
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    files = [json.loads(line)["file"] for line in output.read_text().splitlines()]
    assert sorted(files) == [recording.name for recording in find_recordings(folder)]
    assert not part.exists()


def test_two_runs_do_not_share_a_part(folder: Path, tmp_path: Path) -> None:
    recordings, output = find_recordings(folder), tmp_path / "o.csv"
    done = [*each(recordings, lambda path: {"x": 1.0}, workers=1)]
    with Results(output, {"score": "a"}) as results:
        results.add(done[0])
        with pytest.raises(ResultsError, match=r"o\.csv\.part is in use by another run"):
            Results(output, {"score": "a"})
    with Results(output, {"score": "a"}) as results:
        assert results.missing(recordings) == recordings[1:]
        for one in done[1:]:
            results.add(one)
        results.finish()
    assert [row["file"] for row in csv.DictReader(output.read_text().splitlines())] == [r.name for r in recordings]


def test_a_part_of_another_run_or_changed_sound_is_refused(folder: Path, tmp_path: Path) -> None:
    recordings, output = find_recordings(folder), tmp_path / "o.csv"
    with Results(output, {"score": "a"}) as results:
        results.add(next(each(recordings, lambda path: {"x": 1.0}, workers=1)))
    with pytest.raises(ResultsError, match="left by another run"):
        Results(output, {"score": "b"})
    os.utime(recordings[0].path, ns=(1, 1))
    with (
        Results(output, {"score": "a"}) as results,
        pytest.raises(ResultsError, match=r"0\.wav was changed since"),
    ):
        results.missing(find_recordings(folder))
    with pytest.raises(ResultsError, match="choose one of these endings"):
        Results(tmp_path / "o.xls", {})
    with pytest.raises(ResultsError, match="cannot be written"):
        Results(tmp_path / "nowhere" / "o.csv", {})


@pytest.mark.parametrize(
    ("family", "words", "options"),
    [
        ("clap", ["rain", "a dog"], ["--template=a {}", "--window=first", "--compat", "--adapt=clip", "another label"]),
        ("pam", [], ["--window=first", "--compat"]),
        ("clapcap", [], ["--beams=1", "--max-tokens=2", "--window=first", "--compat"]),
        (
            "adiff",
            ["a?"],
            ["--max-tokens=2", "--window=first", "--temperature=1", "--seed=1", "--stop=x", "--top-p=.5"],
        ),
    ],
)
def test_what_was_done_otherwise_is_not_gone_on_with(
    run,
    folder: Path,
    tmp_path: Path,
    tiny_space: Export,
    tiny_captioner_export: Export,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    words: list[str],
    options: list[str],
) -> None:
    """Options that change a result are part of what a run is."""
    command = {"clap": "classify", "pam": "score", "clapcap": "caption", "adiff": "ask"}[family]
    package = (tiny_space if family in ("clap", "pam") else tiny_captioner_export)(family).path
    arguments = (command, package, folder, *words, "-o", tmp_path / "o.csv")
    with monkeypatch.context() as killed:
        killed.setattr("alm.folder.each", lambda *_, **__: iter(()))
        killed.setattr(Results, "finish", Results.close)
        assert run(*arguments)[0] == 0
    for option in options:
        status, _, err = run(*arguments, option)
        assert status == 1, option
        assert "left by another run" in err


@pytest.mark.parametrize("line", [b"[]", b"{}", b"nonsense", b'{"file": 3, "size": 1, "mtime_ns": 1, "result": {}}'])
def test_a_damaged_part_is_refused(tmp_path: Path, line: bytes) -> None:
    Results(tmp_path / "o.csv", {}).close()
    part = tmp_path / "o.csv.part"
    part.write_bytes(part.read_bytes() + line + b"\n")
    with pytest.raises(ResultsError, match="holds a line that is no result"):
        Results(tmp_path / "o.csv", {})
