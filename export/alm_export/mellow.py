"""Export of Mellow: questions about one recording or about two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from alm.models.mellow import Mellow as PackagedMellow
from alm.models.mellow_self_test import ENCODER_STAGES
from alm.package import DecoderShape, GenerationDefaults, Manifest, PromptLayout
from alm.texts.prompt import PromptTokenizer
from alm_export.components import Components, build_components
from alm_export.describe import describe
from alm_export.golden import Arrays, Golden, widened
from alm_export.pipeline import Exporter, Report, Request
from alm_quantize.cache_scales import CacheScales, cache_scales
from alm_quantize.gate import PARTS, Assignment, Trial
from alm_quantize.probes import Probe, bundled_probes, folder_probes
from alm_quantize.quality import Answered, answer_in_float, compare
from alm_quantize.schemes import SCHEMES
from alm_train.checkpoints.weights import Weights
from alm_train.models.mellow import Mellow, MellowConfig

TOKENS = 24
CALIBRATION_CLIPS = 8
"""Clips on which the range of keys and values is measured."""
FLOAT_TOLERANCES = {"log_mel": 0.1, "latent": 1e-3, "audio_tokens": 1e-3, "logits": 1e-3}
"""Between PyTorch float32 and a float32 package. The log-mel bound is for bins below -60 dB, where float32
rounding of the two transforms shows; louder bins agree to 1e-3 dB."""


class MellowExporter(Exporter):
    """An export of Mellow, held against the answers of PyTorch float32."""

    weights_families = ("mellow",)
    precision = "int4"
    options = ("genai",)
    parts: ClassVar = dict(zip(PARTS, PARTS, strict=True))
    summary = "Answers questions about one recording or about two."
    task = "audio-text-to-text"
    example = 'alm ask PACKAGE RECORDING.wav "what is the sound?"'

    def __init__(self, request: Request, weights: Weights, folder: Path, report: Report) -> None:
        super().__init__(request, weights, folder, report)
        self.config: MellowConfig = weights.model.config
        frontend = self.config.encoder.frontend
        self.probes = bundled_probes(frontend.sample_rate, frontend.samples)
        if request.recordings is not None:
            self.probes += folder_probes(request.recordings, frontend.sample_rate, frontend.samples)
        self._tokenizer = PromptTokenizer(
            weights.tokenizer.encode(), prompt_layout(self.config), self.config.decoder.vocabulary
        )
        self.reference = self._golden_from_torch(self.probes[0])
        self.answered: list[Answered] = []

    def build(self, schemes: Assignment, engine: str, folder: Path) -> Components:
        scales = self._cache_scales if self._keeps_int8(schemes, engine) else None
        return build_components(self.weights, schemes, engine, folder, scales)

    def describe(self, components: Components) -> Manifest:
        request = self.request
        return describe_mellow(self.weights, request.target.name, request.scheme, components, self.reference.tolerances)

    def replay(self, package: PackagedMellow) -> Golden:
        return golden_from_package(package, self.reference)

    def measure(self, package: PackagedMellow, schemes: Assignment) -> Trial:
        model = self.weights.model
        if not self.answered:
            self.answered = answer_in_float(model, package, self.probes, self.progress("float"))
        whole = compare(package, self.answered, progress=self.progress("quality"))
        alone = {
            part: compare(package, self.answered, component=part, model=model) for part in ("audio_encoder", "decoder")
        }
        return Trial(schemes, whole, alone)

    def material(self) -> dict[str, Any]:
        return {"clips": len({probe.clip for probe in self.probes}), "questions": len(self.probes)}

    def scores(self, trials: Sequence[Trial]) -> dict[str, Any]:
        final = trials[-1]
        return {
            "whole": final.whole.to_dict(),
            "alone": {part: quality.to_dict() for part, quality in final.alone.items()},
            "tried": [{"schemes": dict(t.schemes), "loss": round(t.loss, 4)} for t in trials],
        }

    def _keeps_int8(self, schemes: Assignment, engine: str) -> bool:
        """Where the target gains by it, but not in float32, which gives the tokens of PyTorch, and not for
        onnxruntime-genai, whose graph is joined of nodes without bodies."""
        if engine != "onnxruntime" or self.request.options.get("genai"):
            return False
        return self.request.target.int8_cache and SCHEMES[schemes["decoder"]].bits < 32

    @cached_property
    def _cache_scales(self) -> CacheScales:
        """Measured on one question about each of the first clips."""
        clips = {probe.clip: probe for probe in reversed(self.probes)}
        return cache_scales(
            self.weights.model.caption_decoder.lm, map(self._prefix, islice(clips.values(), CALIBRATION_CLIPS))
        )

    def _prefix(self, probe: Probe) -> torch.Tensor:
        model = self.weights.model
        ids = self._tokenizer.prompt(probe.question, truncate=True)
        with torch.inference_mode():
            audio = model.audio_tokens(torch.from_numpy(probe.samples)[None])
            return model.prefix(audio, audio, torch.from_numpy(ids)[None])

    def _golden_from_torch(self, probe: Probe) -> Golden:
        return golden_from_torch(self.weights.model, probe, self._tokenizer.prompt(probe.question))


def describe_mellow(
    weights: Weights, target: str, scheme: str, components: Components, tolerances: Mapping[str, float]
) -> Manifest:
    """The manifest of a package made from `weights`, its quality still unmeasured."""
    config: MellowConfig = weights.model.config
    decoder, positions = config.decoder, components.positions
    return describe(
        "mellow",
        weights,
        target,
        scheme,
        config.encoder.frontend,
        components,
        tolerances,
        ("ask", "compare", "choose"),
        prompt=prompt_layout(config),
        generation=GenerationDefaults(
            stop_id=config.stop_id, max_tokens=positions - config.prefix_tokens, max_positions=positions
        ),
        decoder=DecoderShape(
            width=decoder.width,
            vocabulary=decoder.vocabulary,
            layers=decoder.layers,
            kv_heads=decoder.kv_heads,
            head_dim=decoder.head_dim,
            max_positions=positions,
        ),
    )


def prompt_layout(config: MellowConfig) -> PromptLayout:
    """How the model lays out its prefix. Mellow was trained on lower-case prompts."""
    return PromptLayout(
        audio_tokens=config.audio_tokens,
        separator_id=config.separator_id,
        prompt_tokens=config.prompt_tokens,
        pad_id=config.pad_id,
        lowercase=True,
    )


def golden_from_torch(model: Mellow, probe: Probe, prompt_ids: NDArray[np.int64]) -> Golden:
    """What PyTorch float32 computes for a probe and a padded prompt (T,); both slots hold its clip."""
    encoder = model.audio_encoder
    with torch.inference_mode():
        log_mel = encoder.base.htsat.logmel_extractor(torch.from_numpy(probe.samples)[None])
        output = encoder.base.htsat.encode(log_mel)
        audio = model.expand(encoder.project(output))
        prefix = model.prefix(audio, audio, torch.from_numpy(prompt_ids)[None])
        logits = model.caption_decoder.lm(prefix)[0, -1]
        tokens = model.generate(prefix, TOKENS)
    arrays: Arrays = {
        "audio": probe.samples[None],
        "prompt_ids": prompt_ids,
        "log_mel": log_mel.numpy(),
        "latent": output.latent.numpy(),
        "audio_tokens": audio.numpy(),
        "logits": logits.numpy(),
        "tokens": np.array(tokens, np.int64),
    }
    return Golden(arrays, FLOAT_TOLERANCES)


def golden_from_package(package: PackagedMellow, reference: Golden) -> Golden:
    """What the package itself computes on this machine for the same sound and question.

    Of the answer, the tokens that rounding on another processor could change are left out: they say nothing about a
    fault.
    """
    arrays = dict(reference.arrays)
    heard = package.encode(np.asarray(arrays["audio"][0], np.float32), ENCODER_STAGES)
    arrays |= {stage: heard[stage][None] for stage in ENCODER_STAGES}
    reader = package.reader
    audio = heard["audio_tokens"]
    cache = reader.run_prefix((audio, audio))
    logits = cache.append(reader.decoder.embed(np.asarray(arrays["prompt_ids"], np.int64)))
    arrays["logits"] = logits
    tolerances = widened(FLOAT_TOLERANCES, arrays, reference.arrays)
    tokens = []
    for _ in range(TOKENS):
        tokens.append(int(logits.argmax()))
        second, first = np.partition(logits, -2)[-2:]
        if tokens[-1] == package.info.generation.stop_id or first - second <= 2 * tolerances["logits"]:
            break
        logits = cache.append(reader.decoder.embed(np.array(tokens[-1:], np.int64)))
    # The last token is kept only when nothing else is: it is the stop token or a near tie.
    arrays["tokens"] = np.array(tokens[:-1] or tokens, np.int64)
    return Golden(arrays, tolerances)
