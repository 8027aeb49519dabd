"""Caption metrics against people: the protocol's references, its verdicts, and the penalties of MACE and FENSE."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from alm.errors import AudioError, PromptError
from alm_bench.commands import app
from alm_bench.quality.items import Item, TaskError
from alm_bench.quality.judgements import Metric, Pair, agreement, pair_scores, read_pairs
from alm_bench.quality.judging import CaptionJudge
from alm_bench.quality.measures import interval

REFERENCES = ["a dog", "a dog barks", "a hound", "barking", "a dog is barking"]
CLIP: dict[str, Any] = {
    "audio_id": "x",
    "raw_name": "x_0_8.wav",
    "references": REFERENCES,
    "HC": ["a dog", "a hound", "a", "b", [1, 1, 0, 1]],
    "HI": ["barking", "rain", "a", "b", [1, -1, 1, -1]],
    "HM": ["a dog barks", "a dog dog", "a", "m", [1, 1, 1, 1]],
    "MM_1": ["a dog dog", "a dog and", "m", "n", 0, [-1, -1, 0, 0]],
    "MM_2": None,
}


def test_pairs_with_a_verdict_and_their_references() -> None:
    pairs = {pair.kind: pair for pair in read_pairs("x.json", [CLIP])}
    assert set(pairs) == {"HC", "HM", "MM"}
    assert {kind: pair.verdict for kind, pair in pairs.items()} == {"HC": 3, "HM": 4, "MM": -2}
    assert pairs["HC"].references == (tuple(REFERENCES[1:]), ("a dog", "a dog barks", "barking", "a dog is barking"))
    assert pairs["HM"].references == (("a dog", "a hound", "barking", "a dog is barking"),) * 2
    assert pairs["MM"].references == (tuple(REFERENCES),) * 2
    short = read_pairs("x.json", [{**CLIP, "references": REFERENCES[:3]}])
    assert short[0].references[0] == ("a dog barks", "a hound", "a dog barks", "a hound")


@pytest.mark.parametrize(
    "changed", [{"references": ["one"]}, {"HC": ["a", "b"]}, {"audio_id": None}, {"HM": [1, 2, [1]]}]
)
def test_other_files_are_told(changed: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match=r"x\.json is no file of caption judgements"):
        read_pairs("x.json", [{**CLIP, **changed}])
    with pytest.raises(TaskError, match="no pair"):
        read_pairs("x.json", [{"audio_id": "x", "references": REFERENCES}])


def test_word_counts_leave_one_reference_out_between_models() -> None:
    seen: list[int] = []

    def count(caption: str, references: list[str]) -> float:
        seen.append(len(references))
        return float(len(caption))

    pair = Pair("MM", "x", ("ab", "abcd"), (tuple(REFERENCES),) * 2, -1)
    assert pair_scores(Metric(count, by_words=True), [pair]).tolist() == [[2, 4]]
    assert seen == [4] * 10
    seen.clear()
    pair_scores(Metric(count), [pair])
    assert seen == [5, 5]


def test_a_tie_is_wrong() -> None:
    pairs = [Pair(kind, kind, ("a", "b"), ((), ()), verdict) for kind, verdict in (("HC", 1), ("HM", -2), ("MM", 3))]
    found = {m.group: interval(m) for m in agreement("m", np.array([[2, 1], [2, 1], [1, 1]]), pairs)}
    assert {kind: value.value for kind, value in found.items()} == {
        "HC": 100, "HM": 0, "MM": 0, "total": pytest.approx(100 / 3),
    }  # fmt: skip


@dataclass(frozen=True)
class Compass:
    """Stands for CLAP: a text or a recording is a direction in degrees; longer than two words does not fit."""

    def embed_text(self, texts: list[str]) -> np.ndarray:
        if len(texts[0].split()) > 2:
            raise PromptError("too long")
        return np.array(
            [[np.cos(np.radians(float(t.split()[0]))), np.sin(np.radians(float(t.split()[0])))] for t in texts]
        )

    def hear(self, path: Path) -> SimpleNamespace:
        if path.suffix != ".wav":
            raise AudioError("no sound")
        return SimpleNamespace(mean=self.embed_text([path.stem])[0])


@pytest.mark.parametrize(("error", "mace", "fense"), [(0.5, 1.0, 1.0), (0.95, 1.0, 0.1), (0.99, 0.7, 0.1)])
def test_mace_and_fense(error: float, mace: float, fense: float) -> None:
    detector: Any = SimpleNamespace(error_probability=lambda captions: [error] * len(captions))
    clap: Any = Compass()
    items = [
        Item("a", "caption", "g", ("0.wav",), "", ("0", "60 long text")),
        Item("b", "caption", "g", ("bad",), "", ("0",)),
        Item("c", "caption", "g", ("90.wav",), "", ("0",)),
    ]
    paths = {name: Path(name) for item in items for name in item.audio}
    said = {"a": "The audio 1 is 60", "b": "0", "c": ""}
    found = {m.metric: interval(m) for m in CaptionJudge(clap, detector).measures(items, said, paths)}
    assert {value.n for value in found.values()} == {2}
    assert found["CLAP text similarity"].value == pytest.approx(100 * 0.75 / 2)
    assert found["CLAP audio similarity"].value == pytest.approx(100 * 0.5 / 2)
    assert found["MACE"].value == pytest.approx(100 * 0.625 * mace / 2)
    assert found["FENSE"].value == pytest.approx(100 * 0.75 * fense / 2)


def test_the_command_counts_agreement(tmp_path: Path) -> None:
    (tmp_path / "judged.json").write_text(json.dumps([CLIP]))
    things, doing = ("a dog", "a man", "a car", "the wind", "a bird"), ("barks", "is speaking", "rings loudly")
    captions = [f"{a} {x} and {b} {y}" for a in things for x in doing for b in things for y in doing if a != b]
    lines = ["audiocap_id,youtube_id,start_time,caption", *(f"{n},y{n},0,{c}" for n, c in enumerate(captions))]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    output = tmp_path / "found.json"
    words = ["judgements", tmp_path / "judged.json", "--captions", tmp_path / "captions.csv", "-o", output]
    result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    scores = json.loads(output.read_text())["scores"]
    assert {row["metric"] for row in scores} >= {"BLEU-4", "chrF, FENSE's penalty", "rare words"}
    assert {row["group"]: row["values"][0]["n"] for row in scores} == {"HC": 1, "HM": 1, "MM": 1, "total": 3}
