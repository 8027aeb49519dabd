"""Which recordings may be trained on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpora import esc50_row, write_corpora, write_manifest

from alm_train.data.library import recorded_clips
from alm_train.data.recordings import DataError, read_recordings, training_set, validation_set


def test_only_free_licences_of_the_training_split_are_trained_on(tmp_path: Path) -> None:
    recordings = read_recordings(write_corpora(tmp_path), ("esc50", "fsdd"))
    chosen = training_set(recordings)
    assert {r.licence for r in chosen} == {"CC0", "CC-BY", "CC-BY-SA"}
    assert {r.split for r in chosen} == {"train"}
    assert all(r.author for r in chosen)
    assert any(r.licence == "CC-BY-NC" for r in recordings), "the corpus must hold what is left out"


def test_a_talker_is_held_out_as_a_whole(tmp_path: Path) -> None:
    recordings = read_recordings(write_corpora(tmp_path), ("fsdd",))
    trained = {r.source for r in training_set(recordings)}
    held_out = {r.source for r in validation_set(recordings)}
    assert held_out == {"fsdd:theo"}
    assert not trained & held_out


def test_a_source_in_both_splits_is_refused(tmp_path: Path) -> None:
    rows = [esc50_row("dog", "7", "CC0", "train"), esc50_row("dog", "7", "CC0", "val")]
    write_manifest(tmp_path / "esc50", rows)
    with pytest.raises(DataError, match="freesound:7"):
        read_recordings(tmp_path, ("esc50",))


def test_messages_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest at .*esc50"):
        read_recordings(tmp_path, ("esc50",))
    with pytest.raises(DataError, match=r"unknown corpus 'esc'.*codec_mushra, esc50, fsdd"):
        read_recordings(tmp_path, ("esc",))
    write_manifest(tmp_path / "esc50", [esc50_row("dog", "7", "CC0", "test")])
    with pytest.raises(DataError, match="split 'test'"):
        read_recordings(tmp_path, ("esc50",))


def test_a_talkative_source_is_thinned_out(tmp_path: Path) -> None:
    recordings = training_set(read_recordings(write_corpora(tmp_path), ("fsdd",)))
    assert len(recordings) == 3
    clips = recorded_clips(recordings, per_source=1)
    assert sorted(clip.source for clip in clips) == ["fsdd:george", "fsdd:lucas"]
