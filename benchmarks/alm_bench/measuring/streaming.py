"""How soon watching says what was heard: sounds played in real time through `watch`."""

from __future__ import annotations

import statistics
import time

import numpy as np

from alm.audio.source import Samples
from alm.listening.events import Event
from alm.listening.sources import RecordingSource
from alm.models.mellow import Mellow
from alm_bench.results.records import Streaming

PROMPT = "caption the audio."
LEAD_S, SOUND_S, PAUSE_S = 6.0, 2.0, 4.0
"""Background before the first sound, length of a sound, and background after each."""
NOISE, LEVEL = 1e-3, 0.1
"""RMS of background and sounds, -60 and -20 dBFS."""
TOKENS = 16
"""Most tokens of what is said about a sound."""
NEW = 0.8
"""Share of a window that is new when sound goes on: neighbours overlap by a fifth."""


def streaming(model: Mellow, sounds: int, threads: int) -> Streaming:
    """Watch sounds in real time; takes LEAD_S and then SOUND_S + PAUSE_S a sound. `threads` is for the record."""
    rate = model.info.frontend.sample_rate
    source = RecordingSource((scene(sounds, rate), rate), paced=1.0)
    arrived: list[tuple[float, Event]] = []
    used, started = -time.process_time(), time.monotonic()
    # A captioner takes no question.
    with model.watch(source, PROMPT if model.info.prompt else None, max_tokens=TOKENS) as stream:
        arrived.extend((time.monotonic() - started, event) for event in stream)
    took = time.monotonic() - started
    used += time.process_time()
    delays, first_tokens = [], []
    for number in range(sounds):
        end = LEAD_S + number * (SOUND_S + PAUSE_S) + SOUND_S
        # The first event whose span has the end of the sound in it: windows overlap.
        for at, event in arrived:
            if event.start < end <= event.end + 0.1:
                delays.append(at - end)
                first_tokens.append(at - event.timing.decode - end)
                break
    timings = [event.timing for _, event in arrived]
    work = statistics.median(timing.encode + timing.prefill + timing.decode for timing in timings) if timings else 0.0
    share = work / (model.info.frontend.samples / rate) / NEW
    return Streaming(threads, sounds, tuple(first_tokens), tuple(delays), share, used / took)


def scene(sounds: int, rate: int) -> Samples:
    """Noise, in which bands of noise of different height come and go."""
    random = np.random.default_rng(0)
    length = round((LEAD_S + sounds * (SOUND_S + PAUSE_S)) * rate)
    scene = NOISE * random.standard_normal(length)
    for number in range(sounds):
        start, size = round((LEAD_S + number * (SOUND_S + PAUSE_S)) * rate), round(SOUND_S * rate)
        spectrum = np.fft.rfft(random.standard_normal(size))
        hertz = np.fft.rfftfreq(size, 1 / rate)
        spectrum[(hertz < 400 * (number + 1)) | (hertz > 400 * (number + 3))] = 0
        band = np.fft.irfft(spectrum, size)
        scene[start : start + size] += LEVEL * band / np.sqrt(np.mean(np.square(band)))
    return scene.astype(np.float32)
