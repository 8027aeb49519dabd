"""Waveform to log-mel inside the graph, by a four-step Fourier transform made of matrix products.

n_fft = r * s. A frame x[a * s + b] becomes X[c + r * d] in two short transforms: over a (length r, real in),
then over b (length s) with the twiddle factors folded in. For 1024 points that is 0.25 GFLOP a clip against
2.1 as a convolution, and every engine has fast matrix products, while few have a fast Fourier operator.
"""

from __future__ import annotations

import math

import numpy as np

from alm.errors import ExportError
from alm_export.graph import GraphBuilder
from alm_train.models.frontend import LogMel


def log_mel(graph: GraphBuilder, waveform: str, module: LogMel) -> str:
    """`waveform` (1, samples) to (frames, mels) in dB."""
    config = module.config
    framed = _frames(graph, waveform, config.samples, config.n_fft, config.hop)
    melw = module.melW.numpy()
    first = 1 << (config.n_fft.bit_length() // 2)
    if config.n_fft % first:
        raise ExportError(f"n_fft is {config.n_fft}; the spectrogram's transform needs a multiple of {first}")
    second = config.n_fft // first
    # Bands end below the Nyquist frequency, so the last rows of the transform are never needed.
    rows = math.ceil((1 + np.flatnonzero(melw.any(1)).max()) / first)
    power = _power_spectrum(graph, framed, config.n_fft, first, second, rows)
    weights = np.zeros((first * rows, config.mels), np.float32)
    weights[: len(melw)] = melw[: first * rows]
    by_column = weights.reshape(rows, first, -1).transpose(1, 0, 2).reshape(first * rows, -1)
    mel = graph.op("MatMul", power, graph.constant(by_column, "mel_filter_bank"))
    floored = graph.op("Max", mel, graph.constant(1e-10))
    return graph.op("Mul", graph.op("Log", floored), graph.constant(10 / math.log(10)))


def _frames(graph: GraphBuilder, waveform: str, samples: int, n_fft: int, hop: int) -> str:
    """(1, samples) to overlapping frames (frames, n_fft), by gathering the largest blocks they share."""
    padding = graph.constant(np.array([0, n_fft // 2, 0, n_fft // 2], np.int64))
    padded = graph.op("Pad", waveform, padding, mode="reflect")
    block = math.gcd(hop, n_fft)
    whole = (samples + n_fft) // block * block
    if whole != samples + n_fft:
        zero, end, axis = (graph.constant(np.array([v], np.int64)) for v in (0, whole, 1))
        padded = graph.op("Slice", padded, zero, end, axis)
    blocks = graph.reshape(padded, (-1, block))
    starts = np.arange(samples // hop + 1)[:, None] * (hop // block)
    index = graph.constant(starts + np.arange(n_fft // block)[None, :], "frame_blocks")
    return graph.reshape(graph.op("Gather", blocks, index, axis=0), (-1, n_fft))


def _power_spectrum(graph: GraphBuilder, frames: str, n_fft: int, first: int, second: int, rows: int) -> str:
    """(T, n_fft) to (T, first * rows): power at bin c + first * d, stored at place c * rows + d."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    windowed = graph.op("Mul", frames, graph.constant(window.astype(np.float32), "window"))
    c, a = np.arange(first)[:, None], np.arange(first)[None, :]
    inner = np.exp(-2j * np.pi * c * a / first)
    inner_parts = np.stack((inner.real, inner.imag)).reshape(2 * first, first).astype(np.float32)
    grid = graph.reshape(windowed, (-1, first, second))
    short = graph.op("MatMul", graph.constant(inner_parts, "inner_transform"), grid)  # (T, 2 * first, second)
    split = graph.transpose(graph.reshape(short, (-1, 2, first, second)), (2, 0, 1, 3))
    pairs = graph.reshape(split, (first, -1, 2 * second))  # (c, T, real and imaginary b)
    b, d = np.arange(second)[None, :, None], np.arange(rows)[None, None, :]
    outer = np.exp(-2j * np.pi * b * (np.arange(first)[:, None, None] + first * d) / n_fft)
    real = np.concatenate((outer.real, -outer.imag), 1)
    imaginary = np.concatenate((outer.imag, outer.real), 1)
    kernel = np.concatenate((real, imaginary), 2).astype(np.float32)  # (c, 2 * second, 2 * rows)
    spectrum = graph.op("MatMul", pairs, graph.constant(kernel, "outer_transform"))
    squares = graph.reshape(graph.op("Mul", spectrum, spectrum), (first, -1, 2, rows))
    power = graph.op("ReduceSum", squares, graph.constant(np.array([2], np.int64)), keepdims=0)
    return graph.reshape(graph.transpose(power, (1, 0, 2)), (-1, first * rows))
