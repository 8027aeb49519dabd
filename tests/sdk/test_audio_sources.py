"""Every kind of recording a user may hand over, and every kind that is none."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alm.audio import read_audio, stream_windows
from alm.errors import AudioError

RATE = 44100


def tone(seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    columns = [0.5 * np.sin(2 * np.pi * (440 + 100 * channel) * time) for channel in range(channels)]
    return np.stack(columns, axis=1)


def encoded(samples: np.ndarray, rate: int = RATE, **kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **({"format": "WAV"} | kind))
    return file.getvalue()


WAV = encoded(tone())


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ({"format": "WAV", "subtype": "PCM_U8"}, 1e-2),
        ({"format": "WAV", "subtype": "PCM_16"}, 1e-4),
        ({"format": "WAV", "subtype": "PCM_24"}, 1e-6),
        ({"format": "WAV", "subtype": "PCM_32"}, 1e-6),
        ({"format": "WAV", "subtype": "FLOAT"}, 1e-6),
        ({"format": "WAV", "subtype": "DOUBLE"}, 1e-6),
        ({"format": "WAV", "subtype": "ULAW"}, 3e-2),
        ({"format": "RF64", "subtype": "PCM_16"}, 1e-4),
        ({"format": "AIFF", "subtype": "PCM_24"}, 1e-6),
        ({"format": "CAF", "subtype": "PCM_16"}, 1e-4),
        ({"format": "FLAC", "subtype": "PCM_16"}, 1e-4),
        ({"format": "FLAC", "subtype": "PCM_24"}, 1e-6),
        ({"format": "OGG", "subtype": "VORBIS"}, 5e-2),
        ({"format": "MP3", "subtype": "MPEG_LAYER_III"}, 5e-2),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats(kind: dict[str, str], tolerance: float, channels: int, tmp_path: Path) -> None:
    samples = tone(3, channels=channels)  # more than one block of the decoder
    path = tmp_path / "recording"
    path.write_bytes(encoded(samples, **kind))
    waveform = read_audio(path)
    assert waveform.sample_rate == RATE
    assert waveform.samples.dtype == np.float32
    np.testing.assert_allclose(waveform.samples, samples.mean(axis=1), atol=tolerance)


def test_opus() -> None:
    samples = tone(3, 48000)
    waveform = read_audio(encoded(samples, 48000, format="OGG", subtype="OPUS"))
    np.testing.assert_allclose(waveform.samples[:-500], samples[:-500, 0], atol=5e-2)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 16000, 96000, 192000, 1_000_000])
def test_rates(rate: int) -> None:
    waveform = read_audio(encoded(tone(0.1, rate), rate))
    assert (waveform.sample_rate, len(waveform.samples)) == (rate, rate // 10)


def test_eight_channels_are_averaged() -> None:
    samples = tone(channels=8)
    np.testing.assert_allclose(read_audio(encoded(samples)).samples, samples.mean(axis=1), atol=1e-4)


def test_one_sample() -> None:
    assert read_audio(encoded(np.array([0.25]), 32000), 32000).samples.tolist() == [0.25]
    assert len(read_audio(encoded(np.array([0.25]), 8000), 32000).samples) == 4
    with pytest.raises(AudioError, match="shorter than one sample at 32000 Hz"):
        read_audio(encoded(np.array([0.25]), 192000), 32000)


def test_ways_to_hand_over_the_same_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    expected = read_audio(path).samples
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", WAV)
    reader, writer = os.pipe()
    with path.open("rb") as file, zipfile.ZipFile(tmp_path / "z.zip").open("a.wav") as member:
        file.seek(100)
        os.write(writer, WAV)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            for source in (str(path), WAV, bytearray(WAV), memoryview(WAV), io.BytesIO(WAV), file, member, pipe):
                np.testing.assert_array_equal(read_audio(source).samples, expected)
        assert not file.closed


def test_extensions_say_nothing(tmp_path: Path) -> None:
    for name in ("a.raw", "a.mp3", "a", "a.txt"):
        (tmp_path / name).write_bytes(WAV)
        assert len(read_audio(tmp_path / name).samples) == RATE // 2
        with (tmp_path / name).open("rb") as file:
            assert len(read_audio(file).samples) == RATE // 2


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.wav"))
    path.write_bytes(WAV)
    assert len(read_audio(path).samples) == RATE // 2
    path.write_bytes(b"not audio")
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (np.int16, -32768, -1.0),
        (np.int16, 16384, 0.5),
        (np.int32, 2**30, 0.5),
        (np.uint8, 128, 0.0),
        (np.uint8, 0, -1.0),
        (np.int8, 64, 0.5),
        (np.float16, 0.5, 0.5),
        (np.float64, -1.5, -1.5),
        (np.dtype(">i2"), 16384, 0.5),
    ],
)
def test_arrays(dtype: Any, value: float, expected: float) -> None:
    waveform = read_audio((np.full((100, 2), value, dtype), 16000))
    np.testing.assert_array_equal(waveform.samples, np.full(100, expected, np.float32))
    assert waveform.sample_rate == 16000


def test_array_and_file_agree() -> None:
    samples = (tone(3, channels=2) * 32767).astype(np.int16)
    np.testing.assert_array_equal(read_audio((samples, RATE)).samples, read_audio(encoded(samples)).samples)


def test_the_array_is_not_changed_or_kept() -> None:
    samples = tone()[:, 0].astype(np.float32)
    before = samples.copy()
    waveform = read_audio((samples, RATE), 32000)
    same_rate = read_audio((samples, RATE))
    np.testing.assert_array_equal(samples, before)
    assert not np.shares_memory(samples, waveform.samples)
    assert not np.shares_memory(samples, same_rate.samples)


@pytest.mark.parametrize("rate", [0, -1, -32000, 999, 10_000_000, 2**70, True])
def test_absurd_rates(rate: int) -> None:
    with pytest.raises(AudioError, match=r"sample rate of .* Hz, expected 1000 to 1000000"):
        read_audio((np.zeros(100), rate))
    with pytest.raises(AudioError, match="sample_rate: found a sample rate"):
        read_audio(WAV, rate)
    with pytest.raises(AudioError, match="sample_rate: found a sample rate"):
        list(stream_windows(WAV, rate, 100))


@pytest.mark.parametrize("rate", ["44100", None, 44100.5, float("nan"), float("inf"), [44100]])
def test_rates_that_are_no_number(rate: Any) -> None:
    with pytest.raises(AudioError, match="expected a whole number of Hz"):
        read_audio((np.zeros(100), rate))


@pytest.mark.parametrize("rate", [44100.0, np.int64(44100), np.float64(44100)])
def test_rates_of_other_types(rate: Any) -> None:
    assert read_audio((np.zeros(100), rate)).sample_rate == 44100


@pytest.mark.parametrize("rate", [1, 999, 10_000_000, 2**31 - 1])
def test_absurd_rate_in_a_file(rate: int) -> None:
    data = bytearray(WAV)
    data[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(AudioError, match=f"sample rate of {rate} Hz"):
        read_audio(bytes(data))


@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (np.zeros(0), "holds no samples"),
        (np.zeros((0, 2)), "holds no samples"),
        (np.zeros((2, 44100)), r"shape \(2, 44100\) has 44100 channels.*\(n, channels\)"),
        (np.zeros((10, 0)), "0 channels"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\), expected \(n,\)"),
        (np.float32(1), r"shape \(\), expected"),
        (np.zeros(10, complex), "type complex128, expected floats"),
        (np.zeros(10, bool), "type bool"),
        (np.zeros(10, np.int64), "type int64"),
        (np.array(["a"]), "type <U1"),
        (np.array([None]), "type object"),
        ([[1.0, 2.0], [3.0]], "ragged"),
        ("clip.wav", "expected"),
        (np.array([0, np.nan]), "NaN or infinite"),
        (np.array([0, np.inf]), "NaN or infinite"),
        (np.array([0, -np.inf]), "NaN or infinite"),
        (np.array([0, 1e300]), "a sample of 1e[+]300, full scale is 1"),
        (np.array([0, -20000.0]), "a sample of 20000, full scale is 1.*32768"),
    ],
)
def test_arrays_that_are_no_recording(samples: Any, match: str) -> None:
    with pytest.raises(AudioError, match=match):
        read_audio((samples, 32000))


@pytest.mark.parametrize("position", [0, 70_000, -1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_sample_anywhere_in_a_file(position: int, value: float) -> None:
    samples = tone(3)
    samples[position] = value
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_audio(encoded(samples, subtype="FLOAT"))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"text " * 1000, b"\0" * 5000, b"\x80\x04K\x01.", b"PK\3\4" * 100])
def test_not_audio(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(AudioError, match=r"cannot be decoded|holds no samples"):
            read_audio(source)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "AIFF"])
def test_file_without_samples(kind: str) -> None:
    with pytest.raises(AudioError, match=r"holds no samples|cannot be decoded"):
        read_audio(encoded(np.zeros((0, 1)), format=kind))


def test_too_many_channels() -> None:
    with pytest.raises(AudioError, match="65 channels, expected 1 to 64"):
        read_audio(encoded(np.zeros((10, 65))))


def test_paths_that_are_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(AudioError, match="not a regular file"):
        read_audio(tmp_path)
    with pytest.raises(AudioError, match="not a regular file"):
        read_audio(tmp_path / "fifo")
    with pytest.raises(AudioError, match=r"missing\.wav cannot be opened: No such file"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="cannot be opened"):
        read_audio("nul\0.wav")
    with pytest.raises(AudioError, match="not a regular file"):
        read_audio("")


@pytest.mark.parametrize("source", [None, 5, np.zeros(100), [1, 2], (1, 2, 3), {}])
def test_values_that_are_no_source(source: Any) -> None:
    with pytest.raises(AudioError, match="expected"):
        read_audio(source)


class Breaking(io.BytesIO):
    """A file object that fails after some reads."""

    def __init__(self, data: bytes, error: BaseException, after: int) -> None:
        super().__init__(data)
        self.error, self.left = error, after

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("after", [0, 1, 2, 6, 10])
def test_file_objects_that_fail(after: int, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(tone(10))
    with pytest.raises(AudioError, match=r"cannot be read: gone|failed while being read: gone"):
        read_audio(Breaking(data, OSError("gone"), after))
    with pytest.raises(KeyboardInterrupt):
        read_audio(Breaking(data, KeyboardInterrupt(), after))
    assert capfd.readouterr().err == ""


def test_file_objects_without_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    closed = io.BytesIO(WAV)
    closed.close()
    with (tmp_path / "x").open() as text, pytest.raises(AudioError, match="expected bytes; open the file in mode 'rb'"):
        read_audio(text)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"cannot be read: .*closed"):
        read_audio(closed)


def test_no_descriptor_is_leaked(tmp_path: Path) -> None:
    (tmp_path / "good.wav").write_bytes(WAV)
    (tmp_path / "bad.wav").write_bytes(b"bad")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        read_audio(tmp_path / "good.wav")
        next(stream_windows(tmp_path / "good.wav", 32000, 100)).samples.sum()
        with pytest.raises(AudioError):
            read_audio(tmp_path / "bad.wav")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


SEEDS = [
    encoded(tone(0.02, channels=2)),
    encoded(tone(0.02), format="WAV", subtype="FLOAT"),
    encoded(tone(0.02), format="FLAC"),
    encoded(tone(0.02), format="AIFF"),
    encoded(tone(0.02), format="OGG"),
]


@settings(max_examples=400)
@given(st.data())
def test_fuzz_files(data: st.DataObject) -> None:
    """Damaged files decode to something finite or raise AudioError, never anything else."""
    mutated = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, 100) | st.integers(0, max(len(mutated) - 1, 0)))
        if data.draw(st.booleans()):
            mutated[position : position + 4] = data.draw(st.binary(min_size=1, max_size=4))
        else:
            del mutated[position : position + data.draw(st.integers(1, 500))]
    _finite_or_refused(bytes(mutated))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_fuzz_bytes(data: bytes) -> None:
    _finite_or_refused(data)


@settings(max_examples=200)
@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.floating_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=70)
    ),
    st.integers(-10, 2_000_000) | st.floats() | st.none(),
)
def test_fuzz_arrays(samples: np.ndarray, rate: Any) -> None:
    _finite_or_refused((samples, rate))


def _finite_or_refused(source: Any) -> None:
    try:
        waveform = read_audio(source, 32000, max_seconds=60)
    except AudioError as error:
        assert len(str(error)) > 20
    else:
        assert len(waveform.samples) and np.isfinite(waveform.samples).all()
