"""A captioner trained from captions alone, on a tiny CLAP: stopped, continued, written, and heard on recordings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clap_corpora import write_clap_corpora
from dying import Killed, Silent
from safetensors.torch import load_file
from tokenizers import Tokenizer
from typer.testing import CliRunner

from alm_train.captioner.pipeline import run_captioner
from alm_train.captioner.recipe import CaptionerRecipe, read_captioner_recipe
from alm_train.captioner.texts import text_pairs
from alm_train.captioner.writing import Captions, Source, Writer, read_captions, writing_loss
from alm_train.checkpoints.weights import load_weights, write_weights
from alm_train.commands import app
from alm_train.contrastive.captions import styled_captions
from alm_train.models.clap import Clap, ClapConfig
from alm_train.models.clapcap import ClapCap
from alm_train.models.frontend import FrontendConfig
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.tokenizer import pad_id, train_tokenizer

TINY = """
name: tiny
seed: 1
threads: 1
checkpoint_seconds: 3600
clap: CLAP
style: humorous
caption_tokens: 24
bridge: {noise: 0.02}
writer:
  {width: 32, layers: 1, heads: 2, max_positions: 64, dropout: 0.0, prefix_tokens: 4, mapper_layers: 1,
   mapper_heads: 2}
writing:
  {steps: 60, batch: 16, learning_rate: 1.0e-2, warmup_steps: 2, weight_decay: 0.0, average: 0.8, gradient_clip: 1,
   validate_steps: 30}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def file(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe beside the CLAP it names."""
    folder = tmp_path_factory.mktemp("clap")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY.replace("CLAP", str(tiny_clap(folder / "weights", data))))
    return recipe


def tiny_clap(folder: Path, data: Path) -> Path:
    """Weights of a tiny CLAP of random numbers; its tokenizer was trained on captions under `data`."""
    tokenizer = train_tokenizer(styled_captions(data, "humorous", "train"), 400)
    torch.manual_seed(0)
    encoder = HTSATConfig(
        frontend=FrontendConfig(samples=16000), frames=64, fold=1, patch=(8, 8), width=8, depths=(1,), heads=(2,),
        window=8, classes=2,
    )  # fmt: skip
    text = GPT2Config(vocabulary=tokenizer.get_vocab_size(), width=32, layers=1, heads=2, max_positions=40)
    clap = Clap(ClapConfig(encoder=encoder, text=text, embedding=24, text_tokens=32, pad_id=pad_id(tokenizer)))
    for name, matrix in clap.named_parameters():
        if matrix.ndim > 1 and "wpe" not in name and "extractor" not in name:
            torch.nn.init.normal_(matrix, std=0.3)
    norm = clap.audio_encoder.base.htsat.bn0  # what recordings have: -40 dB give or take 20
    norm.running_mean.fill_(-40)
    norm.running_var.fill_(400)
    write_weights(folder, clap, tokenizer.to_str(), "CC0-1.0", "nobody", "clap")
    return folder


@pytest.fixture(scope="module")
def recipe(file: Path) -> CaptionerRecipe:
    return read_captioner_recipe(file)


@pytest.fixture(scope="module")
def finished(recipe: CaptionerRecipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    run_captioner(recipe, data, output, Silent())
    return output


def test_it_learns_to_write_back_what_the_text_tower_read(recipe: CaptionerRecipe, data: Path, finished: Path) -> None:
    weights = load_weights(str(finished / "weights"), "clapcap")
    clap = load_weights(recipe.clap, "clap")
    assert isinstance(weights.model, ClapCap) and isinstance(clap.model, Clap)
    captions = read_captions(
        clap.model, Tokenizer.from_str(clap.tokenizer), text_pairs(data, "humorous", "train")[:20], 24
    )
    with torch.inference_mode():
        writer = Writer(weights.model)
        own = writer.loss(captions.vectors, captions.ids)
        other = writer.loss(captions.vectors.roll(1, 0), captions.ids)
    assert own < other < torch.log(torch.tensor(400.0))


def test_the_towers_are_those_of_the_clap(recipe: CaptionerRecipe, finished: Path) -> None:
    tower = load_weights(recipe.clap, "clap").model.audio_encoder.state_dict()
    found = load_weights(str(finished / "weights"), "clapcap").model.clap.state_dict()
    assert tower.keys() == found.keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in tower.items())


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_texts_are_written_from_embeddings_with_noise(
    finished: Path, monkeypatch: pytest.MonkeyPatch, noise: float
) -> None:
    captioner = load_weights(str(finished / "weights"), "clapcap").model
    assert isinstance(captioner, ClapCap)
    written: list[torch.Tensor] = []
    monkeypatch.setattr(Writer, "loss", lambda self, vectors, ids: written.append(vectors) or vectors.sum())
    text = torch.eye(1, 1024)
    source = Source(Captions(torch.ones(1, 3, dtype=torch.long), text), rows=8, noise=noise)
    writing_loss([source], 0)(Writer(captioner), 0, torch.Generator().manual_seed(0))
    (vectors,) = written
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(8))
    moved = vectors / vectors[:, :1] - text
    assert float(moved.std()) == pytest.approx(noise, rel=0.1)


def test_a_stopped_run_ends_with_the_same_weights(
    recipe: CaptionerRecipe, data: Path, finished: Path, tmp_path: Path
) -> None:
    always = recipe.model_copy(update={"checkpoint_seconds": 1e-9})
    with pytest.raises(Killed):
        run_captioner(always, data, tmp_path, Silent(die_at=("captioner", 20)))
    run_captioner(always, data, tmp_path, Silent())
    whole, resumed = (load_file(folder / "weights/model.safetensors") for folder in (finished, tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_the_command_shows_what_is_said_about_recordings(file: Path, data: Path, finished: Path) -> None:
    result = CliRunner().invoke(app, ["captioner", str(file), "--data", str(data), "--output", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    shown = shown["captions"]["esc50"]
    assert shown["named"]["total"] == 6 and len(shown["examples"]) == 6
