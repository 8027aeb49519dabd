"""The export of CLAP 2022 through the commands and classes of CLAP: parity with PyTorch, its texts, its files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_clap import export_space, write_tiny_clap
from tiny_clap_2022 import TINY, tiny_clap_2022, write_tiny_clap_2022, write_vocabulary
from tiny_mellow import noise

import alm
from alm.errors import CheckpointError, PromptError
from alm.models import Clap, Pam
from alm.models.sound_space import unit
from alm.verify import verify
from alm_export import sound_space
from alm_export.pipeline import Exported
from alm_quantize.probes import bundled_clips
from alm_train.checkpoints import families
from alm_train.checkpoints.weights import load_weights
from alm_train.models.clap import Clap as Clap2023

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ("this is a sound of rain", "Dogs  barking!", "a dog [SEP] rain")
NAMES = ("clap", "clap-2022")


@pytest.fixture(scope="module", autouse=True)
def few_clips() -> Iterator[None]:
    """Quality on four of the bundled clips: these tests are about something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound_space, "bundled_clips", lambda *sizes: dict(islice(bundled_clips(*sizes).items(), 4)))
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clap_2022(tmp_path_factory.mktemp("clap-2022") / "weights")


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_space("clap", weights, tmp_path_factory.mktemp("clap-2022-packages") / "p.alm")


@pytest.fixture(scope="module")
def clap(exported: Exported) -> Iterator[Clap]:
    with alm.load(exported.path, Clap, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> transformers.BertTokenizerFast:
    return transformers.BertTokenizerFast(str(write_vocabulary(tmp_path_factory.mktemp("oracle") / "vocab.txt")))


def test_a_float32_package_is_pytorch(exported: Exported, clap: Clap) -> None:
    assert {part.scheme for part in exported.manifest.components.values()} == {"fp32"}
    assert (clap.info.model.family, clap.info.frontend.sample_rate) == ("clap", 16000)
    sounds = np.stack([noise(16000, seed)[0] for seed in range(3)])
    with torch.inference_mode():
        expected = unit(tiny_clap_2022().embed_audio(torch.from_numpy(sounds)).numpy())
    found = clap.embed_audio([(sound, 16000) for sound in sounds])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert verify(exported.path).ok


def test_texts_are_read_as_bert_reads_them(clap: Clap, oracle: transformers.BertTokenizerFast) -> None:
    """The authors pad to all places and mask the padding; here a text is run at its length."""
    batch = oracle(list(TEXTS), max_length=TINY.text_tokens, padding="max_length", return_tensors="pt")
    model = tiny_clap_2022()
    with torch.inference_mode():
        hidden = model.caption_encoder.base(batch["input_ids"], batch["attention_mask"].bool())[:, 0]
        expected = unit(model.caption_encoder.projection(hidden).numpy())
    np.testing.assert_allclose(clap.embed_text(TEXTS), expected, rtol=0, atol=1e-4)
    with pytest.raises(PromptError, match="has 102 tokens, the limit of this package is 90"):
        clap.embed_text(["rain " * 100])


@pytest.mark.parametrize("scheme", ["int8", "uint8", "int8-block32"])
def test_fewer_bits_are_close_and_smaller(weights: Path, exported: Exported, tmp_path: Path, scheme: str) -> None:
    ladders = {"audio_encoder": (scheme,), "text_encoder": (scheme,)}
    small = export_space("clap", weights, tmp_path / "p.alm", "int8", ladders=ladders)
    assert {part.scheme for part in small.manifest.components.values()} == {scheme}
    whole = small.manifest.quality["whole"]
    assert 0.99 <= min(whole["audio_cosine"], whole["text_cosine"]) < 1
    assert small.path.stat().st_size < 0.8 * exported.path.stat().st_size
    assert verify(small.path).ok


def test_labels_without_the_text_tower_and_scores(weights: Path, clap: Clap, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("dog\nrain\n")
    export_space("clap", weights, tmp_path / "c.alm", labels=tmp_path / "labels.txt", no_text=True)
    sound = noise(16000, 5)[0], 16000
    with alm.load(tmp_path / "c.alm", Clap) as model:
        found = {label.label: label.probability for label in model.classify(sound).labels}
    expected = {label.label: label.probability for label in clap.classify(sound, ["dog", "rain"]).labels}
    assert found == pytest.approx(expected, abs=1e-4)
    export_space("pam", weights, tmp_path / "p.alm")
    with alm.load(tmp_path / "p.alm", Pam) as model:
        assert 0 < model.score(sound).value < 1


def test_a_file_says_which_clap_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official file by path, with BERT's vocabulary from the cache or not at all."""
    state = tiny_clap_2022().state_dict()
    torch.save({"model": state}, tmp_path / "mine.pth")
    cached = tmp_path / "cache" / families.BERT_VOCABULARY.path
    monkeypatch.setenv("ALM_CACHE", str(tmp_path / "cache"))
    kind = replace(families.FAMILIES["clap-2022"], config=lambda: TINY)
    monkeypatch.setitem(families.FAMILIES, "clap-2022", kind)
    with pytest.raises(CheckpointError, match=r"vocab\.txt is not in the cache .* elsewhere and put it there"):
        load_weights(str(tmp_path / "mine.pth"), *NAMES, offline=True)
    write_vocabulary(cached)
    with pytest.raises(CheckpointError, match=r"vocab\.txt is damaged"):
        load_weights(str(tmp_path / "mine.pth"), *NAMES, offline=True)
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    known = replace(families.BERT_VOCABULARY, size=cached.stat().st_size, sha256=digest)
    monkeypatch.setitem(families.FAMILIES, "clap-2022", replace(kind, tokenizer=known))
    weights = load_weights(str(tmp_path / "mine.pth"), *NAMES, offline=True)
    assert (weights.family, weights.name, weights.source) == ("clap-2022", "mine", "path")
    assert all(torch.equal(tensor, state[key]) for key, tensor in weights.model.state_dict().items())
    assert isinstance(load_weights("reference", *NAMES).model, Clap2023)
    with pytest.raises(CheckpointError, match=r"no name of clap weights \(reference, 2023, 2022, random\)"):
        load_weights("2020", *NAMES)


def test_a_folder_says_which_clap_it_is(weights: Path, tmp_path: Path) -> None:
    assert load_weights(str(weights), *NAMES).family == "clap-2022"
    assert load_weights(str(write_tiny_clap(tmp_path / "w")), *NAMES).family == "clap"
    with pytest.raises(CheckpointError, match="expected the metadata of a clap model"):
        load_weights(str(weights), "clap")
    copy = Path(shutil.copytree(weights, tmp_path / "copy"))
    text = (copy / "tokenizer.json").read_text()
    for token, message in (("[PAD]", "the pad token '\\[PAD\\]' has id None"), ("[CLS]", "has no token '\\[CLS\\]'")):
        (copy / "tokenizer.json").write_text(text.replace(token, "[GONE]"))
        with pytest.raises(CheckpointError, match=message):
            load_weights(str(copy), *NAMES)
