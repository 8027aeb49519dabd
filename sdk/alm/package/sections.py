"""The sections of manifest.json, each a frozen dataclass that `schema` checks field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from alm.package.archive import NAME_PATTERN, NAME_RULE
from alm.package.schema import Between, Matches

Count = Annotated[int, Between(1, 2**31 - 1)]
TokenId = Annotated[int, Between(0, 2**31 - 1)]
Size = Annotated[int, Between(0, 2**32 - 1)]
Hertz = Annotated[float, Between(0, 1e6)]
Factor = Annotated[float, Between(1e-6, 1e6)]
Tolerance = Annotated[float, Between(0, 1e9)]
Sha256 = Annotated[str, Matches("[0-9a-f]{64}", "64 lower-case hexadecimal digits")]
Word = Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", "1 to 64 letters, digits, '_', '.', '+', '-'")]
EntryName = Annotated[str, Matches(NAME_PATTERN, NAME_RULE)]


@dataclass(frozen=True)
class ModelInfo:
    """Which model this is."""

    family: Word
    """Model family, the key of the registry in `alm.models`, such as "mellow"."""
    name: Word
    """Name of this configuration, such as "mellow" or "mellow-small"."""
    parameters: Count
    """Number of weights of the model before quantization, shared ones counted once."""


@dataclass(frozen=True)
class WeightsInfo:
    """Where the weights come from and under which terms."""

    source: Word
    """The name given to `--weights`: "reference", "random", that of an official checkpoint; "path" for any path."""
    sha256: Sha256
    """Hash of the checkpoint the package was made from."""
    licence: str
    """SPDX name, or the owner's words where no SPDX name fits."""
    attribution: str
    """Who made the weights, and from whose recordings."""


@dataclass(frozen=True)
class Frontend:
    """The clip the encoder takes. The SDK needs the first two; the rest describes what the graph computes."""

    sample_rate: Annotated[int, Between(1000, 1_000_000)]
    """Samples per second."""
    samples: Count
    """Length of one clip in samples."""
    n_fft: Count
    """Length of the Fourier transform in samples."""
    hop: Count
    """Samples from one frame to the next."""
    mels: Count
    """Mel bands per frame."""
    fmin: Hertz
    """Lower edge of the first mel band in Hz."""
    fmax: Hertz
    """Upper edge of the last mel band in Hz."""


@dataclass(frozen=True)
class PromptLayout:
    """The prefix: audio tokens of clip 1, separator, audio tokens of clip 2, separator, padded prompt."""

    audio_tokens: Count
    """Audio tokens per clip."""
    separator_id: TokenId
    """Token whose embedding stands after each clip."""
    prompt_tokens: Count
    """Length to which a prompt is padded, and its limit."""
    pad_id: TokenId
    """Token that pads a prompt."""
    lowercase: bool
    """Whether the model was trained on lower-case prompts."""

    @property
    def prefix_tokens(self) -> int:
        """Positions before the first generated token."""
        return 2 * (self.audio_tokens + 1) + self.prompt_tokens


@dataclass(frozen=True)
class GenerationDefaults:
    """How an answer ends."""

    stop_id: TokenId
    """Token that ends an answer."""
    max_tokens: Count
    """Tokens generated at most when the caller does not say."""
    max_positions: Count
    """Capacity of the KV cache: prefix and answer together."""


@dataclass(frozen=True)
class DecoderShape:
    """The sizes that the KV cache and the embeddings need."""

    width: Count
    """Width of an embedding."""
    vocabulary: Count
    """Number of tokens, the width of the logits."""
    layers: Count
    """Number of transformer layers."""
    kv_heads: Count
    """Key/value heads per layer."""
    head_dim: Count
    """Width of one head."""
    max_positions: Count
    """Positions the decoder was built for."""


@dataclass(frozen=True)
class MapperInfo:
    """A prefix that the component `mapper` makes of the clips' embeddings and the prompt together."""

    clips: Annotated[int, Between(1, 2)]
    """Clips that it takes."""
    width: Count
    """Numbers in the embedding of a clip."""
    tokens: Count
    """Positions of the prefix, the prompt's included."""
    suffix: str
    """Put behind every prompt before it is tokenized."""


@dataclass(frozen=True)
class TextLayout:
    """What the text encoder reads."""

    suffix: str
    """Put behind every text before it is tokenized."""
    tokens: Count
    """Most tokens of a text, suffix and start included."""
    pad_id: TokenId
    """Token that pads a text; it does not count when the place of the last token is looked for."""
    vocabulary: Count
    """Number of tokens."""
    start: str | None = None
    """Put before every text; its token, and not the last one, then stands for the whole text. None where nothing is."""


@dataclass(frozen=True)
class PromptPair:
    """What a sound is held against to score it."""

    name: Word
    """Name of the score."""
    good: str
    """What a sound of score 1 is."""
    bad: str
    """What a sound of score 0 is."""


@dataclass(frozen=True)
class EmbeddingSpace:
    """The space in which sounds and texts are compared by their cosine."""

    width: Count
    """Numbers per vector."""
    scale: Factor
    """What the cosines are multiplied with before a softmax over texts."""
    text: TextLayout | None
    """How texts get in; None for a package without the text encoder."""
    template: str
    """What a label is put into, in place of `{}`."""
    labels: tuple[str, ...]
    """Labels whose vectors the package holds; may be none."""
    pairs: tuple[PromptPair, ...]
    """Prompt pairs whose vectors the package holds; may be none."""
    vectors: EntryName | None
    """Safetensors entry with the unit vectors `labels` (labels, width) and `pairs` (pairs, 2, width), good first."""


@dataclass(frozen=True)
class Component:
    """One exported graph."""

    engine: Word
    """Engine that runs it, such as "onnxruntime"."""
    graph: EntryName
    """Entry with the graph."""
    weights: tuple[EntryName, ...]
    """Safetensors entries whose tensors are its weights, all of them; components may share an entry."""
    scheme: Word
    """How its weights are stored: "fp32", "int8", "int4", …"""


@dataclass(frozen=True)
class Entry:
    """Size and hash of one entry of the package."""

    size: Size
    """Bytes."""
    sha256: Sha256
    """SHA-256 of the bytes."""


@dataclass(frozen=True)
class GoldenInfo:
    """The self-test in `golden.npz`."""

    tolerances: dict[Word, Tolerance]
    """Largest accepted absolute difference per stage on this package's target."""


@dataclass(frozen=True)
class Variant:
    """The model on another engine than the package's first; entries may be those of the first."""

    components: dict[Word, Component]
    """The same components as the package's, as this engine takes them."""
    golden: GoldenInfo
    """Tolerances of the self-test on this engine."""
