"""Weights by name: `reference`, `v0`, `v0_s`, `random`, or a path. Never guessed.

A folder of weights holds `model.safetensors` (float16 or float32, with family, config, licence and
attribution as metadata) and `tokenizer.json`. The official checkpoint is a single file of known shape.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from alm.errors import CheckpointError
from alm_train.checkpoints.download import OFFICIAL, fetch
from alm_train.checkpoints.state import load_mellow, read_checkpoint
from alm_train.models.mellow import Mellow, MellowConfig

MODEL = "model.safetensors"
TOKENIZER = "tokenizer.json"
PAD = "!"
"""Text of the pad token: an ordinary token of the vocabulary that the authors registered as special."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Weights:
    """A loaded model with everything a package must say about it."""

    model: Mellow
    """In evaluation mode."""
    tokenizer: str
    """tokenizer.json as text, the pad token registered."""
    source: str
    """`reference`, `v0`, `v0_s`, `random` or `path`."""
    name: str
    """Name of the model."""
    sha256: str
    """Hash of the file, or of the tensors of random weights."""
    licence: str
    """Licence of the weights."""
    attribution: str
    """Who made them, from what."""


def load_weights(source: str, *, offline: bool = False, progress: Progress | None = None) -> Weights:
    """Load Mellow weights by name or path. `progress(done, total)` counts downloaded bytes.

    Raises CheckpointError; for a name that is neither known nor a path the message lists the names.
    """
    if source == "reference":
        with as_file(files("alm_train") / "weights" / "mellow") as folder:
            return _from_folder(folder, "reference")
    if source in OFFICIAL:
        return _official(fetch(OFFICIAL[source], offline=offline, progress=progress), source)
    if source == "random":
        return _random()
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, "path")
    if path.is_file():
        return _official(path, "path")
    known = ", ".join(("reference", *OFFICIAL, "random"))
    raise CheckpointError(f"--weights {source}: no such file or folder, and no name of weights ({known})")


def write_weights(folder: Path, model: Mellow, tokenizer: str, licence: str, attribution: str) -> None:
    """Write a folder that `load_weights` takes, the tensors in float16."""
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    halves = {key: t.half() if t.is_floating_point() else t for key, t in state.items()}
    metadata = {
        "family": "mellow",
        "config": json.dumps(model.config.to_dict()),
        "licence": licence,
        "attribution": attribution,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(halves, folder / MODEL, metadata)
    (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")


def _from_folder(folder: Path, source: str) -> Weights:
    checkpoint = read_checkpoint(folder / MODEL)
    metadata = checkpoint.metadata
    missing = {"family", "config", "licence", "attribution"} - metadata.keys()
    if missing or metadata["family"] != "mellow":
        raise CheckpointError(
            f"{folder / MODEL}: expected the metadata of a mellow model with family, config, licence and "
            f"attribution; found {metadata.get('family', 'no family')!r}, missing {sorted(missing)}"
        )
    try:
        model = Mellow(MellowConfig.from_dict(json.loads(metadata["config"])))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / MODEL}: the config in its metadata is not usable: {error}") from error
    load_mellow(model, checkpoint.state, str(folder / MODEL))
    name = "mellow-reference" if source == "reference" else folder.resolve().name
    tokenizer = _tokenizer(folder / TOKENIZER, model.config)
    return Weights(
        model.eval(), tokenizer, source, name, checkpoint.sha256, metadata["licence"], metadata["attribution"]
    )


def _official(path: Path, source: str) -> Weights:
    checkpoint = read_checkpoint(path)
    model = Mellow(MellowConfig())
    load_mellow(model, checkpoint.state, str(path))
    attribution = "Mellow by Deshmukh, Dixit, Singh and Raj (arXiv 2503.08540), github.com/soham97/mellow"
    name = f"mellow-{source.replace('_', '-')}" if source in OFFICIAL else path.stem
    licence = "MIT" if source in OFFICIAL else "not stated: the licence of the file you gave"
    return Weights(
        model.eval(), _official_tokenizer(model.config), source, name, checkpoint.sha256, licence, attribution
    )


def _random(seed: int = 0) -> Weights:
    torch.manual_seed(seed)
    model = Mellow(MellowConfig())
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy().data)
    return Weights(
        model.eval(),
        _official_tokenizer(model.config),
        "random",
        "mellow-random",
        digest.hexdigest(),
        "CC0-1.0",
        f"random numbers in the official shapes, seed {seed}; for measuring speed and memory only",
    )


def _official_tokenizer(config: MellowConfig) -> str:
    with as_file(files("alm_train") / "tokenizers" / "smollm2.json") as path:
        return _tokenizer(path, config)


def _tokenizer(path: Path, config: MellowConfig) -> str:
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise CheckpointError(f"{path} is no tokenizer: {error}") from error
    if tokenizer.token_to_id(PAD) != config.pad_id:
        raise CheckpointError(
            f"{path}: the pad token {PAD!r} has id {tokenizer.token_to_id(PAD)}, the model expects {config.pad_id}"
        )
    tokenizer.add_special_tokens([PAD])
    return tokenizer.to_str()
