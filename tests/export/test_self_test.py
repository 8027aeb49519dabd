"""The self-test of an exported package: one altered weight, and `alm verify` names the stage that shows it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_mellow import altered_tensors, entries_of, write_altered

from alm.commands import main
from alm.errors import ParityError
from alm.models.mellow_self_test import STAGES
from alm.package import GOLDEN
from alm.verify import Verification, verify
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT_WEIGHTS = {
    "mel_filter_bank": ("audio_encoder", "log_mel"),
    "window": ("audio_encoder", "log_mel"),
    "stage0.block1.qkv.weight": ("audio_encoder", "latent"),
    "stretch_weights": ("audio_encoder", "latent"),
    "stage1.block0.fc2.weight": ("audio_encoder", "latent"),
    "tag.weight": ("audio_encoder", "audio_tokens"),
    "c2l.weight": ("audio_encoder", "audio_tokens"),
    "projection.linear2.weight": ("audio_encoder", "audio_tokens"),
    "layer0.qkv.weight": ("decoder", "logits"),
    "layer1.down.weight": ("decoder", "logits"),
    "rotary_sin": ("decoder", "logits"),
    "head.table": ("token_embedding", "logits"),
}


def altered(source: Path, path: Path, component: str, name: str, factor: float = 1.1) -> Path:
    entry = f"{component}.safetensors"
    data = entries_of(source)[1][entry]
    return write_altered(source, path, {entry: altered_tensors(data, name, factor)})


def first(result: Verification) -> str:
    assert not result.ok
    assert result.first_difference is not None
    with pytest.raises(ParityError, match=f"stage {result.first_difference.stage} is the first that differs"):
        result.check()
    return result.first_difference.stage


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_an_exported_package_passes(tiny_export: Callable[[str], Exported], scheme: str) -> None:
    result = verify(tiny_export(scheme).path)
    assert result.ok
    assert [stage.stage for stage in result.stages] == list(STAGES)
    assert all(stage.difference <= stage.tolerance for stage in result.stages)


@pytest.mark.parametrize("name", FLOAT_WEIGHTS)
def test_an_altered_weight_shows_first_where_it_is_used(tmp_path: Path, tiny_package: Path, name: str) -> None:
    component, stage = FLOAT_WEIGHTS[name]
    assert first(verify(altered(tiny_package, tmp_path / "p.alm", component, name))) == stage


@pytest.mark.parametrize(
    ("name", "component", "stage"),
    [
        ("stage1.block1.fc1.int8", "audio_encoder", "latent"),
        ("projection.linear1.int8", "audio_encoder", "audio_tokens"),
        ("layer1.gate_up.packed", "decoder", "logits"),
        ("head.scales", "token_embedding", "logits"),
    ],
)
def test_quantized_packages_notice_too(
    tmp_path: Path, tiny_export: Callable[[str], Exported], name: str, component: str, stage: str
) -> None:
    """Their tolerances are wider: what quantization changed, twice."""
    scheme = "audio_encoder=int8,decoder=int4-block32,head=int4-block32"
    assert first(verify(altered(tiny_export(scheme).path, tmp_path / "p.alm", component, name, 0.0))) == stage


@pytest.mark.parametrize("stage", STAGES)
def test_an_altered_expectation_is_named(tmp_path: Path, tiny_package: Path, stage: str) -> None:
    manifest, entries = entries_of(tiny_package)
    with np.load(io.BytesIO(entries[GOLDEN])) as file:
        arrays = dict(file)
    place = (0,) * (arrays[stage].ndim - 1) + (-1,)
    arrays[stage][place] += 1 if stage == "tokens" else 2 * manifest.golden.tolerances[stage] + 1e-3
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    result = verify(write_altered(tiny_package, tmp_path / "p.alm", {GOLDEN: changed.getvalue()}))
    assert first(result) == stage
    assert [found.stage for found in result.stages if not found.ok] == [stage]


def test_the_command_names_the_stage(
    tmp_path: Path, tiny_package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = altered(tiny_package, tmp_path / "broken.alm", "audio_encoder", "c2l.weight")
    for path, status in ((tiny_package, 0), (broken, 1)):
        monkeypatch.setattr(sys, "argv", ["alm", "verify", str(path), "--json"])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert (left.value.code or 0) == status
        result = json.loads(captured.out)
        assert result["ok"] is (status == 0)
        failed = [stage["stage"] for stage in result["stages"] if not stage["ok"]]
        assert failed[:1] == ([] if status == 0 else ["audio_tokens"])
        assert ("stage audio_tokens is the first that differs" in captured.err) is (status == 1)


def test_the_self_test_holds_what_torch_computes(tiny_package: Path, tiny_weights: Path) -> None:
    """The float32 package is within its tolerances of PyTorch, not only of itself."""
    import torch

    from alm_train.checkpoints.weights import load_weights

    model = load_weights(str(tiny_weights)).model
    manifest, entries = entries_of(tiny_package)
    with np.load(io.BytesIO(entries[GOLDEN])) as file:
        golden = dict(file)
    with torch.inference_mode():
        sound = torch.from_numpy(golden["audio"])
        audio = model.audio_tokens(sound)
        prefix = model.prefix(audio, audio, torch.from_numpy(golden["prompt_ids"])[None])
        logits = model.caption_decoder.lm(prefix)[0, -1].numpy()
        tokens = model.generate(prefix, 24)
    np.testing.assert_allclose(golden["audio_tokens"], audio, rtol=0, atol=1e-3)
    np.testing.assert_allclose(golden["logits"], logits, rtol=0, atol=1e-3)
    assert golden["tokens"].tolist() == tokens[: len(golden["tokens"])]
    assert len(golden["tokens"]) >= 2
    assert manifest.golden.tolerances == {"log_mel": 0.1, "latent": 1e-3, "audio_tokens": 1e-3, "logits": 1e-3}
