"""CLAP 2022: BERT against that of `transformers`, CNN14 and the whole against the sizes of the authors' code."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from torch import Tensor

from alm.errors import CheckpointError
from alm_train.checkpoints.state import load_state
from alm_train.models.bert import Bert, BertConfig
from alm_train.models.clap2022 import Clap2022, Clap2022Config
from alm_train.models.cnn14 import Cnn14Config
from alm_train.models.frontend import FrontendConfig

TINY = Clap2022Config(
    Cnn14Config(FrontendConfig(16000, samples=16000, mels=32, fmax=7000.0), channels=(8, 16, 24), embedding=20),
    BertConfig(vocabulary=97, width=48, hidden=80, layers=3, heads=4, max_positions=64),
    embedding=12,
)


@pytest.fixture(scope="module")
def oracle() -> transformers.BertModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    oracle = transformers.BertModel(config).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(0.0, 0.3)
    return oracle


def tiny_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {key: torch.randn_like(value.float()).to(value.dtype) for key, value in Clap2022(TINY).state_dict().items()}


def test_bert_hidden_states(oracle: transformers.BertModel) -> None:
    model = Bert(TINY.text).eval()
    load_state(model, oracle.state_dict(), "transformers")
    ids = torch.randint(1, 97, (2, 11))
    ids[1, 7:] = 0
    with torch.inference_mode():
        expected = oracle(ids, attention_mask=(ids != 0).long()).last_hidden_state
        torch.testing.assert_close(model(ids, ids != 0), expected, rtol=0, atol=2e-5)


def test_sizes_of_the_official_model() -> None:
    with torch.device("meta"):
        model = Clap2022(Clap2022Config())
    transform, tags, pooler = 2 * 513 * 1024 + 513 * 64, 2048 * 527 + 527, 768 * 768 + 768
    sizes = {
        name: sum(parameter.numel() for parameter in tower.parameters())
        for name, tower in (("audio", model.audio_encoder), ("text", model.caption_encoder))
    }
    assert sizes["audio"] + transform + tags == 84_984_847
    assert sizes["text"] + pooler == 111_319_296
    assert Clap2022Config().encoder.frontend.frames == 690


def test_every_part_of_sound_and_text_counts() -> None:
    torch.manual_seed(0)
    model = Clap2022(TINY).eval()
    sound = torch.randn(1, 16000)
    later = sound.clone()
    later[:, -2000:] = 0
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        assert model.embed_audio(sound).shape == (1, 12)
        assert not torch.allclose(model.embed_audio(sound), model.embed_audio(later))
        padded = torch.cat((ids, torch.zeros(1, 5, dtype=torch.long)), 1)
        torch.testing.assert_close(model.embed_text(ids), model.embed_text(padded), rtol=0, atol=1e-5)
        assert not torch.allclose(model.embed_text(ids), model.embed_text(ids[:, :3]))
        similarity = model.similarity(model.embed_audio(sound), model.embed_text(ids))
    assert similarity.abs() <= 1 / 0.07 + 1e-4


def test_the_official_file_may_hold_what_nothing_reads() -> None:
    model, state = Clap2022(TINY), tiny_state()
    kernels = model.audio_encoder.base.logmel_extractor.kernels
    text, audio = "caption_encoder.base.", "audio_encoder.base."
    extras = {
        f"{text}embeddings.position_ids": torch.arange(64)[None],
        f"{text}pooler.dense.weight": torch.zeros(48, 48),
        f"{text}pooler.dense.bias": torch.zeros(48),
        f"{audio}fc_audioset.weight": torch.zeros(527, 20),
        f"{audio}fc_audioset.bias": torch.zeros(527),
        f"{audio}spectrogram_extractor.stft.conv_real.weight": kernels[0].unsqueeze(1),
        f"{audio}spectrogram_extractor.stft.conv_imag.weight": kernels[1].unsqueeze(1),
    }
    load_state(model, {**state, **extras}, "m.pth")
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    for key in (f"{text}embeddings.position_ids", f"{audio}spectrogram_extractor.stft.conv_imag.weight"):
        with pytest.raises(CheckpointError, match=f"{key} is not what this model computes"):
            load_state(model, {**state, **extras, key: extras[key] + 1}, "m.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected: caption_encoder\.base\.cls\.bias"):
        load_state(model, {**state, f"{text}cls.bias": torch.zeros(1)}, "m.pth")


def test_the_config_survives_json() -> None:
    assert Clap2022Config.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
