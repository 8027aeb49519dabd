"""Checkpoint files: nothing in them is executed, nothing is ignored, and what is wrong is named."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_mellow import FRONTEND, TINY, noise, tiny_model, tiny_tokenizer, write_tiny
from torch import Tensor

from alm.errors import CheckpointError
from alm_export.commands import main
from alm_train.checkpoints.state import load_state, read_checkpoint
from alm_train.checkpoints.weights import load_weights
from alm_train.models.mellow import Mellow

HTSAT = "audio_encoder.base.htsat."
MEL = f"{HTSAT}logmel_extractor.melW"
EMBEDDING = "caption_decoder.lm.model.embed_tokens.weight"
State = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def source() -> Mellow:
    return tiny_model(seed=1)


@pytest.fixture
def state(source: Mellow) -> State:
    return {key: tensor.clone() for key, tensor in source.state_dict().items()}


@pytest.fixture
def target() -> Mellow:
    return tiny_model(seed=2)


def same(model: Mellow, state: State) -> bool:
    return all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


class Program:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def plain_pickle(state: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(state, protocol=2))


def torch_zip(state: object, path: Path) -> None:
    torch.save(state, path)


def torch_legacy(state: object, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [plain_pickle, torch_zip, torch_legacy])
@pytest.mark.parametrize("name", ["m.ckpt", "m.safetensors", "m.pt"])
def test_a_pickle_with_code_is_not_run(
    tmp_path: Path, state: State, write: Callable[[object, Path], None], name: str
) -> None:
    trace = tmp_path / "it ran"
    write({**state, "surprise": Program(trace)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"can run code|no complete safetensors file|no checkpoint"):
        read_checkpoint(tmp_path / name)
    assert not trace.exists()
    # The same file does run when it is read carelessly: the test can fail.
    if write is plain_pickle:
        pickle.loads((tmp_path / name).read_bytes())
        assert trace.exists()


def test_the_command_does_not_run_it_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "it ran"
    torch.save({"surprise": Program(trace)}, tmp_path / "m.ckpt")
    output = tmp_path / "p.alm"
    monkeypatch.setattr("sys.argv", ["alm-export", "mellow", "--weights", str(tmp_path / "m.ckpt"), "-o", str(output)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert capsys.readouterr().err.endswith("because such a file can run code when it is read\n")
    assert not trace.exists()
    assert not output.exists()


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_load_with_and_without_the_prefix(
    tmp_path: Path, state: State, target: Mellow, write: Callable[[object, Path], None], prefix: str
) -> None:
    write({f"{prefix}{key}": tensor for key, tensor in state.items()}, tmp_path / "m.ckpt")
    checkpoint = read_checkpoint(tmp_path / "m.ckpt")
    assert not same(target, state)
    load_state(target, checkpoint.state, "m.ckpt")
    assert same(target, state)


def test_a_prefix_on_some_keys_is_no_prefix(tmp_path: Path, state: State, target: Mellow) -> None:
    state[f"module.{EMBEDDING}"] = state.pop(EMBEDDING)
    torch.save(state, tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=f"1 missing: {EMBEDDING}; 1 unexpected: module.{EMBEDDING}"):
        load_state(target, read_checkpoint(tmp_path / "m.ckpt").state, "m.ckpt")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9, 0.999])
def test_half_downloaded_files(tmp_path: Path, state: State, suffix: str, share: float) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".ckpt":
        torch.save(state, path)
    else:
        save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=str(path)):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(3)],
        {},
        {"weights": {"nested": torch.zeros(3)}},
        {"epoch": 3},
        {1: torch.zeros(3)},
        torch.zeros(3),
        "text",
    ],
    ids=str,
)
def test_files_that_are_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match="is no state dict: expected a dictionary from names to tensors"):
        read_checkpoint(tmp_path / "m.ckpt")


def test_a_package_is_no_checkpoint(tiny_package: Path) -> None:
    with pytest.raises(CheckpointError, match="is a package; name the checkpoint that it was exported from"):
        read_checkpoint(tiny_package)


@pytest.mark.parametrize("data", [b"", b"RIFF....WAVEfmt ", b"<html>not found</html>", b"\x80\x02", bytes(1000)])
@pytest.mark.parametrize("name", ["m.ckpt", "m.safetensors"])
def test_files_that_are_no_checkpoint(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(tmp_path / name)


def test_every_missing_unexpected_and_misshapen_key_is_named(state: State, target: Mellow) -> None:
    kept = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    gone = [f"{HTSAT}norm.weight", "audio_encoder.base.c2l.bias"]
    for key in gone:
        del state[key]
    state["extra.one"] = state["extra.two"] = torch.zeros(1)
    state[EMBEDDING] = torch.zeros(5, 7)
    with pytest.raises(CheckpointError) as refused:
        load_state(target, state, "m.ckpt")
    text = str(refused.value)
    assert text.startswith("m.ckpt does not fit this model. ")
    assert f"2 missing: {gone[0]}, {gone[1]}" in text
    assert "2 unexpected: extra.one, extra.two" in text
    assert f"1 of another shape: {EMBEDDING} (5, 7) instead of (320, 48)" in text
    assert same(target, kept), "a refused file must not be loaded in part"


def test_long_lists_are_counted(state: State, target: Mellow) -> None:
    with pytest.raises(CheckpointError, match=r"30 unexpected: (extra\.\d+, ){7}extra\.\d+ and 22 more"):
        load_state(target, {**state, **{f"extra.{n}": torch.zeros(1) for n in range(30)}}, "m.ckpt")


def test_another_model_given_to_the_command(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A single file is taken for the official model, which the tiny one is not."""
    torch.save(state, tmp_path / "m.ckpt")
    monkeypatch.setattr("sys.argv", ["alm-export", "mellow", "--weights", str(tmp_path / "m.ckpt")])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    error = capsys.readouterr().err
    assert "does not fit this model" in error
    assert "missing" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.ckpt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(state: State, target: Mellow, value: float) -> None:
    state[EMBEDDING][3, 5] = value
    with pytest.raises(CheckpointError, match=f"{EMBEDDING} hold NaN or infinity"):
        load_state(target, state, "m.ckpt")


def test_the_mel_filter_bank_of_the_file_wins(state: State, target: Mellow) -> None:
    """Another rounding, or another library's filters: the encoder was trained on the file's."""
    sound = torch.from_numpy(noise(FRONTEND.samples))
    frontend = target.audio_encoder.base.htsat.logmel_extractor
    before = frontend(sound)
    state[MEL] = state[MEL] * 10
    load_state(target, state, "m.ckpt")
    torch.testing.assert_close(frontend(sound), before + 10, rtol=0, atol=1e-3)
    del state[MEL]
    fresh = tiny_model(seed=3)
    load_state(fresh, state, "m.ckpt")
    torch.testing.assert_close(fresh.audio_encoder.base.htsat.logmel_extractor(sound), before)


def official_extras(model: Mellow) -> State:
    """What official files hold besides weights."""
    htsat = model.audio_encoder.base.htsat
    kernels = htsat.logmel_extractor.kernels
    shifted = htsat.layers[0].blocks[1]
    assert shifted.mask is not None
    return {
        f"{HTSAT}spectrogram_extractor.stft.conv_real.weight": kernels[0].unsqueeze(1).clone(),
        f"{HTSAT}spectrogram_extractor.stft.conv_imag.weight": kernels[1].unsqueeze(1).clone(),
        f"{HTSAT}layers.0.blocks.1.attn_mask": shifted.mask.clone(),
        f"{HTSAT}layers.0.blocks.0.attn.relative_position_index": shifted.attn.relative_position_index.clone(),
        "caption_decoder.lm.lm_head.weight": model.state_dict()[EMBEDDING].clone(),
    }


def test_what_can_be_computed_is_compared_and_dropped(source: Mellow, state: State, target: Mellow) -> None:
    unused = {f"{HTSAT}head.weight": torch.zeros(3, 3), f"{HTSAT}head.bias": torch.zeros(3)}
    load_state(target, {**state, **official_extras(source), **unused}, "m.ckpt")
    assert same(target, state)


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("change", [lambda tensor: tensor + 1, lambda tensor: tensor[:-1]], ids=["value", "shape"])
def test_a_file_that_computes_it_otherwise_is_another_model(
    source: Mellow, state: State, target: Mellow, place: int, change: Callable[[Tensor], Tensor]
) -> None:
    extras = official_extras(source)
    key = list(extras)[place]
    extras[key] = change(extras[key])
    with pytest.raises(CheckpointError, match=f"{key} is not what this model computes"):
        load_state(target, {**state, **extras}, "m.ckpt")


def test_a_folder_comes_back_as_it_was_written_in_halves(tmp_path: Path, source: Mellow) -> None:
    weights = load_weights(str(write_tiny(tmp_path / "mine", source)))
    assert (weights.source, weights.name, weights.licence) == ("path", "mine", "CC0-1.0")
    assert weights.model.config == TINY
    assert not weights.model.training
    for key, tensor in source.state_dict().items():
        half = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(weights.model.state_dict()[key], half)


def rewritten(folder: Path, **metadata: str | None) -> Path:
    """The folder with entries of its metadata replaced, or removed where None."""
    path = folder / "model.safetensors"
    kept = {**read_checkpoint(path).metadata, **metadata}
    save_file(load_file(path), path, {key: value for key, value in kept.items() if value is not None})
    return folder


def changed(**fields: object) -> str:
    """The config as JSON, with fields of the encoder replaced."""
    config = TINY.to_dict()
    config["encoder"] |= fields
    return json.dumps(config)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"family": "clap"}, "expected the metadata of a mellow model .* found 'clap'"),
        ({"family": None}, "found 'no family'"),
        ({"licence": None}, "missing .'licence'."),
        ({"config": "{"}, "the config in its metadata is not usable"),
        ({"config": "[]"}, "the config in its metadata is not usable"),
        ({"config": "{}"}, "the config in its metadata is not usable"),
        ({"config": changed(ears=2)}, "the config in its metadata is not usable: .*ears"),
        ({"config": changed(window=0)}, "the config in its metadata is not usable"),
        ({"config": changed(width=-16)}, "the config in its metadata is not usable"),
        ({"config": changed(window="4")}, "the config in its metadata is not usable"),
        ({"config": changed(window=5)}, "the config in its metadata is not usable"),
        ({"config": changed(width=32)}, "does not fit this model"),
        ({"config": changed(heads=(2,))}, "the config in its metadata is not usable"),
    ],
    ids=range(13),
)
def test_a_folder_whose_metadata_is_wrong(tmp_path: Path, metadata: dict[str, str | None], message: str) -> None:
    folder = rewritten(write_tiny(tmp_path / "mine"), **metadata)
    with pytest.raises(CheckpointError, match=message):
        load_weights(str(folder))


def test_a_folder_without_its_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        load_weights(str(tmp_path))
    folder = write_tiny(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        load_weights(str(folder))
    (folder / "tokenizer.json").write_bytes(b"\xff{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        load_weights(str(folder))


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    other = Mellow(replace(TINY, pad_id=17))
    with pytest.raises(CheckpointError, match="the pad token '!' has id 1, the model expects 17"):
        load_weights(str(write_tiny(tmp_path / "mine", other)))
    assert tiny_tokenizer().token_to_id("!") == TINY.pad_id
