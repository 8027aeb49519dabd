"""The self-test of a package: sound, and what each stage must make of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alm.models.mellow import Mellow as PackagedMellow
from alm.verify import ENCODER_STAGES
from alm_quantize.probes import Probe
from alm_train.models.mellow import Mellow

TOKENS = 24
FLOAT_TOLERANCES = {"log_mel": 0.1, "latent": 1e-3, "audio_tokens": 1e-3, "logits": 1e-3}
"""Between PyTorch float32 and a float32 package. The log-mel bound is for bins below -60 dB, where float32
rounding of the two transforms shows; louder bins agree to 1e-3 dB."""

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Golden:
    """The self-test and how exactly it must be met."""

    arrays: Arrays
    """As `alm.verify` describes them."""
    tolerances: Mapping[str, float]
    """Largest absolute difference per stage."""

    def to_bytes(self) -> bytes:
        """golden.npz."""
        file = io.BytesIO()
        np.savez_compressed(file, **self.arrays)
        return file.getvalue()


def golden_from_torch(model: Mellow, probe: Probe, prompt_ids: NDArray[np.int64]) -> Golden:
    """What PyTorch float32 computes for a probe; both slots hold its clip."""
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

    Another processor's kernels may differ from this one's by about as much as quantization differs from
    float32, so each stage is allowed twice that, and never less than a float32 package's. Of the
    answer, the tokens that such a difference could change are left out: they say nothing about a fault.
    """
    arrays = dict(reference.arrays)
    heard = package.encode(np.asarray(arrays["audio"][0], np.float32), ENCODER_STAGES)
    arrays |= {stage: heard[stage][None] for stage in ENCODER_STAGES}
    reader = package.reader
    audio = heard["audio_tokens"]
    cache = reader.run_prefix((audio, audio))
    logits = cache.append(reader.decoder.embed(np.asarray(arrays["prompt_ids"], np.int64)))
    arrays["logits"] = logits
    tolerances = {
        stage: max(FLOAT_TOLERANCES[stage], 2 * float(np.abs(arrays[stage] - reference.arrays[stage]).max()))
        for stage in FLOAT_TOLERANCES
    }
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


def merged_golden(by_engine: Mapping[str, Golden]) -> Golden:
    """One self-test for several engines: the first one's arrays, and of each other engine what it computes
    differently, as `alm.verify` looks for it."""
    first, *others = by_engine
    arrays = dict(by_engine[first].arrays)
    for engine in others:
        for name, array in by_engine[engine].arrays.items():
            if not np.array_equal(array, by_engine[first].arrays[name]):
                arrays[f"{engine}/{name}"] = array
    return Golden(arrays, by_engine[first].tolerances)
