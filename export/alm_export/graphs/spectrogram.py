"""Waveform to log-mel inside the graph, by a four-step Fourier transform made of matrix products.

n_fft = r * s. A frame x[a * s + b] becomes X[c + r * d] in two short transforms: over a (length r, real in),
then over b (length s) with the twiddle factors folded in. For 1024 points that is 0.25 GFLOP a clip against
2.1 as a convolution, and every engine has fast matrix products, while few have a fast Fourier operator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from alm.audio.log_mel import BANK
from alm.errors import ExportError
from alm_export.graphs.graph import GraphBuilder
from alm_train.models.frontend import LogMel

MOST_FRAMES = 256
"""Frames that are transformed at once. All 1001 of a clip take 7 MB more, which is the most the encoder needs."""


@dataclass(frozen=True)
class FourStep:
    """The matrices of the transform, float32, for an engine of any kind."""

    window: np.ndarray
    """(n_fft,) periodic Hann window."""
    inner: np.ndarray
    """(2 * first, first): real, then imaginary rows of the transform over a."""
    outer: np.ndarray
    """(first, 2 * second, 2 * rows): per c, from real and imaginary b to real and imaginary d."""
    mel: np.ndarray
    """(mels, first * rows): the filter bank for power at bin c + first * d, which lies at place c * rows + d."""

    @property
    def first(self) -> int:
        """Length of the transform over a."""
        return self.inner.shape[1]

    @property
    def stored_bank(self) -> np.ndarray:
        """(first * rows, mels): the filter bank as packages hold it."""
        return np.ascontiguousarray(self.mel.T)

    @classmethod
    def of(cls, module: LogMel) -> FourStep:
        """The matrices for a log-mel; ExportError for an n_fft that does not split."""
        n_fft, melw = module.config.n_fft, module.melW.numpy()
        first = 1 << (n_fft.bit_length() // 2)
        if n_fft % first:
            raise ExportError(f"n_fft is {n_fft}; the spectrogram's transform needs a multiple of {first}")
        # Bands end below the Nyquist frequency, so the last rows of the transform are never needed.
        rows = math.ceil((1 + np.flatnonzero(melw.any(1)).max()) / first)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        c, a = np.arange(first)[:, None], np.arange(first)[None, :]
        inner = np.exp(-2j * np.pi * c * a / first)
        b, d = np.arange(n_fft // first)[None, :, None], np.arange(rows)[None, None, :]
        outer = np.exp(-2j * np.pi * b * (np.arange(first)[:, None, None] + first * d) / n_fft)
        real = np.concatenate((outer.real, -outer.imag), 1)
        imaginary = np.concatenate((outer.imag, outer.real), 1)
        mel = np.zeros((first * rows, module.config.mels), np.float32)
        mel[: len(melw)] = melw[: first * rows]
        return cls(
            window.astype(np.float32),
            np.concatenate((inner.real, inner.imag)).astype(np.float32),
            np.concatenate((real, imaginary), 2).astype(np.float32),
            np.ascontiguousarray(mel.reshape(rows, first, -1).transpose(2, 1, 0).reshape(-1, first * rows)),
        )


def log_mel(graph: GraphBuilder, waveform: str, module: LogMel) -> str:
    """`waveform` (1, samples) to (frames, mels) in dB."""
    config, steps = module.config, FourStep.of(module)
    framed = _frames(graph, waveform, config.samples, config.n_fft, config.hop)
    power = [_power_spectrum(graph, frames, steps) for frames in framed]
    bank = graph.constant(steps.stored_bank, BANK)
    mel = graph.op("Concat", *(graph.op("MatMul", part, bank) for part in power), axis=0)
    floored = graph.op("Max", mel, graph.constant(1e-10))
    return graph.op("Mul", graph.op("Log", floored), graph.constant(10 / math.log(10)))


def _frames(graph: GraphBuilder, waveform: str, samples: int, n_fft: int, hop: int) -> list[str]:
    """(1, samples) to overlapping frames (T, n_fft), some at a time, by gathering the largest blocks they share."""
    padding = graph.constant(np.array([0, n_fft // 2, 0, n_fft // 2], np.int64))
    padded = graph.op("Pad", waveform, padding, mode="reflect")
    block = math.gcd(hop, n_fft)
    whole = (samples + n_fft) // block * block
    if whole != samples + n_fft:
        zero, end, axis = (graph.constant(np.array([v], np.int64)) for v in (0, whole, 1))
        padded = graph.op("Slice", padded, zero, end, axis)
    blocks = graph.reshape(padded, (-1, block))
    frames = samples // hop + 1
    places = np.arange(frames)[:, None] * (hop // block) + np.arange(n_fft // block)[None, :]
    parts = [graph.constant(part) for part in np.array_split(places, math.ceil(frames / MOST_FRAMES))]
    return [graph.reshape(graph.op("Gather", blocks, part, axis=0), (-1, n_fft)) for part in parts]


def _power_spectrum(graph: GraphBuilder, frames: str, steps: FourStep) -> str:
    """(T, n_fft) to (T, first * rows): power at bin c + first * d, stored at place c * rows + d."""
    first, rows = steps.first, steps.outer.shape[2] // 2
    second = steps.outer.shape[1] // 2
    windowed = graph.op("Mul", frames, graph.constant(steps.window, "window"))
    grid = graph.reshape(windowed, (-1, first, second))
    short = graph.op("MatMul", graph.constant(steps.inner, "inner_transform"), grid)  # (T, 2 * first, second)
    split = graph.transpose(graph.reshape(short, (-1, 2, first, second)), (2, 0, 1, 3))
    pairs = graph.reshape(split, (first, -1, 2 * second))  # (c, T, real and imaginary b)
    spectrum = graph.op("MatMul", pairs, graph.constant(steps.outer, "outer_transform"))
    squares = graph.reshape(graph.op("Mul", spectrum, spectrum), (first, -1, 2, rows))
    power = graph.op("ReduceSum", squares, graph.constant(np.array([2], np.int64)), keepdims=0)
    return graph.reshape(graph.transpose(power, (1, 0, 2)), (-1, first * rows))
