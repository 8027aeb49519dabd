"""Log-mel frames in numpy: as the graph has them, and the same however the sound is split."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from golden.synthetic import draw
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_manifest, write_tiny
from tiny_mellow import altered_tensors, write_altered

import alm
from alm.audio import Waveform, read_audio, resample
from alm.audio.log_mel import LogMel, LogMelStream, mel_filter_bank, package_bank
from alm.audio.resampling import StreamResampler
from alm.errors import AudioError, PackageError
from alm.package import Frontend, Package

FRONTEND = tiny_manifest().frontend
LOG_MEL = LogMel(FRONTEND)
HALF, HOP, RATE = FRONTEND.n_fft // 2, FRONTEND.hop, FRONTEND.sample_rate


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that fades to nothing and comes back, with a tone: bands from loud to the floor."""
    time = np.arange(samples) / RATE
    swing = np.exp(-6 * (1 + np.sin(3 * time + seed)))
    tone = np.sin(2 * np.pi * 440 * time)
    return (swing * (0.1 * np.random.default_rng(seed).standard_normal(samples) + 0.2 * tone)).astype(np.float32)


def pieces(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """`samples` cut into `sizes`, over and over."""
    edges, turn = [0], 0
    while edges[-1] < len(samples):
        edges.append(edges[-1] + sizes[turn % len(sizes)])
        turn += 1
    return [samples[a:b] for a, b in pairwise(edges)]


def streamed(samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    stream = LogMelStream(LOG_MEL)
    return np.concatenate([*(stream.push(piece) for piece in pieces(samples, sizes)), stream.finish()])


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected)[expected > -80].max(initial=0) <= 1e-4


def definition(samples: np.ndarray) -> np.ndarray:
    """The frames from the formula, in float64."""
    padded = np.pad(samples.astype(np.float64), HALF, mode="reflect")
    window = np.hanning(FRONTEND.n_fft + 1)[:-1]
    frames = np.stack([padded[at : at + 2 * HALF] * window for at in range(0, len(samples) + 1, HOP)])
    power = np.abs(np.fft.rfft(frames)) ** 2 @ mel_filter_bank(FRONTEND).astype(np.float64)
    return 10 * np.log10(np.maximum(power, 1e-10))


def test_the_whole_sound_follows_the_definition() -> None:
    samples = sound(RATE)
    expected = definition(samples)
    found = LOG_MEL(samples)
    assert found.dtype == np.float32
    assert found.shape == (RATE // HOP + 1, FRONTEND.mels)
    # float32 transforms err by the loudest bin of a frame: a part in ten million, 70 dB further down a thousandth.
    assert np.abs(found - expected)[expected > -60].max() < 1e-3


def test_frames_are_those_of_the_graph(tiny_package: Path, one_thread: None) -> None:
    with alm.load(tiny_package) as model:
        frontend = model.info.frontend
        samples = draw("waveform", (frontend.samples,), 0).clip(-1, 1)
        samples[: len(samples) // 3] *= 1e-3
        expected = model.encode(samples, ("log_mel",))["log_mel"]
        found = LogMel(frontend, package_bank(model.package))(samples)
    assert found.shape == expected.shape
    # Both round in float32, in another order, by a part of a frame's loudest bin. Between the reference package and
    # this on the 24 bundled recordings: 5e-4 dB in bands within 60 dB of the loudest, 8e-3 dB above -80 dB.
    assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize("sizes", [[1], [2, 3, 5, 7, 11, 13], [319], [320], [1021], [3200], [RATE], [HALF], [HALF + 1]])
def test_blocks_of_any_size_give_the_frames_of_the_whole(sizes: list[int]) -> None:
    samples = sound(RATE // 4 if sizes == [1] else 2 * RATE + 123)
    assert_same(streamed(samples, sizes), LOG_MEL(samples))


@given(
    length=st.integers(0, 6000),
    sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=8).filter(any),
    seed=st.integers(0, 99),
)
def test_any_split_gives_the_frames_of_the_whole(length: int, sizes: list[int], seed: int) -> None:
    samples = sound(length, seed)
    assert_same(streamed(samples, sizes), LOG_MEL(samples))


def test_a_block_longer_than_the_buffer() -> None:
    samples = sound(5 * RATE)
    assert_same(streamed(samples, [len(samples)]), LOG_MEL(samples))


def test_a_frame_comes_once_its_last_sample_is_there() -> None:
    samples = sound(RATE)
    stream = LogMelStream(LOG_MEL)
    assert len(stream.push(samples[:HALF])) == 0  # the reflection needs one more
    assert len(stream.push(samples[HALF : HALF + 1])) == 1
    assert len(stream.push(samples[HALF + 1 : HALF + HOP - 1])) == 0
    assert len(stream.push(samples[HALF + HOP - 1 : HALF + HOP])) == 1


@pytest.mark.parametrize("length", [1, 2, 3, HALF - 1, HALF, HALF + 1, 2 * HALF, 2 * HALF + 1])
def test_sounds_about_as_short_as_half_a_transform(length: int) -> None:
    samples = sound(length)
    found = LOG_MEL(samples)
    assert found.shape == (length // HOP + 1, FRONTEND.mels)
    assert np.isfinite(found).all()
    assert_same(streamed(samples, [1]), found)


def test_no_samples_no_frames() -> None:
    assert LOG_MEL(np.empty(0, np.float32)).shape == (0, FRONTEND.mels)
    assert LogMelStream(LOG_MEL).finish().shape == (0, FRONTEND.mels)


def test_silence_is_at_the_floor() -> None:
    np.testing.assert_allclose(LOG_MEL(np.zeros(RATE, np.float32)), -100, rtol=1e-6)


def test_a_finished_stream_takes_nothing_more() -> None:
    stream = LogMelStream(LOG_MEL)
    stream.push(sound(100))
    stream.finish()
    with pytest.raises(AudioError, match="start another"):
        stream.push(sound(100))
    with pytest.raises(AudioError, match="finished already"):
        stream.finish()


@pytest.mark.parametrize("wrong", [np.zeros((2, 5), np.float32), np.zeros(5, np.int16)])
def test_samples_of_another_kind_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(AudioError, match="expected one row of floats"):
        LOG_MEL(wrong)
    with pytest.raises(AudioError, match="expected one row of floats"):
        LogMelStream(LOG_MEL).push(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"n_fft": 1023}, "n_fft"), ({"fmin": 15000.0}, "fmin below fmax"), ({"fmax": 20000.0}, "half the rate")],
)
def test_sizes_that_make_no_spectrogram_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(PackageError, match=message):
        LogMel(dataclasses.replace(FRONTEND, **changes))


def test_a_hop_longer_than_the_transform() -> None:
    sparse = LogMel(Frontend(sample_rate=8000, samples=8000, n_fft=64, hop=100, mels=8, fmin=50.0, fmax=4000.0))
    samples, stream = sound(1000), LogMelStream(sparse)
    found = np.concatenate([*(stream.push(piece) for piece in pieces(samples, [7])), stream.finish()])
    assert_same(found, sparse(samples))


def test_the_bank_is_the_package_s_own(tiny_package: Path, tmp_path: Path) -> None:
    with Package.open(tiny_package) as package:
        # Weights are stored in half precision, and the bank with them.
        np.testing.assert_allclose(
            package_bank(package), mel_filter_bank(package.manifest.frontend), rtol=2e-3, atol=1e-7
        )
        entry = package.manifest.components["audio_encoder"].weights[0]
        louder = altered_tensors(package.read(entry), "mel_filter_bank", 2.0)
        expected = 2 * package_bank(package)
    with Package.open(write_altered(tiny_package, tmp_path / "louder.alm", {entry: louder})) as package:
        np.testing.assert_array_equal(package_bank(package), expected)


def test_a_package_without_a_bank_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "random.alm")
    with (
        Package.open(tmp_path / "random.alm") as package,
        pytest.raises(PackageError, match="export the package again"),
    ):
        package_bank(package)


def test_a_bank_of_another_shape_is_refused() -> None:
    with pytest.raises(PackageError, match=r"shape \(3, 64\)"):
        LogMel(FRONTEND, np.ones((3, 64), np.float32))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("sizes", [[1, 2, 3], [441], [997], [4800]])
def test_a_stream_is_resampled_as_the_whole(rate: int, sizes: list[int]) -> None:
    samples = sound(rate // 5)
    resampler = StreamResampler(rate, RATE)
    found = np.concatenate([*(resampler.push(piece) for piece in pieces(samples, sizes)), resampler.finish()])
    expected = resample(Waveform(samples, rate), RATE).samples
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_resampler_ends_once() -> None:
    for rate in (RATE, 44100):
        resampler = StreamResampler(rate, RATE)
        resampler.finish()
        with pytest.raises(AudioError, match="start another"):
            resampler.push(sound(10))


def test_a_rate_out_of_range_is_refused() -> None:
    with pytest.raises(AudioError, match="100 Hz"):
        StreamResampler(100, RATE)


def test_a_recording_and_its_stream_give_the_same_samples(tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "a.wav"
    soundfile.write(path, sound(3 * 44100), 44100, subtype="FLOAT")
    resampler = StreamResampler(44100, RATE)
    streamed_samples = np.concatenate([resampler.push(sound(3 * 44100)), resampler.finish()])
    np.testing.assert_allclose(read_audio(path, RATE).samples, streamed_samples, atol=1e-6)
