"""A run on several processes: every clip once, whatever dies, stops or cannot be read."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import alm
from alm.session import Clip
from alm_bench.commands import app
from alm_bench.quality import processes
from alm_bench.quality.asking import Done, Question, Work, answer
from alm_bench.quality.items import TaskError
from alm_bench.quality.journal import Journal
from alm_bench.quality.processes import on_processes

if TYPE_CHECKING:
    from alm_export.pipeline import Exported

CLIPS = 6
BROKEN = "4.wav"
QUESTION = "what is the sound? a) rain b) siren"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions of two files about six recordings, of which one is no audio and a seventh is missing."""
    folder = tmp_path / "data"
    (folder / "audio").mkdir(parents=True)
    random = np.random.default_rng(0)
    for clip in range(CLIPS):
        soundfile.write(folder / "audio" / f"{clip}.wav", 0.1 * random.standard_normal(16000), 16000)
    (folder / "audio" / BROKEN).write_bytes(b"no sound")
    rows = [
        {"taskname": "x", "filepath1": f"{clip}.wav", "filepath2": "", "input": QUESTION, "answer": "a) rain",
         "subtype": "mcq"}
        for clip in range(CLIPS + 1)
    ]  # fmt: skip
    (folder / "questions.json").write_text(json.dumps(rows))
    with (folder / "entailment.csv").open("w", newline="") as file:
        names = ("Audio file", "Entailment", "Neutral", "Contradiction")
        writer = csv.writer(file)
        writer.writerow(("Dataset", *names))
        writer.writerows(("made", f"{clip}.wav", "rain", "a bell", "a crow") for clip in range(CLIPS))
    return folder


def run(*words: object) -> None:
    result = CliRunner().invoke(app, ["quality", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_two_packages_side_by_side(tiny_export: Callable[[str], Exported], data: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    packages = (tiny_export("fp32").path, tiny_export("int4").path)
    words = (*packages, "--task", "mcq,entailment", "--data", data, "--workers", 2, "-o", output)
    run(*words)
    found = json.loads(output.read_text())
    assert found["audio"] == {
        "named": CLIPS + 1, "missing": 1, "missing_names": ["6.wav"], "examples_left_out": 1,
    }  # fmt: skip
    for package in found["packages"]:
        assert (package["clips"], package["resumed"]) == (CLIPS, 0)
        assert len({id.split("|")[0] for id in package["failed"]}) >= 2
        assert any("no sound" in reason or BROKEN in reason for reason in package["failed"].values())
    accuracy = next(row for row in found["scores"] if (row["task"], row["metric"]) == ("mcq", "accuracy"))
    for value in accuracy["values"]:
        assert (value["n"], value["clips"]) == (CLIPS - 1, CLIPS - 1)
        assert value["low"] <= value["value"] <= value["high"]
    one, other = accuracy["values"]
    (apart,) = accuracy["differences"]
    assert (apart["value"], apart["n"]) == (pytest.approx(other["value"] - one["value"]), CLIPS - 1)
    assert {row["group"] for row in found["without_listening"]} == {
        "mcq, always 'a'", "made words of the hypothesis",
    }  # fmt: skip
    lines = output.with_suffix(".jsonl").read_text().splitlines()
    run(*words)
    assert output.with_suffix(".jsonl").read_text().splitlines() == lines
    again = json.loads(output.read_text())
    assert again["scores"] == found["scores"]
    assert [package["resumed"] for package in again["packages"]] == [CLIPS, CLIPS]


def test_a_caption_stands_before_its_hypothesis(
    tiny_package: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def choose(clip: Clip, question: str, options: Sequence[str]) -> SimpleNamespace:
        asked.append(question)
        return SimpleNamespace(probabilities=(0.5, 0.5))

    monkeypatch.setattr(Clip, "ask", lambda clip, question, max_tokens: SimpleNamespace(text=" it rains. "))
    monkeypatch.setattr(Clip, "choose", choose)
    kinds = ("choose", "choose_after_caption")
    questions = tuple(Question(kind, kind, "'a bell'", ("yes", "no")) for kind in kinds)
    done = answer(str(tiny_package), 1, Work((str(data / "audio" / "0.wav"),), questions))
    assert asked == ["'a bell'", "it rains. 'a bell'"]
    assert done.said == {kind: [0.5, 0.5] for kind in kinds} and not done.failed


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("ask", "the question has 4"),
        ("choose", "the text and its options have 4"),
        ("choose_after_caption", "the model's caption, the text and its options have 4"),
    ],
)
def test_a_text_that_is_too_long_is_shortened_in_its_file(
    kind: str, what: str, tiny_package: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "choose_after_caption":
        monkeypatch.setattr(Clip, "ask", lambda clip, question, max_tokens: SimpleNamespace(text="it rains."))
    question = Question("one", kind, "rain " * 400, ("yes", "no"))
    reason = answer(str(tiny_package), 1, Work((str(data / "audio" / "0.wav"),), (question,))).failed["one"]
    assert reason.startswith(what) and reason.endswith("Shorten the text in the task file, or take the example out")


def works(folder: Path) -> list[Work]:
    return [
        Work((str(folder / "audio" / f"{clip}.wav"),), (Question(f"{clip}:{n}", "ask", QUESTION),))
        for clip in range(CLIPS)
        for n in range(2)
    ]


def test_a_killed_process_loses_and_repeats_nothing(tiny_package: Path, data: Path) -> None:
    wanted = works(data)
    quiet = {done.work: done for done in on_processes(str(tiny_package), wanted, 1)}
    found: list[Done] = []
    for done in on_processes(str(tiny_package), wanted, 2):
        if not found:
            victim = multiprocessing.active_children()[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
        found.append(done)
    assert sorted(map(repr, found)) == sorted(map(repr, quiet.values()))
    assert len({done.work for done in found}) == len(found) == len(wanted)


def test_a_killed_run_goes_on_and_leaves_no_process(tiny_package: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    journal = output.with_suffix(".jsonl")
    words = [tiny_package, "--task", "mcq,entailment", "--data", data, "--workers", 1, "-o", output]
    program = "from alm_bench.commands import main; main()"
    command = [sys.executable, "-c", program, "quality", *map(str, words)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        assert running.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert children
    running.kill()
    running.wait()
    for _ in range(600):
        if not any(Path(f"/proc/{child}/cmdline").exists() for child in children):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker outlived the run")
    before = journal.read_bytes().count(b"\n")
    run(*words)
    keys = [json.loads(line)["key"] for line in journal.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == CLIPS
    assert json.loads(output.read_text())["packages"][0]["resumed"] == before


def deadly(package: str, threads: int, work: Work) -> Done:
    if "3.wav" in work.sources[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return Done(work, {question.id: "fine" for question in work.questions})


def test_a_clip_that_kills_is_told_and_passed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "answer", deadly)
    found = list(on_processes("none", works(data), 2))
    assert len(found) == len({done.work for done in found}) == 2 * CLIPS
    killed = [done for done in found if done.failed]
    assert {done.work.sources for done in killed} == {(str(data / "audio" / "3.wav"),)}
    assert all("died twice" in reason for done in killed for reason in done.failed.values())


def test_a_package_that_cannot_be_loaded_ends_the_run(tmp_path: Path, data: Path) -> None:
    (tmp_path / "no.alm").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"no\.alm"):
        list(on_processes(str(tmp_path / "no.alm"), works(data), 1))


def test_a_journal_keeps_what_was_finished(tmp_path: Path, data: Path) -> None:
    one, two = works(data)[:2]
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.add(one.key("p"), Done(one, {"0:0": "rain"}, {"x": "why"}))
        with pytest.raises(ValueError, match="already"):
            journal.add(one.key("p"), Done(one))
        with pytest.raises(TaskError, match="another run is writing"):
            Journal(path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    with Journal(path) as journal:
        assert journal.find(one.key("p"), one) == Done(one, {"0:0": "rain"}, {"x": "why"})
        assert journal.find(two.key("p"), two) is None
        assert journal.find(one.key("another package"), one) is None
        journal.add(two.key("p"), Done(two))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [one.key("p"), two.key("p")]
    path.write_bytes(b"[]\n" + whole)
    with pytest.raises(TaskError, match="a line that no run wrote"):
        Journal(path)


def test_other_questions_and_other_files_are_other_work(data: Path) -> None:
    work = works(data)[0]
    keys = {work.key("p"), work.key("q"), Work(work.sources, (Question("0:0", "ask", "why?"),)).key("p")}
    (data / "audio" / "0.wav").write_bytes(b"longer or shorter")
    assert len(keys | {work.key("p")}) == 4


def test_a_package_that_cannot_do_a_task_is_told(tiny_package: Path, data: Path, tmp_path: Path) -> None:
    from alm_bench.quality.run import ask_package
    from alm_bench.quality.tasks import TASKS, Task

    tasks = {"mcq": Task(("sing",), TASKS["mcq"].questions, TASKS["mcq"].measures)}
    with Journal(tmp_path / "j.jsonl") as journal, pytest.raises(TaskError, match="and mcq needs sing; tasks for it: "):
        pool = partial(on_processes, workers=1)
        ask_package(tiny_package, None, tasks, journal, pool, lambda done, clips: None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("--workers", "2", "--ray", "auto"), "exclude each other"), (("--fluency", "x.csv"), "need --clap")],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    base = ["quality", "p.alm", "--task", "mcq", "--data", str(tmp_path), "-o", str(tmp_path / "r.json")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*base, *words])
    assert result.exit_code == 2
    assert expected in result.output


def test_a_captioner_is_asked_nothing(
    tiny_captioner_export: Callable[..., Exported], data: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "taskname": "x",
            "filepath1": f"{clip}.wav",
            "filepath2": "",
            "input": "caption the audio",
            "answer": "rain",
            "subtype": "c",
        }
        for clip in range(3)
    ]
    (data / "questions.json").write_text(json.dumps(rows))
    output = tmp_path / "captions.json"
    package = tiny_captioner_export("clapcap").path
    run(package, "--task", "caption", "--data", data, "--workers", 1, "-o", output)
    assert {row["values"][0]["n"] for row in json.loads(output.read_text())["scores"]} == {3}
    lines = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    with alm.load(package) as model:
        for line in lines:
            (said,) = line["said"].values()
            assert said == model.caption(line["clip"][0]).text.strip()


def test_a_folder_is_scored_as_alm_score_does(tiny_space: Callable[..., Exported], data: Path, tmp_path: Path) -> None:
    package, folder = tiny_space("pam").path, data / "audio"
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    done = CliRunner().invoke(app, ["score", str(package), str(folder), "-o", str(ours), "--workers", "2"])
    assert done.exit_code == 0, done.output
    from alm.commands import app as sdk

    assert CliRunner().invoke(sdk, ["score", str(package), str(folder), "-o", str(theirs)]).exit_code == 0
    # Rows come as they are finished.
    one, other = (sorted(csv.DictReader(path.open()), key=lambda row: row["file"]) for path in (ours, theirs))
    assert [row["file"] for row in one] == [row["file"] for row in other] == [f"{n}.wav" for n in range(CLIPS)]
    for mine, yours in zip(one, other, strict=True):
        assert mine.keys() == yours.keys()
        assert (mine["file"] == BROKEN) == bool(mine["error"])
        if not mine["error"]:
            numbers = [name for name in mine if name not in ("file", "error")]
            assert [float(mine[name]) for name in numbers] == pytest.approx([float(yours[name]) for name in numbers])
