"""CNN14: six blocks of two convolutions over a log-mel; the audio side of CLAP 2022.

Parameter names are those of the original checkpoints. Source: PANNs (Kong et al., arXiv 1912.10211), table 2; CLAP fact
sheet section 5. The tagging head of the original is left out: CLAP reads the embedding before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.models.frontend import FrontendConfig, LogMel


@dataclass(frozen=True)
class Cnn14Config:
    """Shape of the encoder. The defaults are those of CLAP 2022: 5 s at 44.1 kHz."""

    frontend: FrontendConfig = field(default_factory=lambda: FrontendConfig(sample_rate=44100, samples=5 * 44100))
    """Waveform to log-mel."""
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    """Channels of each block. All blocks but the last halve time and frequency."""
    embedding: int = 2048
    """Size of the clip vector."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Cnn14Config:
        """From what `dataclasses.asdict` gives, also after a trip through JSON."""
        frontend, channels = FrontendConfig(**data["frontend"]), tuple(data["channels"])
        return cls(**{**data, "frontend": frontend, "channels": channels})


class Cnn14(nn.Module):
    """The encoder: (B, samples) waveforms to (B, embedding)."""

    def __init__(self, config: Cnn14Config) -> None:
        super().__init__()
        self.config = config
        self.logmel_extractor = LogMel(config.frontend)
        self.bn0 = nn.BatchNorm2d(config.frontend.mels)
        for number, (inputs, outputs) in enumerate(zip((1, *config.channels), config.channels, strict=False), start=1):
            self.add_module(f"conv_block{number}", ConvBlock(inputs, outputs))
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(config.channels[-1], config.embedding)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, samples) float32 to (B, embedding)."""
        return self.encode(self.logmel_extractor(waveform))

    def encode(self, log_mel: Tensor) -> Tensor:
        """(B, frames, mels) in dB to (B, embedding)."""
        image = self.bn0(log_mel.transpose(1, 2).unsqueeze(-1)).transpose(1, 3)
        blocks = len(self.config.channels)
        for number in range(1, blocks + 1):
            image = self.get_submodule(f"conv_block{number}")(image)
            if number < blocks:
                image = F.avg_pool2d(image, 2)
            image = F.dropout(image, 0.2, self.training)
        rows = image.mean(3)
        return self.drop(F.relu(self.fc1(self.drop(rows.amax(2) + rows.mean(2)))))


class ConvBlock(nn.Module):
    """Twice: a 3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        for convolution in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(convolution.weight)

    def forward(self, image: Tensor) -> Tensor:
        image = F.relu(self.bn1(self.conv1(image)))
        return F.relu(self.bn2(self.conv2(image)))
