"""Resampling, windows, hours of sound in little memory, and the authors' loader."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from alm.audio import Waveform, compat_window, read_audio, resample, stream_windows, windows
from alm.errors import AudioError


def sine(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def ramp(length: int) -> Waveform:
    return Waveform(np.linspace(-1, 1, length, dtype=np.float32), 100)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000, 192000])
def test_resampling_keeps_a_tone_and_its_time(rate: int) -> None:
    waveform = resample(Waveform(sine(1000, 2, rate), rate), 32000)
    middle = slice(8000, 56000)
    assert waveform.sample_rate == 32000
    np.testing.assert_allclose(waveform.samples[middle], sine(1000, 2, 32000)[middle], atol=1e-4)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    waveform = resample(Waveform(sine(20000, 1, 48000), 48000), 32000)
    assert np.abs(waveform.samples[1000:-1000]).max() < 1e-4


def test_decoding_in_blocks_equals_resampling_at_once() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (200_000, 2)).astype(np.float32)
    streamed = read_audio((samples, 44100), 32000)
    whole = resample(read_audio((samples, 44100)), 32000)
    np.testing.assert_array_equal(streamed.samples, whole.samples)
    assert resample(whole, 32000) is whole


def test_a_waveform_too_short_to_resample() -> None:
    with pytest.raises(AudioError, match="shorter than one sample"):
        resample(Waveform(np.zeros(1, np.float32), 192000), 1000)


def test_short_recordings_are_tiled_from_their_start() -> None:
    (window,) = windows(ramp(40), 100)
    np.testing.assert_array_equal(window.samples, np.tile(ramp(40).samples, 3)[:100])
    assert (window.start_s, window.end_s) == (0.0, 0.4)


def test_exact_recording_is_one_view() -> None:
    waveform = ramp(100)
    (window,) = windows(waveform, 100)
    np.testing.assert_array_equal(window.samples, waveform.samples)
    assert np.shares_memory(window.samples, waveform.samples)
    assert (window.start_s, window.end_s) == (0.0, 1.0)


def test_nothing_of_a_long_recording_is_lost() -> None:
    waveform = ramp(250)
    found = windows(waveform, 100)
    assert [(w.start_s, w.end_s) for w in found] == [(0.0, 1.0), (1.0, 2.0), (1.5, 2.5)]
    for window in found:
        start = round(window.start_s * 100)
        np.testing.assert_array_equal(window.samples, waveform.samples[start : start + 100])


def test_first_window_only() -> None:
    (window,) = windows(ramp(250), 100, policy="first")
    np.testing.assert_array_equal(window.samples, ramp(250).samples[:100])
    unknown: Any = "last"
    with pytest.raises(AudioError, match="found the window policy 'last', expected 'all' or 'first'"):
        windows(ramp(250), 100, policy=unknown)


@settings(max_examples=60)
@given(
    st.integers(1, 300_000),
    st.sampled_from([8000, 32000, 44100]),
    st.sampled_from([100, 32000, 70_000, 320_000]),
    st.sampled_from(["all", "first"]),
)
def test_streamed_windows_equal_windows(frames: int, rate: int, length: int, policy: Any) -> None:
    source = (np.random.default_rng(frames).uniform(-1, 1, frames).astype(np.float32), rate)
    if length == 100 and policy == "all":
        length = max(length, frames // 50)
    try:
        expected = windows(read_audio(source, 32000), length, policy)
    except AudioError:
        with pytest.raises(AudioError, match="shorter than one sample"):
            list(stream_windows(source, 32000, length, policy))
        return
    streamed = list(stream_windows(source, 32000, length, policy))
    assert [(w.start_s, w.end_s) for w in streamed] == [(w.start_s, w.end_s) for w in expected]
    for one, other in zip(streamed, expected, strict=True):
        assert one.samples.shape == (length,)
        np.testing.assert_array_equal(one.samples, other.samples)


def silent_wav(path: Path, seconds: int, rate: int = 8000) -> Path:
    """A recording of hours that takes no space on the disk: 16 bit mono, all zeros, a sparse file."""
    size = seconds * rate * 2
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size
    )
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + size)
    return path


def test_three_hours_in_the_memory_of_a_window(tmp_path: Path) -> None:
    path = silent_wav(tmp_path / "long.wav", 3 * 3600)
    grown, windows_found = _measured(f"count = sum(1 for _ in stream_windows({str(path)!r}, 32000, 320000))")
    assert windows_found == 1080
    assert grown < 30e6


def test_reading_an_hour_takes_little_more_than_its_samples(tmp_path: Path) -> None:
    path = silent_wav(tmp_path / "hour.wav", 3600)
    grown, count = _measured(f"count = len(read_audio({str(path)!r}, 32000).samples)")
    assert count == 3600 * 32000
    assert grown < 1.15 * 4 * count


def _measured(statement: str) -> tuple[int, int]:
    """Run a statement that sets `count` in a fresh process: bytes of peak growth, and the count."""
    script = f"""
        import resource
        import numpy as np
        from alm.audio import read_audio, stream_windows
        read_audio((np.zeros(100_000, np.float32), 44100), 32000)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        before = peak()
        {statement}
        print(peak() - before, count)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    grown, count = map(int, done.stdout.split())
    return grown, count


def test_too_long_says_how_to_allow_more(tmp_path: Path) -> None:
    path = silent_wav(tmp_path / "x.wav", 5 * 3600, 1000)
    with pytest.raises(AudioError, match="lasts 18000 s, the limit is 14400 s; raise max_seconds"):
        read_audio(path)
    with pytest.raises(AudioError, match="the limit is 14400 s"):
        next(stream_windows(path, 32000, 320000))
    assert len(read_audio(path, max_seconds=20_000).samples) == 18_000_000
    assert sum(1 for _ in stream_windows(path, 32000, 320000, "first")) == 1
    with pytest.raises(AudioError, match="the array lasts 2 s, the limit is 1 s"):
        read_audio((np.zeros(64000), 32000), max_seconds=1)


def test_too_long_without_announcing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose length libsndfile does not know (it then says 2**63 - 1) is counted while decoded."""
    file = io.BytesIO()
    soundfile.write(file, np.linspace(-1, 1, 400_000), 8000, format="WAV")
    expected = read_audio(file).samples
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda _: 2**63 - 1))
    np.testing.assert_array_equal(read_audio(file).samples, expected)
    with pytest.raises(AudioError, match="the limit is 40 s"):
        read_audio(file, max_seconds=40)


# What torchaudio 2.11 gives at 32 kHz for 1000 samples of a tone of 440 Hz and one near the lower Nyquist
# rate, where a small error of the filter's phases shows: output length; samples 0, 1, 50, n/2, n−2, n−1;
# sum of the absolute values.
TORCHAUDIO: dict[int, tuple[int, list[float], float]] = {
    8000: (4000, [0.2054387, 0.0588107, -0.4140433, 0.2058495, -0.1057225, -0.0420663], 1400.5935),
    22050: (1452, [0.2051584, -0.2489662, -0.5997723, -0.025646, -0.2562563, -0.0340688], 506.5769),
    44100: (726, [0.0454472, -0.1435836, -0.6255305, -0.3293949, 0.1014039, -0.2110524], 253.0635),
    48000: (667, [0.0296015, -0.1398148, -0.6255258, 0.0643576, 0.2081183, 0.4086508], 231.2654),
    192000: (167, [-0.0613834, -0.1290182, -0.6255252, 0.085981, 0.274557, 0.5923213], 58.563),
}


@pytest.mark.parametrize("rate", TORCHAUDIO)
def test_compat_resamples_as_torchaudio(rate: int) -> None:
    length, picked, total = TORCHAUDIO[rate]
    time = np.arange(1000) / rate
    samples = 0.5 * np.sin(2 * np.pi * 440 * time) + 0.4 * np.cos(0.9 * np.pi * min(rate, 32000) * time + 1)
    window = compat_window((samples.astype(np.float32), rate), 32000, length)
    assert window.end_s == length / 32000
    found = window.samples
    np.testing.assert_allclose(found[[0, 1, 50, length // 2, -2, -1]], picked, atol=1e-6)
    assert np.abs(found).astype(np.float64).sum() == pytest.approx(total, abs=2e-3)
    # One sample less and the output would be longer than the row: it is tiled, not cut.
    np.testing.assert_array_equal(
        compat_window((samples.astype(np.float32), rate), 32000, length + 3).samples[-3:], found[:3]
    )


def test_compat_puts_channels_behind_one_another() -> None:
    left, right = np.full(150_000, 0.25, np.float32), np.full(150_000, -0.5, np.float32)
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, right], axis=1), 32000, format="WAV", subtype="FLOAT")
    window = compat_window(file, 32000, 320_000)
    np.testing.assert_array_equal(window.samples, np.concatenate([left, right, left[:20_000]]))


def test_compat_crops_where_the_seed_says() -> None:
    samples = np.linspace(-1, 1, 1000, dtype=np.float32)
    first = compat_window((samples, 32000), 32000, 400)
    np.testing.assert_array_equal(first.samples, samples[:400])
    starts = set()
    for seed in range(20):
        window = compat_window((samples, 32000), 32000, 400, seed=seed)
        start = round(window.start_s * 32000)
        np.testing.assert_array_equal(window.samples, samples[start : start + 400])
        np.testing.assert_array_equal(compat_window((samples, 32000), 32000, 400, seed=seed).samples, window.samples)
        starts.add(start)
    assert len(starts) > 10 and max(starts) < 600


def test_compat_refuses_rates_without_a_common_divisor() -> None:
    with pytest.raises(AudioError, match="cannot go from 44101 to 32000 Hz"):
        compat_window((np.zeros(1000, np.float32), 44101), 32000, 320_000)
    with pytest.raises(AudioError, match="holds no samples"):
        compat_window((np.zeros(0, np.float32), 32000), 32000, 320_000)
