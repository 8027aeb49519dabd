"""The `alm` command: exit statuses, JSON, and one line for every failure."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile
from fakes import golden, manifest, noise, weights, write_fake

import alm

if TYPE_CHECKING:
    from sdk.conftest import Run


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.wav", tmp_path / "b.wav"
    for seed, path in enumerate(paths):
        soundfile.write(path, *noise(1, seed), subtype="FLOAT")
    return paths


def test_ask(run: Run, package: Path, recordings: tuple[Path, Path]) -> None:
    with alm.load(package) as model:
        expected = model.listen(recordings[0]).ask("what is it?", max_tokens=9)
    result = run("ask", package, recordings[0], "what is it?", "--max-tokens", 9, "--json")
    assert result.status == 0
    assert result.err == ""
    found = json.loads(result.out)
    assert found["text"] == expected.text
    assert found["tokens"] == list(expected.tokens)
    assert found["finish_reason"] == expected.finish_reason
    assert found["windows"][0]["start"] == 0
    assert set(found["timing"]) == {"encode", "prefill", "first_token", "decode"}


def test_human_output_is_the_text(
    run: Run, package: Path, recordings: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = json.loads(run("ask", package, recordings[0], "what?", "--json").out)["text"]
    shown = "".join(letter for letter in said if letter.isprintable()).strip()
    piped = run("ask", package, recordings[0], "what?")
    assert (piped.status, piped.out.strip()) == (0, shown)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run("ask", package, recordings[0], "what?").out.strip() == shown


def test_compare_and_options(run: Run, package: Path, recordings: tuple[Path, Path]) -> None:
    with alm.load(package) as model:
        expected = model.compare(*recordings, "what differs?", temperature=3.0, seed=5, top_p=0.9, max_tokens=8)
    result = run(
        *("compare", package, *recordings, "what differs?", "--json", "--threads", 1, "--window", "first"),
        *("--temperature", 3.0, "--seed", 5, "--top-p", 0.9, "--max-tokens", 8),
    )
    assert json.loads(result.out)["tokens"] == list(expected.tokens)


def test_a_question_about_each_of_a_folder(run: Run, package: Path, recordings: tuple[Path, Path]) -> None:
    folder = recordings[0].parent / "sounds"
    folder.mkdir()
    for number, path in enumerate(recordings):
        path.rename(folder / f"{number}.wav")
    (folder / "broken.wav").write_bytes(b"no sound")
    output = folder.parent / "out.csv"
    with alm.load(package) as model:
        expected = [model.listen(folder / f"{number}.wav").ask("what?", max_tokens=5).text for number in (0, 1)]
    result = run("ask", package, folder, "what?", "--max-tokens", 5, "-o", output)
    assert (result.status, result.out) == (0, "")
    assert "1 of 3 recordings could not be used" in result.err
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["text"]) for row in rows] == list(
        zip(("0.wav", "1.wav", "broken.wav"), (*expected, ""), strict=True)
    )
    assert rows[0]["finish_reason"] in ("stop", "length")
    lines = run("ask", package, folder, "what?", "--max-tokens", 5, "--json").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == expected
    assert "it is for a folder" in run("ask", package, folder / "0.wav", "what?", "-o", output).err
    refused = run("ask", package, folder, "long " * 100)
    assert refused.status == 1
    assert "recordings" not in refused.err


def test_pairs_of_two_folders_and_all_against_one(
    run: Run, package: Path, recordings: tuple[Path, Path], tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, first, second in ((before, "x.wav", "alone.wav"), (after, "x.wav", "late.wav")):
        folder.mkdir()
        for name, seed in ((first, 3), (second, 4)):
            soundfile.write(folder / name, *noise(1, seed + (folder is after)), subtype="FLOAT")
    with alm.load(package) as model:
        pair = model.compare(before / "x.wav", after / "x.wav", "why?", max_tokens=5, window="first").text
        one = model.compare(before / "x.wav", recordings[0], "why?", max_tokens=5, window="first").text
    words = ("why?", "--max-tokens", 5, "--window", "first", "--json")
    result = run("compare", package, before, after, *words)
    assert [(row["file"], row["text"]) for row in map(json.loads, result.out.splitlines())] == [("x.wav", pair)]
    assert "alone.wav cannot be opened" in result.err
    assert "1 recordings of" in result.err
    assert "such as late.wav" in result.err
    against = run("compare", package, before, recordings[0], *words)
    assert {row["file"]: row["text"] for row in map(json.loads, against.out.splitlines())}["x.wav"] == one


def test_choose(run: Run, package: Path, recordings: tuple[Path, Path]) -> None:
    with alm.load(package) as model:
        expected = model.listen(recordings[0]).choose("which?", ["dog", "rain"])
    found = json.loads(run("choose", package, recordings[0], "which?", "dog", "rain", "--json").out)
    assert (found["text"], found["index"]) == (expected.text, expected.index)
    assert found["probabilities"] == pytest.approx(list(expected.probabilities))
    lines = run("choose", package, recordings[0], "which?", "dog", "rain").out.split("\n")
    assert expected.text in lines[0]
    assert f"{max(expected.probabilities):.1%}" in lines[0]


def test_a_long_recording_prints_its_times(
    run: Run, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "long.wav", *noise(2.0), subtype="FLOAT")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    out = run("ask", package, tmp_path / "long.wav", "what?", "--max-tokens", 2).out
    assert out.startswith("[0.0 - 0.1 s] ")
    assert "\n[0.1 - 0.2 s] " in out
    once = run("ask", package, tmp_path / "long.wav", "what?", "--window", "first", "--json").out
    assert len(json.loads(once)["windows"]) == 1


def test_inspect_shows_licence_and_caution(run: Run, package: Path) -> None:
    out = run("inspect", package).out
    for text in ("mellow-fake", "CC0-1.0", "nobody", "the answers mean nothing", "fp32", "choice.accuracy"):
        assert text in out
    found = json.loads(run("inspect", package, "--json").out)
    assert found["weights"]["licence"] == "CC0-1.0"
    assert found["bytes"] == package.stat().st_size


def test_inspect_shows_shares_with_their_interval(run: Run, tmp_path: Path) -> None:
    quality = {"whole": {"agreement": {"share": 0.98, "low": 0.97, "high": 0.99, "n": 500}, "kl": 0.01}}
    lines = run("inspect", write_fake(tmp_path / "q.alm", quality=quality)).out.splitlines()
    assert any(" ".join(line.split()) == "whole.agreement 98.0% of 500 (95 %: 97.0% to 99.0%)" for line in lines)
    assert any(line.split() == ["whole.kl", "0.01"] for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_verify_passes_and_fails(run: Run, package: Path, tmp_path: Path) -> None:
    good = run("verify", package)
    assert good.status == 0
    assert good.out.count(" ok") == 5
    altered = weights()
    altered["value"] = altered["value"] * 2
    bad = write_fake(tmp_path / "bad.alm", tensors=altered, arrays=golden(weights()))
    result = run("verify", bad)
    assert result.status == 1
    assert result.err.startswith("alm: on fake, stage logits is the first that differs")
    assert result.err.count("\n") == 1
    found = json.loads(run("verify", bad, "--json").out)
    assert (found["ok"], [stage["ok"] for stage in found["stages"]]) == (False, [True] * 3 + [False] * 2)


def test_json_stays_json_when_a_stage_gives_nan(run: Run, tmp_path: Path, fake_engine: None) -> None:
    broken = weights()
    broken["head"][:] = float("nan")
    path = write_fake(tmp_path / "nan.alm", tensors=broken, arrays=golden(weights()))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(run("verify", path, "--json").out, parse_constant=refuse)
    assert found["stages"][3]["difference"] is None
    assert not found["stages"][3]["ok"]


def test_doctor(run: Run, fake_engine: None) -> None:
    found = json.loads(run("doctor", "--json").out)
    names = [finding["name"] for finding in found["findings"]]
    assert {"python", "numpy", "cpu features", "memory", "engine onnxruntime", "torch"} <= set(names)
    # The fake engine exists in this process only, so the doctor must report that it cannot be loaded.
    fake = next(finding for finding in found["findings"] if finding["name"] == "engine fake")
    assert not fake["ok"]
    result = run("doctor")
    assert result.status == 1
    assert "! " in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ask"],
        ["ask", "p.alm", "a.wav"],
        ["listen"],
        ["ask", "p.alm", "a.wav", "what?", "--temperature", "-1"],
        ["ask", "p.alm", "a.wav", "what?", "--window", "last"],
        ["ask", "p.alm", "a.wav", "what?", "--max-tokens", "many"],
        ["choose", "p.alm", "a.wav", "which?"],
    ],
)
def test_wrong_usage_is_status_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).status == 2


def test_every_failure_is_one_line(run: Run, package: Path, recordings: tuple[Path, Path], tmp_path: Path) -> None:
    (text := tmp_path / "text.wav").write_text("not sound")
    cut = tmp_path / "cut.alm"
    cut.write_bytes(package.read_bytes()[:-100])
    failures = [
        ("ask", tmp_path / "none.alm", recordings[0], "what?"),
        ("ask", cut, recordings[0], "what?"),
        ("ask", package, tmp_path / "none.wav", "what?"),
        ("ask", package, text, "what?"),
        ("choose", package, tmp_path, "what?", "a", "b"),
        ("ask", package, recordings[0], ""),
        ("ask", package, recordings[0], "long " * 100),
        ("ask", package, recordings[0], "what?", "--max-tokens", 10_000),
        ("ask", package, recordings[0], "what?", "--top-p", 0),
        ("choose", package, recordings[0], "which?", "one"),
        ("inspect", text),
        ("verify", text),
    ]
    for arguments in failures:
        result = run(*arguments)
        assert result.status == 1, arguments
        assert result.out == ""
        assert result.err.startswith("alm: ")
        assert result.err.count("\n") == 1


def test_truncate_lets_a_long_question_pass(run: Run, package: Path, recordings: tuple[Path, Path]) -> None:
    assert "--truncate" in run("ask", package, recordings[0], "long " * 100).err
    assert run("ask", package, recordings[0], "long " * 100, "--truncate").status == 0


def test_interruption_is_status_130(
    run: Run, package: Path, recordings: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alm.answering.generation.greedy", interrupt)
    assert run("ask", package, recordings[0], "what?").status == 130


def test_a_full_disk_is_no_defect() -> None:
    command = [sys.executable, "-c", "from alm.commands import main; main()", "doctor", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "alm: no space is left where the output goes; free some and run it again\n"


def test_defects_are_one_line_too(run: Run, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("alm.verify.verify", fail)
    result = run("verify", package)
    assert result.status == 1
    assert result.err.startswith("alm: ZeroDivisionError: by nought. This is a defect")


def test_answers_that_stdout_cannot_show(package: Path, recordings: tuple[Path, Path], tmp_path: Path) -> None:
    """A Raspberry Pi without a locale has an ASCII stdout."""
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    program = (
        "import sys; from alm.engines import ENGINES; ENGINES['fake'] = 'fakes'; from alm.commands import main; main()"
    )
    odd = dataclasses.replace(manifest().weights, attribution="Zoë \x1b[2J 猫")
    package = write_fake(tmp_path / "odd.alm", weights=odd)
    ask = ("ask", package, recordings[0], "what?", "--temperature", "9", "--seed")
    for arguments in ((*ask, "1"), (*ask, "2"), ("inspect", package), ("inspect", package, "--json")):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert b"\x1b" not in done.stdout


def test_a_reader_that_leaves_early(package: Path) -> None:
    program = "from alm.commands import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "inspect", package, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
