"""The gate's benchmark on the bundled clips: places, ratios and counts are what they are said to be."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import alm_quantize
from alm.errors import AlmError
from alm.listening.gate import Activity
from alm_bench.studies import gate
from alm_bench.studies.scenes import LEVEL, PINK, RATE, Background, Event, Scene, read_sounds, scenes

CLIPS = Path(alm_quantize.__file__).parent / "clips"
EVENTS, BACKGROUNDS = ("dog", "rooster", "door_wood_knock", "siren"), ("rain", "sea_waves")
COLUMNS = ("file", "label", "freesound_id", "split", "source_licence", "source_author", "source_title")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled clips as an ESC-50 folder; the events twice, in a fold of each half."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "esc50" / "audio").mkdir(parents=True)
    names = [f"3-{number}-{label}.ogg" for number, label in enumerate(EVENTS + BACKGROUNDS)]
    names += ["1-90-dog.ogg", "1-91-rain.ogg", "3-92-crow.ogg"]
    with (folder / "esc50" / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name in names:
            label = name.split("-")[2].removesuffix(".ogg")
            shutil.copy(CLIPS / f"{label}.ogg", folder / "esc50" / "audio" / name)
            licence = "CC-BY-NC" if label == "crow" else "CC0"
            writer.writerow((f"audio/{name}", label, name, "train", licence, "somebody", label))
    return folder


def test_halves_share_no_source_and_licences_count(data: Path) -> None:
    events, backgrounds = read_sounds(data, "held-out")
    assert sorted(event.label for event in events) == sorted(EVENTS)
    assert [background.label for background in backgrounds] == [PINK, *BACKGROUNDS]
    assert [event.label for event in read_sounds(data, "tuning")[0]] == ["dog"]


def test_a_ratio_is_that_of_the_active_part() -> None:
    random = np.random.default_rng(0)
    active = np.arange(RATE) < RATE // 4
    sound = np.where(active, np.sin(np.arange(RATE)), 1e-4).astype(np.float32)
    background = Background(PINK, True, np.empty(0, np.float32))
    scene = Scene(background, background.stretch(4 * RATE, random), ((RATE, Event("tone", sound, active)),))
    for snr_db in (20, 0):
        added = (scene.mixed(snr_db) - scene.sound)[RATE : 2 * RATE][active]
        ratio = np.mean(added**2) / np.mean(scene.sound[RATE : 2 * RATE][active] ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.01)


def test_backgrounds_go_on_at_one_level_without_gaps(data: Path) -> None:
    random = np.random.default_rng(0)
    for background in read_sounds(data, "held-out")[1]:
        sound = background.stretch(20 * RATE, random)
        assert len(sound) == 20 * RATE
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(LEVEL, rel=1e-3)
        assert np.sqrt(np.mean(sound.reshape(-1, RATE) ** 2, axis=1)).min() > LEVEL / 10


def test_every_event_is_placed_once_and_clear_of_the_next(data: Path) -> None:
    events, backgrounds = read_sounds(data, "held-out")
    placed = [pair for scene in scenes(events, backgrounds, np.random.default_rng(3)) for pair in scene.events]
    assert sorted(event.label for _, event in placed) == sorted(EVENTS)
    for (start, event), (following, _) in pairwise(placed):
        assert start >= 15 * RATE
        assert following - start - len(event.samples) >= 2.5 * RATE


def test_found_and_missed_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    background = Background(PINK, True, np.empty(0, np.float32))
    tone = np.sin(np.arange(RATE) * 0.5).astype(np.float32)
    scene = Scene(
        background,
        background.stretch(22 * RATE, np.random.default_rng(0)),
        ((16 * RATE, Event("tone", tone, np.ones(RATE, bool))),),
    )
    (loud, *_) = gate.judge(scene)
    assert loud.snr_db == 20
    assert loud.delay_s is not None and -gate.BEFORE_S <= loud.delay_s < 0.3 and loud.whole
    # A gate that is open before an event, or opens long after it, has not found it.
    for opened in (1500, 1800):
        monkeypatch.setattr(gate, "activities", lambda samples, at=opened: [Activity(at - 50, at, 2000, 10.0)])
        assert [found.delay_s for found in gate.judge(scene)] == [None] * 4


def test_shares_come_with_their_intervals() -> None:
    found = [
        gate.Found(PINK, 20, 0.1, True),
        gate.Found(gate.STEADY, 20, 0.3, False),
        gate.Found(PINK, 20, None, False),
    ]
    table = gate.detection(found)
    assert (table[PINK]["20"]["found"], table[PINK]["20"]["events"]) == (1, 2)
    every = table[gate.ALL]["20"]
    assert (every["found"], every["events"], every["median_delay_s"], every["onset_included"]) == (2, 3, 0.2, 0.5)
    low, high = every["interval"]
    assert 0.2 < low < 2 / 3 < high < 0.95


def test_the_command_reports_counts(data: Path) -> None:
    done = CliRunner().invoke(_app(), ["--data", str(data), "--minutes", "0.2", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    assert result["detection"]["all"]["20"]["events"] == len(EVENTS)
    assert result["detection"]["all"]["20"]["found"] >= 3
    assert result["false_alarms"][PINK]["hours"] == pytest.approx(10 * 0.2 / 60)
    assert result["false_alarms"][PINK]["openings"] == 0
    assert 0 < result["cpu_share_closed"] < 1
    assert result["settings"]["threshold"] == 1.0


def test_a_folder_without_sounds_is_an_error(tmp_path: Path, data: Path) -> None:
    done = CliRunner().invoke(_app(), ["--data", str(tmp_path)])
    assert done.exit_code == 1 and "no manifest" in done.output
    (tmp_path / "esc50").mkdir()
    lines = (data / "esc50" / "manifest.csv").read_text().splitlines()
    (tmp_path / "esc50" / "manifest.csv").write_text("\n".join(lines[:1] + [x for x in lines if "crow" in x]))
    with pytest.raises(AlmError, match="found 0 events and 0 backgrounds"):
        read_sounds(tmp_path, "held-out")


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(gate.main)
    return app
