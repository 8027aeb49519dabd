"""Samples to log-mel frames in numpy: the frames that the encoder's graph computes, also block by block.

For code that watches a sound without running the encoder. The engine hears the waveform and not these frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alm.audio.mel_bank import mel_bank
from alm.audio.source import Samples
from alm.errors import AudioError, PackageError
from alm.package import Frontend, Package

Frames = NDArray[np.float32]

FLOOR_POWER = np.float32(1e-10)
"""Least power of a band, as in the graph: -100 dB."""
BATCH = 256
"""Most frames transformed at a time: about 3 MB of work space at 1024 points, whatever the length of the sound."""
BANK = "mel_filter_bank"
"""Tensor of the audio encoder that holds its filter bank."""


class LogMel:
    """Log-mel of a whole sound. Safe to use from several threads."""

    def __init__(self, frontend: Frontend, bank: NDArray[np.float32] | None = None) -> None:
        """Prepare for the sizes in a manifest; `bank` (n_fft // 2 + 1, mels) replaces Slaney's triangles.

        Raises PackageError for sizes that make no spectrogram.
        """
        _check_frontend(frontend)
        bank = mel_filter_bank(frontend) if bank is None else bank
        if bank.shape != (frontend.n_fft // 2 + 1, frontend.mels):
            raise PackageError(
                f"the mel filter bank has the shape {bank.shape}, expected {(frontend.n_fft // 2 + 1, frontend.mels)}"
            )
        self.frontend = frontend
        """The sizes it was made for."""
        turns = np.arange(frontend.n_fft) / frontend.n_fft
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)
        # Bands end below the Nyquist frequency; the bins above the last band cost a product and no more.
        self._bins = 1 + int(np.flatnonzero(bank.any(1)).max(initial=0))
        self._bank = np.ascontiguousarray(bank[: self._bins], np.float32)

    def __call__(self, samples: Samples) -> Frames:
        """Samples (n,) at the frontend's rate, full scale ±1, to frames (n // hop + 1, mels) in dB, floored at -100.

        Frame i is centred on sample i · hop; both ends of the sound are reflected. A sound shorter than half a
        transform is reflected back and forth, which the graph, made for whole clips, does not do. No samples,
        no frames. Raises AudioError unless `samples` is one row of floats.
        """
        _check_row(samples)
        if not len(samples):
            return np.empty((0, self.frontend.mels), np.float32)
        half = self.frontend.n_fft // 2
        return self.transform(np.pad(samples, half, mode="reflect"))

    def transform(self, padded: Samples) -> Frames:
        """Frames of every whole transform in `padded` (n,), one each hop from its first sample."""
        n_fft, hop = self.frontend.n_fft, self.frontend.hop
        if len(padded) < n_fft:
            return np.empty((0, self.frontend.mels), np.float32)
        views = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
        out = np.empty((len(views), self.frontend.mels), np.float32)
        for start in range(0, len(views), BATCH):
            spectrum = np.fft.rfft(views[start : start + BATCH] * self._window)[:, : self._bins]
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            np.matmul(power, self._bank, out=out[start : start + BATCH])
        np.maximum(out, FLOOR_POWER, out=out)
        np.log10(out, out=out)
        np.multiply(out, np.float32(10), out=out)
        return out


class LogMelStream:
    """The frames of `LogMel`, as the samples come in. One thread uses a stream at a time.

    A frame is given out once the last sample it covers is there, half a transform after its centre.
    """

    def __init__(self, log_mel: LogMel) -> None:
        """Start a sound; several streams may share one `log_mel`."""
        frontend = log_mel.frontend
        self._log_mel = log_mel
        self._half = frontend.n_fft // 2
        self._buffer = np.empty(2 * frontend.n_fft + BATCH * frontend.hop, np.float32)
        self._held = 0
        self._next = 0  # where in the buffer the next frame starts
        self._started = False
        self._finished = False

    def push(self, samples: Samples) -> Frames:
        """Take the next samples (n,), any n, and return the frames (k, mels) that are now certain.

        Raises AudioError after `finish`, or unless `samples` is one row of floats.
        """
        _check_row(samples)
        if self._finished:
            raise AudioError("this log-mel stream is finished; start another one for more sound")
        found, at = [], 0
        while at < len(samples):
            # Until the start is reflected, room for the reflection must stay.
            room = len(self._buffer) - self._held - (0 if self._started else self._half)
            part = samples[at : at + room]
            self._buffer[self._held : self._held + len(part)] = part
            self._held += len(part)
            at += len(part)
            found.append(self._certain())
        return found[0] if len(found) == 1 else self._joined(found)

    def finish(self) -> Frames:
        """The frames (k, mels) that reach past the end; with those before there are samples // hop + 1 of them.

        A sound without samples has no frames. Raises AudioError when called again.
        """
        if self._finished:
            raise AudioError("this log-mel stream is finished already")
        self._finished = True
        sound = self._buffer[: self._held]
        if not self._started:
            return self._log_mel(sound)
        ending = np.pad(sound, (0, self._half), mode="reflect")
        return self._log_mel.transform(ending[self._next :])

    def _certain(self) -> Frames:
        if not self._started:
            if self._held <= self._half:
                return self._joined([])
            self._started = True
            sound = self._buffer[: self._held]
            self._held += self._half
            self._buffer[: self._held] = np.pad(sound, (self._half, 0), mode="reflect")
        frames = self._log_mel.transform(self._buffer[self._next : self._held])
        self._next += len(frames) * self._log_mel.frontend.hop
        # The end of the sound, which nobody knows yet, is reflected from its last samples.
        gone = max(0, min(self._next, self._held - self._half - 1))
        self._buffer[: self._held - gone] = self._buffer[gone : self._held].copy()
        self._held -= gone
        self._next -= gone
        return frames

    def _joined(self, found: list[Frames]) -> Frames:
        return np.concatenate([np.empty((0, self._log_mel.frontend.mels), np.float32), *found])


def mel_filter_bank(frontend: Frontend) -> NDArray[np.float32]:
    """`mel_bank` (n_fft // 2 + 1, mels) for the sizes in a manifest."""
    return mel_bank(frontend.sample_rate, frontend.n_fft, frontend.mels, frontend.fmin, frontend.fmax)


def package_bank(package: Package) -> NDArray[np.float32]:
    """The mel filter bank (n_fft // 2 + 1, mels) that a package's encoder multiplies with.

    It comes from the checkpoint, which may bring another bank than `mel_filter_bank` builds. The graph keeps its
    rows in the order of its four-step transform, bin c + first · d at place c · rows + d, without the bins above
    the last band. Raises PackageError when the package has none.
    """
    frontend, component = package.manifest.frontend, package.manifest.components["audio_encoder"]
    for entry in component.weights:
        stored = package.tensors(entry).get(BANK)
        if stored is not None:
            break
    else:
        raise PackageError(f"{package.path}: the audio_encoder has no tensor {BANK!r}; export the package again")
    first = 1 << (frontend.n_fft.bit_length() // 2)
    if stored.ndim != 2 or len(stored) % first or stored.shape[1] != frontend.mels:
        raise PackageError(
            f"{package.path}: {BANK} has the shape {stored.shape}, expected a multiple of {first} rows of "
            f"{frontend.mels} bands; export the package again"
        )
    natural = stored.reshape(first, -1, frontend.mels).transpose(1, 0, 2).reshape(-1, frontend.mels)
    bank = np.zeros((frontend.n_fft // 2 + 1, frontend.mels), np.float32)
    bank[: len(natural)] = natural[: len(bank)]
    return bank


def _check_frontend(frontend: Frontend) -> None:
    if frontend.n_fft < 2 or frontend.n_fft % 2:
        raise PackageError(f"frontend.n_fft: found {frontend.n_fft}, expected an even number")
    if not frontend.fmin < frontend.fmax <= frontend.sample_rate / 2:
        raise PackageError(
            f"frontend: found mel bands from {frontend.fmin:g} to {frontend.fmax:g} Hz, expected fmin below fmax and "
            f"fmax at most half the rate of {frontend.sample_rate} Hz"
        )


def _check_row(samples: Samples) -> None:
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise AudioError(
            f"found samples of type {samples.dtype} and shape {samples.shape}, expected one row of floats; "
            "average the channels, and divide integers by their full scale"
        )
