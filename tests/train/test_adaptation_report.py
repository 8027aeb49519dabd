"""The report of what adaptation changes, on a tiny CLAP and a few synthetic clips of every corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpora import write_clip, write_manifest
from tiny_clap import write_tiny_clap
from typer.testing import CliRunner

from alm_train.commands import app
from alm_train.data.measured import read_measured
from alm_train.data.recordings import DataError

CORPORA = ("us8k_fold1", "us8k_fold2", "ravdess", "tess_oaf", "urdu_dev")
SOUNDS = ("beeps", "white_noise", "warble")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for corpus in CORPORA:
        rows = []
        for number, sound in enumerate(SOUNDS):
            file = f"audio/{number}.flac"
            row = {"file": file, "label": sound, "freesound_id": "1", "speaker": "a", "actor": "19", "split": "val"}
            rows.append(row)
            write_clip(folder / corpus / file, sound, number)
        write_manifest(folder / corpus, [*rows, dict(rows[0], split="train")] if corpus == "ravdess" else rows)
    return folder


def test_every_corpus_and_form_is_reported_over_the_seeds(data: Path, tmp_path: Path) -> None:
    weights = write_tiny_clap(tmp_path)
    options = ["--weights", str(weights), "--seeds", "2", "--clips", "3", "--views", "3", "--json"]
    result = CliRunner().invoke(app, ["adaptation", "--data", str(data), *options])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {(c["corpus"], c["form"]) for c in found} == {(c, f) for c in CORPORA for f in ("additive", "tokens")}
    kept = [c for c in found if c["setting"] != "each clip"]
    assert {(c["corpus"], c["form"]) for c in kept} == {("us8k_fold2", "additive"), ("us8k_fold2", "tokens")}
    for change in found:
        assert len(change["before"]) == len(change["after"]) == 2
        assert all(0 <= share <= 1 for share in change["before"] + change["after"])


def test_only_what_may_be_measured_is_read(data: Path) -> None:
    assert [clip.label for clip in read_measured(data, "ravdess")] == list(SOUNDS)
    with pytest.raises(DataError, match="corpora to measure with: codec_mushra, ravdess"):
        read_measured(data, "esc50")
