"""The official shapes of CLAP, PAM, ClapCap and ADIFF, with made weights: what their packages weigh, cost and lose.

python tests/full_size/check.py [FAMILY ...]      # as CASES below names them; all if left out

Each is exported at float32 and at 8 bits for this machine. Held are: float32 packages against PyTorch (vectors to 1e-4,
the same tokens), packages of 8 bits against themselves, their vectors of the bundled recordings against float32 (median
cosine at least 0.99), and PAM's size (less than 40 MB). CLAP is also held with the weights that ship
(`clap-reference`). Times are those of this machine as it is.
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers.implementations import BertWordPieceTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from golden.synthetic import official_state
from tiny_clap_2022 import VOCABULARY

import alm
from alm.models.sound_space import unit
from alm.verify import verify_model
from alm_export.families import find_exporter
from alm_export.pipeline import Exported, Request
from alm_export.targets import find_target
from alm_quantize.probes import bundled_clips
from alm_train.checkpoints.families import find_family
from alm_train.checkpoints.weights import Weights, load_weights

LEAST_COSINE = 0.99
LARGEST_PAM_MB = 40.0
LARGEST_DIFFERENCE = 1e-4
QUESTION = "explain the difference between the two audio in few words"
CAPTION_TOKENS = 20

Clip = tuple[np.ndarray, int]
ASKED: Mapping[str, Callable[[alm.Model, Clip, Clip], object]] = {
    "clap": lambda model, clip, _: model.embed_audio([clip]),
    "pam": lambda model, clip, _: model.score(clip),
    "clapcap": lambda model, clip, _: model.caption(clip, beams=1, max_tokens=CAPTION_TOKENS),
    "adiff": lambda model, clip, other: model.compare(clip, other, QUESTION, max_tokens=CAPTION_TOKENS),
}
"""By family in the manifest: what is timed."""


@dataclass(frozen=True)
class Case:
    """One model that is checked."""

    exporter: str
    """Family in the command."""
    weights: Callable[[Path], Weights]
    """Makes or loads its weights, with a folder for files."""


def made(family: str) -> Callable[[Path], Weights]:
    """Weights that anyone can rebuild, through the loader of the official file."""

    def load(folder: Path) -> Weights:
        kind, checkpoint = find_family(family), folder / "official.pth"
        shapes = {key: tensor.shape for key, tensor in kind.module(kind.config()).state_dict().items()}
        torch.save({"model": official_state(shapes)}, checkpoint)
        loaded = load_weights(str(checkpoint), family)
        checkpoint.unlink()
        return _named_random(loaded)

    return load


def made_2022(folder: Path) -> Weights:
    """The same for CLAP 2022, whose vocabulary is not in this repository: word pieces that nobody uses fill it."""
    kind = find_family("clap-2022")
    model = kind.module(kind.config()).eval()
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    model.load_state_dict(official_state(shapes), strict=False)
    pieces = (*VOCABULARY, *(f"##{number}" for number in range(model.config.text.vocabulary)))
    vocabulary = {piece: place for place, piece in enumerate(pieces[: model.config.text.vocabulary])}
    tokenizer = BertWordPieceTokenizer(vocabulary).to_str()
    return Weights("clap-2022", model, tokenizer, "random", "clap-2022-random", "0" * 64, "CC0-1.0", "random numbers")


def _named_random(weights: Weights) -> Weights:
    """Called random, they are not asked for quality: made weights have none to lose."""
    return replace(weights, source="random")


CASES = {
    "clap": Case("clap", made("clap")),
    "clap-2022": Case("clap", made_2022),
    "pam": Case("pam", made("clap")),
    "clapcap": Case("clapcap", made("clapcap")),
    "adiff": Case("adiff", made("adiff")),
    "clap-reference": Case("clap", lambda _: _named_random(load_weights("reference", "clap"))),
}


def exported(case: Case, weights: Weights, precision: str, folder: Path) -> Exported:
    """The package at that precision, for this machine."""
    target = find_target("x86_64" if platform.machine() == "x86_64" else "arm64")
    exporter = find_exporter(case.exporter)
    ladders = {"onnxruntime": exporter.ladders(target.ladders(precision, "onnxruntime"))}
    output = folder / f"{precision}.alm"
    request = Request(target, precision, ladders, "random", output, budget=0.0, family=case.exporter)
    with tempfile.TemporaryDirectory(dir=folder) as drafts:
        return exporter(request, weights, Path(drafts), lambda *_: None).run()


def vectors(path: Path) -> np.ndarray:
    """Unit vectors of the bundled recordings."""
    with alm.load(path) as model:
        frontend = model.info.frontend
        clips = bundled_clips(frontend.sample_rate, frontend.samples).values()
        return unit(np.stack([model.encode(clip, ("embedding",))["embedding"] for clip in clips]))


def timed(path: Path) -> tuple[float, float]:
    """Seconds to load a package, and the median for one recording (for ADIFF, a pair)."""
    started = time.perf_counter()
    with alm.load(path) as model:
        loaded = time.perf_counter() - started
        verify_model(model).check()
        rate = model.info.frontend.sample_rate
        clips = [(clip, rate) for clip in bundled_clips(rate, model.info.frontend.samples).values()]
        seconds = []
        for clip, other in zip(clips[:7], clips[7:14], strict=True):
            started = time.perf_counter()
            ASKED[model.info.model.family](model, clip, other)
            seconds.append(time.perf_counter() - started)
    return loaded, statistics.median(seconds)


def check(name: str, case: Case, folder: Path) -> list[str]:
    """Print what was found; returns what is wrong."""
    weights = case.weights(folder)
    exact = exported(case, weights, "fp32", folder)
    parity = {stage.stage: stage.difference for stage in exact.made["onnxruntime"].parity.stages}
    expected = vectors(exact.path)
    whole = exact.path.stat().st_size / 1e6
    exact.path.unlink()
    small = exported(case, weights, "int8", folder)
    cosine = float(np.median((vectors(small.path) * expected).sum(-1)))
    size = small.path.stat().st_size / 1e6
    load, clip = timed(small.path)
    stages = ", ".join(f"{stage} {difference:.1e}" for stage, difference in parity.items())
    print(f"{name}: float32 {whole:.1f} MB, against PyTorch: {stages}")
    print(f"{name}: int8 {size:.1f} MB, median cosine {cosine:.5f}, load {load:.2f} s, {clip:.3f} s a clip", flush=True)
    wrong = []
    if parity["embedding"] > LARGEST_DIFFERENCE or parity.get("tokens", 0) > 0:
        wrong.append(f"{name}: the float32 package is not PyTorch")
    if cosine < LEAST_COSINE:
        wrong.append(f"{name}: a median cosine of {cosine:.5f}, expected at least {LEAST_COSINE}")
    if name == "pam" and size >= LARGEST_PAM_MB:
        wrong.append(f"{name}: {size:.1f} MB, expected less than {LARGEST_PAM_MB:g}")
    return wrong


def main() -> None:
    """Check the families named in the command."""
    names = sys.argv[1:] or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    wrong: list[str] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="full-size-", dir=".") as folder:
            wrong += check(name, CASES[name], Path(folder))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
