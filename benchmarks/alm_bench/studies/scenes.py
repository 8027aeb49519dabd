"""Real sounds mixed into real backgrounds, with the places of the sounds known.

Events and backgrounds come from the freely licensed clips of an ESC-50 folder (`alm_train.data.recordings`). Its
files are named FOLD-SOURCE-TAKE, and no source is in two folds, so that thresholds can be tuned on some sources and
reported on others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm.audio import read_audio

Samples = NDArray[np.float32]

RATE = 32000
HALVES = {"tuning": ("1", "2"), "held-out": ("3", "4")}
"""Folds whose sources the gate's thresholds were tuned on, and folds that had no part in it."""
EVENTS = (
    *("can_opening", "car_horn", "cat", "chirping_birds", "church_bells", "clapping", "clock_alarm", "coughing", "cow"),
    *("crow", "crying_baby", "dog", "door_wood_creaks", "door_wood_knock", "drinking_sipping", "fireworks"),
    *("footsteps", "frog", "glass_breaking", "hen", "insects", "laughing", "mouse_click", "pig", "rooster", "sheep"),
    *("siren", "sneezing", "snoring", "water_drops"),
)
BACKGROUNDS = (
    *("airplane", "crickets", "engine", "helicopter", "rain", "sea_waves", "train", "vacuum_cleaner"),
    *("washing_machine", "wind"),
)
PINK = "pink noise"
STEADY_DB = 2.0
"""A background is steady when the level of its clip, per 50 ms, has a standard deviation below this; a sea is not."""
BROKEN_DB = 6.0
"""Above this, a clip starts or stops and is no background."""
LEVEL = 0.03
"""RMS of every background, -30 dBFS."""
LEAD_S, TAIL_S = 15.0, 3.0
"""Background before the first event of a scene and after the last."""
GAPS_S = (2.5, 5.5)
"""Shortest and longest pause between two events."""
PER_SCENE = 5
"""Events of a scene."""
PINK_EVERY = 8
"""One in so many scenes is in pink noise."""
EVENT_S, PAUSE_S, ACTIVE_DB = 2.0, 0.3, 25.0
"""An event ends at a pause, at the latest after EVENT_S; its active part is within ACTIVE_DB of its loudest 10 ms."""
FRAME = RATE // 100


@dataclass(frozen=True, eq=False)
class Background:
    """A sound that goes on, of RMS 1 over its clip."""

    label: str
    """What it is."""
    steady: bool
    """Whether its level moves by less than STEADY_DB."""
    samples: Samples
    """The clip; empty for pink noise."""

    def stretch(self, length: int, random: np.random.Generator) -> Samples:
        """`length` samples at LEVEL: pieces of 3 s from random places of the clip, crossfaded over half a second."""
        sound = _pink(length, random) if self.label == PINK else _stretched(self.samples, length, random)
        return sound * np.float32(LEVEL / np.sqrt(np.mean(np.square(sound))))


@dataclass(frozen=True, eq=False)
class Event:
    """A short sound."""

    label: str
    """What it is."""
    samples: Samples
    """From its onset to its end, faded over 5 ms."""
    active: NDArray[np.bool_]
    """Which samples are of its active part."""

    def gain(self, background: Samples, snr_db: float) -> np.float32:
        """The factor that puts its active part `snr_db` above the same part of `background` (n,)."""
        power = np.mean(np.square(self.samples[self.active]))
        return np.float32(np.sqrt(np.mean(np.square(background[self.active])) / power * 10 ** (snr_db / 10)))


@dataclass(frozen=True, eq=False)
class Scene:
    """A background with events in it."""

    background: Background
    """What it is mixed into."""
    sound: Samples
    """The background alone."""
    events: tuple[tuple[int, Event], ...]
    """First sample and event, in order."""

    def mixed(self, snr_db: float) -> Samples:
        """The scene with every event at `snr_db` over its own active part."""
        mixed = self.sound.copy()
        for start, event in self.events:
            place = slice(start, start + len(event.samples))
            mixed[place] += event.samples * event.gain(self.sound[place], snr_db)
        return mixed


def read_sounds(data: Path, half: str) -> tuple[list[Event], list[Background]]:
    """The events and the backgrounds, pink noise first, of one half of the sources. DataError for a bad folder."""
    from alm_train.data.recordings import DataError, read_recordings

    events, backgrounds = [], [Background(PINK, True, np.empty(0, np.float32))]
    for recording in read_recordings(data, ["esc50"]):
        if recording.path.name.split("-")[0] not in HALVES[half] or not recording.trainable:
            continue
        if recording.label in EVENTS:
            events.append(_event(recording.label, read_audio(recording.path, RATE).samples))
        elif recording.label in BACKGROUNDS:
            samples = read_audio(recording.path, RATE).samples
            spread = _level_spread(samples)
            if spread < BROKEN_DB:
                backgrounds.append(Background(recording.label, spread < STEADY_DB, samples))
    if not events or len(backgrounds) < 2:
        folds = " and ".join(HALVES[half])
        raise DataError(
            f"{data}: found {len(events)} events and {len(backgrounds) - 1} backgrounds in folds {folds} of esc50, "
            f"expected at least one of each; events are {', '.join(EVENTS)}, "
            f"backgrounds {', '.join(BACKGROUNDS)}"
        )
    return events, backgrounds


def scenes(events: list[Event], backgrounds: list[Background], random: np.random.Generator) -> Iterator[Scene]:
    """Every event once, in random order; every eighth scene is in pink noise, in the rest backgrounds take turns."""
    order, turns = random.permutation(len(events)), 1 + random.permutation(len(backgrounds) - 1)
    for number, first in enumerate(range(0, len(order), PER_SCENE)):
        start, placed = int(LEAD_S * RATE), []
        for index in order[first : first + PER_SCENE]:
            placed.append((start, events[index]))
            start += len(events[index].samples) + int(RATE * random.uniform(*GAPS_S))
        background = backgrounds[turns[number % len(turns)] if number % PINK_EVERY else 0]
        yield Scene(background, background.stretch(start + int(TAIL_S * RATE), random), tuple(placed))


def _event(label: str, samples: Samples) -> Event:
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(np.square(frames), axis=1)
    active = power > power.max() * 10 ** (-ACTIVE_DB / 10)
    places = np.flatnonzero(active)
    pauses = np.flatnonzero(np.diff(places) > PAUSE_S * RATE / FRAME)
    first, last = places[0], places[pauses[0]] if len(pauses) else places[-1]
    end = min(last + 1, first + int(EVENT_S * RATE / FRAME))
    sound = frames[first:end].reshape(-1).copy()
    fade = np.linspace(0, 1, RATE // 200, dtype=np.float32)
    sound[: len(fade)] *= fade
    sound[-len(fade) :] *= fade[::-1]
    return Event(label, sound, active[first:end].repeat(FRAME))


def _level_spread(samples: Samples) -> float:
    step = RATE // 20
    power = np.mean(np.square(samples[: len(samples) // step * step].reshape(-1, step)), axis=1)
    return float(np.std(10 * np.log10(power + 1e-10)))


def _stretched(clip: Samples, length: int, random: np.random.Generator) -> Samples:
    piece = min(3 * RATE, len(clip))
    fade = min(RATE // 2, piece // 3)
    # Sine flanks: two unrelated sounds keep their power where they cross.
    shape = np.ones(piece, np.float32)
    shape[:fade] = np.sin(np.linspace(0, np.pi / 2, fade))
    shape[-fade:] = shape[:fade][::-1]
    sound = np.zeros(length + 2 * piece, np.float32)
    for at in range(0, length + piece, piece - fade):
        start = int(random.integers(0, len(clip) - piece + 1))
        sound[at : at + piece] += clip[start : start + piece] * shape
    return sound[fade : fade + length]


def _pink(length: int, random: np.random.Generator) -> Samples:
    spectrum = np.fft.rfft(random.standard_normal(length))
    # Power falls with frequency, from 20 Hz on.
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20 * length / RATE))
    return np.fft.irfft(spectrum, length).astype(np.float32)
