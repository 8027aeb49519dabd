"""What the exports of CLAP and PAM share: the audio tower, stored text vectors, and PyTorch's view of both."""

from __future__ import annotations

import io
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alm.errors import ExportError, PromptError
from alm.models.sound_space import SoundSpace, unit
from alm.package import EmbeddingSpace, Manifest, PromptPair, TextLayout
from alm.package.safetensors import write_tensors
from alm.texts.text import TextTokenizer
from alm_export.components import Components, write_graphs
from alm_export.describe import describe
from alm_export.golden import Arrays, Golden, widened
from alm_export.graphs import clap2022_towers, clap_towers
from alm_export.pipeline import Exporter, Report, Request
from alm_quantize.gate import Assignment
from alm_quantize.likeness import Float32, Likeness
from alm_quantize.probes import bundled_clips, folder_clips
from alm_train.checkpoints.weights import Weights
from alm_train.models.clap import SUFFIX, Clap, ClapConfig
from alm_train.models.clap2022 import Clap2022Config
from alm_train.models.frontend import LogMel

VECTORS = "vectors.safetensors"
TEMPLATE = "this is a sound of {}"
"""What a label is put into: the authors' example (microsoft/CLAP)."""
TESTED = 2
"""Clips of the self-test."""
TESTED_TEXT = "a dog is barking and birds are singing"
FLOAT_TOLERANCES = {"log_mel": 0.5, "embedding": 1e-4, "text_embedding": 1e-4}
"""Between PyTorch float32 and a float32 package, on unit vectors. The log-mel bound is for bins at the floor of
-100 dB, where the bundled clips hold nothing above 16 kHz: 0.13 dB measured there; louder bins agree to 1e-3 dB."""
SCALED_TOLERANCE = 1e-4
"""The same for a cosine, before it is scaled."""


class SoundSpaceExporter(Exporter):
    """An export of CLAP's audio tower with vectors of texts; a family says which texts, and whether more can come."""

    weights_families = ("clap", "clap-2022")
    precision = "int8"
    family: str
    """Name in the manifest."""

    def __init__(self, request: Request, weights: Weights, folder: Path, report: Report) -> None:
        super().__init__(request, weights, folder, report)
        self.model, self.config = weights.model, weights.model.config
        self.scale = math.exp(self.model.logit_scale.item())
        self.tokenizer = TextTokenizer(weights.tokenizer.encode(), text_layout(self.config))
        frontend = self.config.encoder.frontend
        self.clips = bundled_clips(frontend.sample_rate, frontend.samples)
        self.bundled = list(self.clips)
        if request.recordings is not None:
            self.clips |= folder_clips(request.recordings, frontend.sample_rate, frontend.samples)
        self.stored = self.texts_to_store()
        self.reference = self._golden_from_torch()
        self._sounds: Float32 | None = None

    @abstractmethod
    def texts_to_store(self) -> dict[str, Float32]:
        """Unit vectors that the package holds, as `alm.package.EmbeddingSpace` names them."""

    @abstractmethod
    def space(self) -> EmbeddingSpace:
        """The manifest's section."""

    @property
    def reads_texts(self) -> bool:
        """Whether the text tower is part of the package."""
        return False

    def build(self, schemes: Assignment, engine: str, folder: Path) -> Components:
        """Graphs and weights; ExportError for an engine other than onnxruntime."""
        if engine != "onnxruntime":
            raise ExportError(f"{self.family} has no export for {engine}; leave --engine out")
        towers = clap_towers if isinstance(self.model, Clap) else clap2022_towers
        graphs = {"audio_encoder": towers.build_audio_tower(self.model.audio_encoder, schemes["audio_encoder"])}
        if self.reads_texts:
            tower, places = self.model.caption_encoder, self.config.text_tokens
            graphs["text_encoder"] = towers.build_text_tower(tower, places, schemes["text_encoder"])
        tensors = {name: graph.tensors for name, graph in graphs.items()}
        return Components(*write_graphs(graphs, tensors, schemes, folder))

    def describe(self, components: Components) -> Manifest:
        """The manifest, its quality unmeasured and its self-test PyTorch's."""
        return describe(
            self.family,
            self.weights,
            self.request.target.name,
            self.request.scheme,
            self.config.encoder.frontend,
            components,
            self.reference.tolerances,
            self.capabilities(),
            embedding=self.space(),
        )

    @abstractmethod
    def capabilities(self) -> tuple[str, ...]:
        """What the package can be asked to do."""

    def entries(self) -> dict[str, bytes | Path]:
        """The tokenizer where texts can be read, and the stored vectors where there are any."""
        own = super().entries() if self.reads_texts else {}
        if self.stored:
            file = io.BytesIO()
            write_tensors(file, self.stored)
            own[VECTORS] = file.getvalue()
        return own

    def replay(self, package: SoundSpace) -> Golden:
        """The self-test as a package computes it on this machine."""
        arrays = {**self.reference.arrays, **dict(package.self_test.compute(self.reference.arrays))}
        exact = {stage: self._tolerance(stage) for stage in self.reference.tolerances}
        return Golden(arrays, widened(exact, arrays, self.reference.arrays))

    def material(self) -> dict[str, Any]:
        """On what it was measured."""
        return {"clips": len(self.clips)}

    def scores(self, trials: Sequence[Likeness]) -> dict[str, Any]:
        """What the last trial measured."""
        tried = [{"schemes": dict(t.schemes), "loss": round(t.ranking.loss, 4)} for t in trials]
        return {"whole": trials[-1].to_dict(), "tried": tried}

    def sounds(self) -> Float32:
        """Unit vectors (clips, d) of PyTorch float32."""
        if self._sounds is None:
            rows, report = [], self.progress("float")
            for clip in self.clips.values():
                with torch.inference_mode():
                    rows.append(self.model.embed_audio(torch.from_numpy(clip)[None])[0].numpy())
                report(len(rows), len(self.clips))
            self._sounds = unit(np.stack(rows))
        return self._sounds

    def packaged_sounds(self, package: SoundSpace) -> Float32:
        """Unit vectors (clips, d) of a package."""
        rows, report = [], self.progress("quality")
        for clip in self.clips.values():
            rows.append(package.encode(clip)["embedding"])
            report(len(rows), len(self.clips))
        return unit(np.stack(rows))

    def written(self, texts: Sequence[str]) -> Float32:
        """Unit vectors (texts, d) of PyTorch float32. ExportError for a text that it cannot read."""
        rows = []
        for text in texts:
            try:
                ids, _ = self.tokenizer.encode(text)
            except PromptError as error:
                raise ExportError(str(error)) from error
            with torch.inference_mode():
                rows.append(self.model.embed_text(torch.from_numpy(ids)[None])[0].numpy())
        return unit(np.stack(rows))

    def _golden_from_torch(self) -> Golden:
        sound = np.stack(list(self.clips.values())[:TESTED])
        extractor = next(module for module in self.model.modules() if isinstance(module, LogMel))
        with torch.inference_mode():
            log_mel = extractor(torch.from_numpy(sound))
            vectors = unit(self.model.embed_audio(torch.from_numpy(sound)).numpy())
        arrays: Arrays = {"audio": sound, "log_mel": log_mel.numpy(), "embedding": vectors}
        texts = [table.reshape(-1, self.config.embedding) for table in self.stored.values()]
        if self.reads_texts:
            ids, place = self.tokenizer.encode(TESTED_TEXT)
            text = self.written([TESTED_TEXT])
            arrays |= {"text_ids": ids, "text_place": np.array([place], np.int64), "text_embedding": text}
            texts.append(text)
        arrays["similarity"] = (self.scale * vectors @ np.concatenate(texts).T).astype(np.float32)
        stages = ("log_mel", "embedding", *(("text_embedding",) if self.reads_texts else ()), "similarity")
        return Golden(arrays, {stage: self._tolerance(stage) for stage in stages})

    def _tolerance(self, stage: str) -> float:
        return FLOAT_TOLERANCES.get(stage, SCALED_TOLERANCE * self.scale)


def text_layout(config: ClapConfig | Clap2022Config) -> TextLayout:
    """What the text tower reads: of 2023 text and end, which stands for both; of 2022 a token that stands for the text,
    the text, and a token that ends it."""
    start, suffix = (None, SUFFIX) if isinstance(config, ClapConfig) else ("[CLS]", "[SEP]")
    return TextLayout(suffix, config.text_tokens, config.pad_id, config.text.vocabulary, start)


def space_of(
    config: ClapConfig | Clap2022Config,
    scale: float,
    *,
    stored: Mapping[str, Float32],
    text: TextLayout | None = None,
    labels: Sequence[str] = (),
    pairs: Sequence[PromptPair] = (),
) -> EmbeddingSpace:
    """The manifest's section for these texts."""
    vectors = VECTORS if stored else None
    return EmbeddingSpace(config.embedding, scale, text, TEMPLATE, tuple(labels), tuple(pairs), vectors)
