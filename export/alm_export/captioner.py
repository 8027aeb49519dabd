"""What the exports of ClapCap and ADIFF share: audio tower, mapper and GPT-2, held against PyTorch's captions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm.errors import ExportError
from alm.models.captioner_self_test import prefix_of
from alm.models.listener import Listener
from alm.package import DecoderShape, GenerationDefaults, Manifest, MapperInfo, PromptLayout
from alm_export.components import Components, write_graphs
from alm_export.describe import describe
from alm_export.golden import Arrays, Golden, widened
from alm_export.graphs.clap_towers import build_audio_tower
from alm_export.graphs.decoder import embedding_graph
from alm_export.graphs.gpt2_decoder import build_gpt2_decoder
from alm_export.graphs.graph import GraphBuilder, array
from alm_export.pipeline import Exporter, Report, Request
from alm_quantize.gate import Assignment
from alm_quantize.probes import bundled_clips, folder_clips
from alm_quantize.wording import Captioned, Float32, Wording, caption_in_float, measure_wording
from alm_train.checkpoints.weights import Weights
from alm_train.models.clap import AudioTower
from alm_train.models.decoding import greedy
from alm_train.models.gpt2 import GPT2LM

TOKENS = 24
FLOAT_TOLERANCES = {"log_mel": 0.1, "embedding": 1e-4, "prefix": 1e-3, "logits": 1e-3}
"""Between PyTorch float32 and a float32 package. The log-mel bound is for bins below -60 dB."""


class CaptionerExporter(Exporter):
    """An export of a model whose prefix comes from a mapper. A family says what it maps and asks."""

    precision = "int8"
    parts: ClassVar = {
        "audio_encoder": "audio_encoder",
        "mapper": "audio_encoder",
        "decoder": "decoder",
        "head": "head",
    }
    room: ClassVar[int]
    """Tokens of the longest caption, as the authors' examples allow."""
    capabilities: ClassVar[tuple[str, ...]]
    """What the package can be asked to do."""
    clips_per_prefix: ClassVar[int]
    """Clips that a prefix is made of."""
    suffix: ClassVar[str] = ""
    """Put behind every prompt."""

    def __init__(self, request: Request, weights: Weights, folder: Path, report: Report) -> None:
        super().__init__(request, weights, folder, report)
        self.model, self.config = weights.model, weights.model.config
        frontend = self.config.encoder.frontend
        self.sounds = bundled_clips(frontend.sample_rate, frontend.samples)
        if request.recordings is not None:
            self.sounds |= folder_clips(request.recordings, frontend.sample_rate, frontend.samples)
        self.positions = min(self.config.prefix_tokens + self.room, self.config.decoder.max_positions)
        if self.positions <= self.config.prefix_tokens:
            raise ExportError(
                f"the decoder has {self.positions} positions and the prefix takes {self.config.prefix_tokens}: no room "
                "for a caption; use weights with a larger max_positions"
            )
        self.reference = self._golden_from_torch(*self.asked()[0])
        self._embeddings: dict[str, Float32] = {}
        self._captioned: list[Captioned] = []

    @property
    @abstractmethod
    def tower(self) -> AudioTower:
        """The audio tower of the model."""

    @property
    @abstractmethod
    def language(self) -> GPT2LM:
        """The language model."""

    @abstractmethod
    def mapper(self, scheme: str) -> GraphBuilder:
        """The graph of the mapper."""

    @abstractmethod
    def map_float(self, embeddings: list[Tensor], prompt_ids: NDArray[np.int64] | None) -> Tensor:
        """Embeddings (1, D) and padded ids to the float32 prefix (1, tokens, width)."""

    @abstractmethod
    def asked(self) -> list[tuple[tuple[str, ...], NDArray[np.int64] | None]]:
        """Names of clips and the padded prompt (T,) of everything that is asked to measure quality."""

    def layout(self) -> PromptLayout | None:
        """The manifest's section on prompts; None where there are none."""
        return None

    def build(self, schemes: Assignment, engine: str, folder: Path) -> Components:
        """Graphs and weights; ExportError for an engine other than onnxruntime."""
        if engine != "onnxruntime":
            raise ExportError(f"{self.weights.family} has no export for {engine}; leave --engine out")
        table = array(self.language.transformer.wte.weight)
        graphs = {
            "audio_encoder": build_audio_tower(self.tower, schemes["audio_encoder"]),
            "mapper": self.mapper(schemes["mapper"]),
            "token_embedding": embedding_graph(table, schemes["head"]),
            "decoder": build_gpt2_decoder(self.language, self.positions, schemes["decoder"], schemes["head"]),
        }
        # The token embedding's matrix is the head's too: one entry serves both.
        tensors = {name: graph.tensors for name, graph in graphs.items()}
        tensors["token_embedding"] = {name: tensors["decoder"].pop(name) for name in graphs["token_embedding"].tensors}
        named = {name: schemes["head" if name == "token_embedding" else name] for name in graphs}
        return Components(*write_graphs(graphs, tensors, named, folder), self.positions)

    def describe(self, components: Components) -> Manifest:
        """The manifest, its quality unmeasured and its self-test PyTorch's."""
        config, decoder = self.config, self.config.decoder
        return describe(
            self.weights.family,
            self.weights,
            self.request.target.name,
            self.request.scheme,
            config.encoder.frontend,
            components,
            self.reference.tolerances,
            self.capabilities,
            prompt=self.layout(),
            mapper=MapperInfo(self.clips_per_prefix, config.embedding, config.prefix_tokens, self.suffix),
            generation=GenerationDefaults(
                stop_id=config.stop_id,
                max_tokens=self.positions - config.prefix_tokens,
                max_positions=self.positions,
            ),
            decoder=DecoderShape(
                width=decoder.width,
                vocabulary=decoder.vocabulary,
                layers=decoder.layers,
                kv_heads=decoder.heads,
                head_dim=decoder.head_dim,
                max_positions=self.positions,
            ),
        )

    def replay(self, package: Listener) -> Golden:
        """The self-test as a package computes it on this machine, up to the first token that rounding could change."""
        arrays = dict(self.reference.arrays)
        sounds = np.asarray(arrays["audio"], np.float32)
        heard = [package.encode(sound, ("log_mel", "embedding")) for sound in sounds]
        arrays |= {stage: np.stack([outputs[stage] for outputs in heard]) for stage in ("log_mel", "embedding")}
        prefix = prefix_of(package, [outputs["embedding"] for outputs in heard], arrays.get("prompt_ids"))
        decoder = package.reader.decoder
        cache = decoder.new_cache()
        arrays["prefix"], logits = prefix, cache.append(prefix)
        arrays["logits"] = logits
        tolerances = widened(FLOAT_TOLERANCES, arrays, self.reference.arrays)
        tokens: list[int] = []
        for _ in range(min(TOKENS, self.positions - self.config.prefix_tokens)):
            second, first = np.partition(logits, -2)[-2:]
            tokens.append(int(logits.argmax()))
            if tokens[-1] == self.config.stop_id or first - second <= 2 * tolerances["logits"]:
                break
            logits = cache.append(decoder.embed(np.array(tokens[-1:], np.int64)))
        # The last token is kept only when nothing else is: it is the stop token or a near tie.
        arrays["tokens"] = np.array(tokens[:-1] or tokens, np.int64)
        return Golden(arrays, tolerances)

    def measure(self, package: Listener, schemes: Assignment) -> Wording:
        """Hold a draft against PyTorch float32."""
        if not self._captioned:
            self._caption_in_float()
        report = self.progress("quality")
        return measure_wording(
            package, schemes, self._captioned, self.sounds, self._embeddings, self.language, self.map_float, report
        )

    def material(self) -> dict[str, Any]:
        """On what it was measured."""
        return {"clips": len(self.sounds)}

    def scores(self, trials: Sequence[Wording]) -> dict[str, Any]:
        """What the last trial measured."""
        final = trials[-1]
        return {
            "whole": {"agreement": final.whole.to_dict()},
            "alone": {part: {"agreement": score.to_dict()} for part, score in final.alone.items()},
            "tried": [{"schemes": dict(t.schemes), "loss": round(t.whole.loss, 4)} for t in trials],
        }

    def _caption_in_float(self) -> None:
        report, asked = self.progress("float"), self.asked()
        with torch.inference_mode():
            for name, sound in self.sounds.items():
                self._embeddings[name] = self.tower(torch.from_numpy(sound)[None])[0].numpy()
            for done, (clips, prompt_ids) in enumerate(asked):
                rows = [torch.from_numpy(self._embeddings[name])[None] for name in clips]
                prefix = self.map_float(rows, prompt_ids)
                self._captioned.append(caption_in_float(self.language, prefix, clips, prompt_ids, self.config.stop_id))
                report(done + 1, len(asked))

    def _golden_from_torch(self, clips: tuple[str, ...], prompt_ids: NDArray[np.int64] | None) -> Golden:
        sound = np.stack([self.sounds[name] for name in clips])
        htsat = self.tower.base.htsat
        with torch.inference_mode():
            log_mel = htsat.logmel_extractor(torch.from_numpy(sound))
            embeddings = self.tower.projection(htsat.encode(log_mel).latent)
            prefix = self.map_float(list(embeddings.split(1)), prompt_ids)
            logits = self.language(prefix)[0, -1]
            tokens = greedy(self.language, prefix, self.config.stop_id, TOKENS)
        arrays: Arrays = {
            "audio": sound,
            "log_mel": log_mel.numpy(),
            "embedding": embeddings.numpy(),
            "prefix": prefix[0].numpy(),
            "logits": logits.numpy(),
            "tokens": np.array(tokens, np.int64),
        }
        if prompt_ids is not None:
            arrays["prompt_ids"] = prompt_ids
        return Golden(arrays, FLOAT_TOLERANCES)
