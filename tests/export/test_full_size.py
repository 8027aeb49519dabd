"""The full-size float32 package on the golden weights: the authors' logits and tokens, through the SDK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from golden.synthetic import computed, official_state

import alm
from alm.package import GOLDEN, write_package
from alm_export.components import build_components
from alm_export.mellow import FLOAT_TOLERANCES, describe_mellow
from alm_quantize.gate import PARTS
from alm_train.checkpoints.weights import load_weights
from alm_train.models.mellow import Mellow, MellowConfig


def export_golden_weights(folder: Path) -> Path:
    """A float32 package from a file in the layout of the official checkpoint."""
    shapes = {key: tensor.shape for key, tensor in Mellow(MellowConfig()).state_dict().items()}
    checkpoint = folder / "v0.ckpt"
    torch.save(official_state(shapes), checkpoint)
    weights = load_weights(str(checkpoint))
    components = build_components(weights, dict.fromkeys(PARTS, "fp32"), "onnxruntime", folder)
    package = folder / "mellow-fp32.alm"
    entries = {"tokenizer.json": weights.tokenizer.encode(), GOLDEN: b"", **components.entries}
    write_package(package, describe_mellow(weights, "x86_64", "fp32", components, FLOAT_TOLERANCES), entries)
    return package


def test_authors_logits_and_tokens(tmp_path: Path) -> None:
    golden = computed("mellow")
    tiled = np.tile(golden["audio2_unpadded"], 2)[: len(golden["audio1"])]
    with alm.load(export_golden_weights(tmp_path)) as model:
        assert model.reader.tokenizer.prompt(str(golden["prompt"])).tolist() == golden["input_ids"][0].tolist()
        heard = [model.encode(clip)["audio_tokens"] for clip in (golden["audio1"], tiled)]
        clip = model.listen((golden["audio1"], 32000), (tiled, 32000))
        answer = clip.ask(str(golden["prompt"]), max_tokens=len(golden["generated"]))
        assert list(answer.tokens) == golden["generated"].tolist()
        reader = model.reader
        cache = reader.run_prefix((heard[0], heard[1]))
        logits = cache.append(reader.decoder.embed(golden["input_ids"][0]))
    np.testing.assert_allclose(logits, golden["last_logits"][0], rtol=0, atol=1e-3)
