"""Task files in their published layouts become items; what does not fit them is told by file and field."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alm_bench.quality.audio_files import AudioFolder
from alm_bench.quality.formats import options_of
from alm_bench.quality.items import TaskError
from alm_bench.quality.plan import make_plan
from alm_bench.quality.task_files import captions_of, read_folder
from alm_bench.quality.tasks import find_tasks

MMAU = {
    "id": "1f", "audio_id": "./test-mini-audios/1f.wav", "question": "Who speaks.", "choices": ["A Man", "A Robot"],
    "answer": "A Robot", "task": "speech", "difficulty": "hard",
}  # fmt: skip
REASON = {
    "taskname": "clothov21", "filepath1": "ClothoV21/validation/rain.wav", "filepath2": "", "caption1": "rain",
    "caption2": "", "input": "what is it? a) rain b) a dog", "answer": "a) rain", "subtype": "Clotho-MCQ.json",
}  # fmt: skip
ENTAILMENT = {
    "Dataset": "Audiocaps", "Audio file": "Yrain", "Caption": "rain", "Entailment": "Water falls.",
    "Neutral": "It is autumn.", "Contradiction": "All is silent.",
}  # fmt: skip


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, rows: list[Any]) -> None:
    path.write_bytes(gzip.compress(json.dumps(rows).encode()) if path.suffix == ".gz" else json.dumps(rows).encode())


def test_every_format_is_recognised(tmp_path: Path) -> None:
    write_json(tmp_path / "mmau.json.gz", [MMAU])
    write_json(tmp_path / "reason.json", [REASON])
    write_csv(tmp_path / "audiocaps_entailment_test.csv", [ENTAILMENT])
    write_csv(tmp_path / "clotho.csv", [{"file_name": "a.wav", **{f"caption_{n}": f"rain {n}" for n in range(1, 6)}}])
    captions = ["a dog barks", "a dog"]
    write_csv(tmp_path / "audiocaps.csv", [{"audiocap_id": "1", "youtube_id": "x", "caption": c} for c in captions])
    write_csv(tmp_path / "other.csv", [{"colour": "red"}])
    folder = read_folder(tmp_path)
    assert folder.ignored == ("other.csv",)
    assert len(folder.files) == 5
    found = {(item.task, item.group): item for item in folder.items}
    assert found["mcq", "MMAU"].text == "who speaks? a) a man b) a robot"
    assert found["mcq", "MMAU"].answers == ("b) a robot",)
    assert found["mcq", "MMAU"].tags == ("MMAU speech", "MMAU hard")
    assert found["mcq", "Clotho-MCQ"].rule == "letter"
    assert [(i.text, i.answers) for i in folder.items if i.group == "ACE"] == [
        ("Water falls.", ("entailment",)),
        ("It is autumn.", ("neutral",)),
        ("All is silent.", ("contradiction",)),
    ]
    assert found["caption", "AudioCaps"].answers == tuple(captions)
    assert found["caption", "AudioCaps"].audio == ("Yx",)
    assert len(found["caption", "Clotho"].answers) == 5
    assert captions_of(tmp_path / "audiocaps.csv") == captions


@pytest.mark.parametrize(
    ("changed", "task", "rule", "text"),
    [
        ({"answer": "Yes", "input": "is it wet?", "subtype": "ClothoAQA.json"}, "mcq", "word", "is it wet?"),
        ({"answer": "it is wet"}, "detail", "", REASON["input"]),
        ({"input": "caption first audio", "subtype": "Clotho.json"}, "caption", "", "caption the audio"),
        ({"subtype": "CLE.json"}, "entailment", "letter", REASON["input"]),
        (
            {"filepath2": "b.wav", "input": "Explain the difference in detail", "subtype": "", "answer": "the second"},
            "difference",
            "",
            "explain the difference between the two audios in detail.",
        ),
    ],
)  # fmt: skip
def test_reason_aqa_is_sorted_by_content(
    tmp_path: Path, changed: dict[str, str], task: str, rule: str, text: str
) -> None:
    write_json(tmp_path / "reason.json", [{**REASON, **changed}])
    (item,) = read_folder(tmp_path).items
    assert (item.task, item.rule, item.text) == (task, rule, text)
    if task == "difference":
        assert (item.group, len(item.audio)) == ("CLD-3", 2)


def test_a_row_that_does_not_fit_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / "mmau.json", [{**MMAU, "answer": "A Child"}])
    with pytest.raises(TaskError, match=r"mmau\.json.*MMAU.*'A Child' is none of the choices"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[1, 2]", b"[]", b""])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tasks.json").write_bytes(content)
    with pytest.raises(TaskError, match=r"tasks\.json cannot be read|Known formats and their columns"):
        read_folder(tmp_path)


def test_audio_is_found_by_folder_ending_and_identifier(tmp_path: Path) -> None:
    for name in ("val/rain.flac", "test/rain.flac", "clips/x.wav", "a.b.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    audio = AudioFolder(tmp_path)
    assert audio.find("Corpus/val/rain.wav") == tmp_path / "val/rain.flac"
    assert audio.find("Yx") == tmp_path / "clips/x.wav"
    assert audio.find("a.b") == tmp_path / "a.b.ogg"
    assert audio.find("snow.wav") is None
    with pytest.raises(TaskError, match=r"'rain\.wav' is any of"):
        audio.find("rain.wav")


def test_missing_audio_is_counted_and_most_of_it_is_an_error(tmp_path: Path) -> None:
    names = [f"{n}.wav" for n in range(4)]
    write_json(tmp_path / "reason.json", [{**REASON, "filepath1": name} for name in names])
    tasks = find_tasks("mcq")
    (tmp_path / "0.wav").touch()
    with pytest.raises(TaskError, match=r"3 of the 4 recordings .* such as '1\.wav'"):
        make_plan(read_folder(tmp_path), tasks, AudioFolder(tmp_path), None)
    for name in names[1:3]:
        (tmp_path / name).touch()
    plan = make_plan(read_folder(tmp_path), tasks, AudioFolder(tmp_path), None)
    assert (plan.recordings, plan.missing, plan.without_audio, len(plan.items)) == (4, ("3.wav",), 1, 3)


def test_a_limit_takes_whole_clips_of_each_group(tmp_path: Path) -> None:
    rows = [{**REASON, "filepath1": f"{n % 6}.wav", "subtype": f"{n % 2}.json"} for n in range(24)]
    write_json(tmp_path / "reason.json", rows)
    for n in range(6):
        (tmp_path / f"{n}.wav").touch()
    plan = make_plan(read_folder(tmp_path), find_tasks("mcq"), AudioFolder(tmp_path), 2)
    for group in "01":
        clips = [item.audio for item in plan.items if item.group == group]
        assert len(set(clips)) == 2
        assert len(clips) == 8


def test_a_limit_leaves_clips_to_be_scored_and_to_be_fitted_on(tmp_path: Path) -> None:
    for part in ("development", "evaluation"):
        rows = [{**ENTAILMENT, "Audio file": f"{part}{n}"} for n in range(4)]
        write_csv(tmp_path / f"clotho_entailment_{part}.csv", rows)
        for n in range(4):
            (tmp_path / f"{part}{n}.wav").touch()
    plan = make_plan(read_folder(tmp_path), find_tasks("entailment"), AudioFolder(tmp_path), 1)
    assert sorted(item.split for item in plan.items) == ["fit"] * 3 + ["test"] * 3


def test_what_a_folder_lacks_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / "reason.json", [REASON])
    with pytest.raises(TaskError, match=r"no examples of caption; they have mcq"):
        make_plan(read_folder(tmp_path), find_tasks("caption"), AudioFolder(tmp_path), None)
    with pytest.raises(TaskError, match="unknown task 'music'; the tasks are entailment, mcq"):
        find_tasks("mcq,music")


def test_options_are_read_from_the_question() -> None:
    assert options_of('"it rains" a) definitely true b) it (may) be c) no') == {
        "a": "definitely true",
        "b": "it (may) be",
        "c": "no",
    }
