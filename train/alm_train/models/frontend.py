"""Waveform to log-mel: the signal constants and matrices that every HTS-AT family shares.

Sources: the constants of the authors' encoder (soham97/mellow, the same in all of their code), librosa's Slaney scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm.audio.mel_bank import mel_bank


@dataclass(frozen=True)
class FrontendConfig:
    """How a clip becomes log-mel frames. The defaults are those of the official Mellow checkpoint."""

    sample_rate: int = 32000
    """Hz."""
    samples: int = 320000
    """Length of one fitted clip, in samples."""
    n_fft: int = 1024
    """Length of the periodic Hann window and of the transform."""
    hop: int = 320
    """Samples between two frames."""
    mels: int = 64
    """Mel bands."""
    fmin: float = 50.0
    """Lower edge of the first band, Hz."""
    fmax: float = 14000.0
    """Upper edge of the last band, Hz."""
    bank_rate: int | None = None
    """Rate for which the mel filter bank is built, where it is not `sample_rate`. CLAP 2023 hears 44.1 kHz through the
    bank of 32 kHz, so that its bands lie 1.378 times higher than `fmin` and `fmax` say."""

    @property
    def frames(self) -> int:
        """Frames of one clip (centred transform)."""
        return self.samples // self.hop + 1


def fourier_kernels(n_fft: int) -> np.ndarray:
    """Rows of the Hann-windowed transform, real then imaginary, shape (2, n_fft // 2 + 1, n_fft), float32."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    turns = np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) % n_fft / n_fft
    rows = np.stack((np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)))
    return (rows * window).astype(np.float32)


class LogMel(nn.Module):
    """(B, samples) waveform to (B, frames, mels) in dB, re 1.0, floored at -100 dB.

    The transform is a strided convolution, as the authors compute it: its float32 rounding moves quiet mel
    bins (-55 dB) by up to 1.6e-3 dB against an exact transform, and this module is what others are held to.
    """

    melW: Tensor
    kernels: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("kernels", torch.from_numpy(fourier_kernels(config.n_fft)), persistent=False)
        # Kept with the weights and not rebuilt on use: an official file may bring its own copy, which wins.
        rate = config.bank_rate or config.sample_rate
        bank = mel_bank(rate, config.n_fft, config.mels, config.fmin, config.fmax)
        self.register_buffer("melW", torch.from_numpy(bank))

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` is float32 (B, N); any N gives N // hop + 1 frames."""
        half = self.config.n_fft // 2
        padded = F.pad(waveform.unsqueeze(1), (half, half), mode="reflect")
        real, imaginary = (F.conv1d(padded, kernel.unsqueeze(1), stride=self.config.hop) for kernel in self.kernels)
        power = (real.square() + imaginary.square()).transpose(1, 2)
        return 10.0 * torch.log10(torch.clamp(power @ self.melW, min=1e-10))
