"""Files as the authors of CLAP, ClapCap and ADIFF write them: what may be in them besides weights, and what may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_captioners import ADIFF, CLAPCAP, tiny_captioner
from tiny_mellow import ENCODER
from torch import Tensor, nn

from alm.errors import CheckpointError
from alm_train.checkpoints.download import OFFICIAL
from alm_train.checkpoints.families import FAMILIES
from alm_train.checkpoints.state import load_state, read_checkpoint
from alm_train.checkpoints.weights import load_weights
from alm_train.models.clap import Clap, ClapConfig
from alm_train.models.gpt2 import GPT2, GPT2LM

TEXT = CLAPCAP.decoder
State = dict[str, Tensor]


def drawn(model: nn.Module, seed: int = 7) -> State:
    """The model's state with every weight drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for key, tensor in model.state_dict().items()
    }


MODELS: dict[str, Callable[[], nn.Module]] = {
    "clap": lambda: Clap(ClapConfig(ENCODER, TEXT, embedding=24, text_tokens=20, pad_id=1)),
    "clapcap": lambda: tiny_captioner("clapcap"),
    "adiff": lambda: tiny_captioner("adiff"),
}


def legacy(model: nn.Module, state: State) -> State:
    """What files of the time hold besides: causal masks and their filler, and the head beside its table."""
    extra: State = {}
    for path, module in model.named_modules():
        if isinstance(module, GPT2):
            size = module.config.max_positions
            for layer in range(module.config.layers):
                extra[f"{path}.h.{layer}.attn.bias"] = torch.ones(1, 1, size, size, dtype=torch.uint8).tril()
                extra[f"{path}.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        if isinstance(module, GPT2LM):
            extra[f"{path}.lm_head.weight"] = state[f"{path}.transformer.wte.weight"].clone()
    return extra


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_authors_layouts_load(tmp_path: Path, family: str, prefix: str, wrapped: bool) -> None:
    model = MODELS[family]()
    state = drawn(model)
    content = {f"{prefix}{key}": tensor for key, tensor in (state | legacy(model, state)).items()}
    torch.save({"model": content, "epoch": 5} if wrapped else content, tmp_path / "m.pth")
    load_state(model, read_checkpoint(tmp_path / "m.pth").state, "m.pth")
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", MODELS)
def test_what_the_code_computes_must_be_what_the_file_holds(family: str) -> None:
    model = MODELS[family]()
    state = drawn(model)
    extra = legacy(model, state)
    for key in extra:
        changed = {**state, **extra, key: extra[key].float() + 1}
        with pytest.raises(CheckpointError, match=f"{key} is not what this model computes"):
            load_state(model, changed, "m.pth")


@pytest.mark.parametrize("family", MODELS)
def test_nothing_else_may_be_missing_or_more(family: str) -> None:
    model = MODELS[family]()
    state = drawn(model)
    for key in (next(key for key in state if "bn0.running_mean" in key), next(key for key in state if "wpe" in key)):
        with pytest.raises(CheckpointError, match=f"1 missing: {key}"):
            load_state(model, {name: tensor for name, tensor in state.items() if name != key}, "m.pth")
    with pytest.raises(CheckpointError, match="1 unexpected: optimizer"):
        load_state(model, {**state, "optimizer.step": torch.zeros(1)}, "m.pth")
    optional = {key for key in state if key.endswith(("num_batches_tracked", "melW"))}
    load_state(model, {key: tensor for key, tensor in state.items() if key not in optional}, "m.pth")
    assert len(optional) == 2


def test_a_head_without_its_table_is_no_table() -> None:
    """The head is only ever compared with the table; a file that has the head alone lacks the table."""
    model = MODELS["clapcap"]()
    state = drawn(model)
    table = state.pop("gpt.transformer.wte.weight")
    with pytest.raises(CheckpointError, match=r"1 missing: gpt\.transformer\.wte\.weight; 1 unexpected: gpt\.lm_head"):
        load_state(model, {**state, "gpt.lm_head.weight": table}, "m.pth")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_official_file_has_an_address(family: str) -> None:
    for name in FAMILIES[family].official:
        assert OFFICIAL[name].url.startswith("https://")


def test_a_captioner_by_path_takes_the_shape_of_the_official_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "adiff", replace(FAMILIES["adiff"], config=lambda: replace(ADIFF, pad_id=0)))
    state = drawn(MODELS["adiff"]())
    torch.save(state, tmp_path / "mine.ckpt")
    weights = load_weights(str(tmp_path / "mine.ckpt"), "adiff")
    assert (weights.family, weights.name, weights.source) == ("adiff", "mine", "path")
    assert not weights.model.training
    assert all(torch.equal(tensor, state[key]) for key, tensor in weights.model.state_dict().items())


def test_a_family_without_small_weights_says_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=r"no small clap-2022 weights .* 2022, random"):
        load_weights("reference", "clap-2022")
