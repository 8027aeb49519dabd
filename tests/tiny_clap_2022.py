"""CLAP 2022 small enough to export in seconds: CNN14 and BERT with random weights, 1 s clips, and a few word pieces."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from golden.synthetic import draw
from tokenizers.implementations import BertWordPieceTokenizer

from alm_train.checkpoints.weights import write_weights
from alm_train.models.bert import BertConfig
from alm_train.models.clap2022 import Clap2022, Clap2022Config
from alm_train.models.cnn14 import Cnn14Config
from alm_train.models.frontend import FrontendConfig

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "this", "is", "a", "sound", "of", "rain", "dog", "bark", "##ing", "!")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
VOCABULARY = (*WORDS, *(letter for letter in LETTERS if letter not in WORDS), *(f"##{letter}" for letter in LETTERS))
TINY = Clap2022Config(
    Cnn14Config(FrontendConfig(16000, samples=16000, mels=32, fmax=7000.0), channels=(16, 24, 32), embedding=40),
    BertConfig(vocabulary=len(VOCABULARY) + 3, width=48, hidden=80, layers=3, heads=4, max_positions=100),
    embedding=32,
    text_tokens=90,
)


def tiny_clap_2022(seed: int = 0) -> Clap2022:
    """A model in evaluation mode whose weights depend on `seed` and their names alone."""
    model = Clap2022(TINY)
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and "melW" not in key and tensor.dim():
            state[key] = torch.from_numpy(draw(key, tuple(tensor.shape), seed))
    # What recordings have: -40 dB give or take 20; the other norms follow images of small numbers.
    state["audio_encoder.base.bn0.running_mean"].sub_(40)
    state["audio_encoder.base.bn0.running_var"].mul_(400)
    state["logit_scale"] = torch.tensor(math.log(20.0))
    # As a folder of weights keeps them, so that what comes out of one is this very model.
    model.load_state_dict({key: t.half().float() if t.is_floating_point() else t for key, t in state.items()})
    return model.eval()


def write_vocabulary(path: Path) -> Path:
    """A vocabulary, a token a line, as BERT's authors publish theirs."""
    path.write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    return path


def write_tiny_clap_2022(folder: Path) -> Path:
    """A weights folder for `--weights`."""
    folder.mkdir(parents=True)
    tokenizer = BertWordPieceTokenizer({token: place for place, token in enumerate(VOCABULARY)})
    write_weights(folder, tiny_clap_2022(), tokenizer.to_str(), "CC0-1.0", "random numbers", "clap-2022")
    return folder
