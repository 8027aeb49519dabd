"""Weights by name: `reference`, an official one such as `v0`, `random`, or a path. Never guessed.

A folder of weights holds `model.safetensors` (float16 or float32, with family, config, licence and
attribution as metadata) and `tokenizer.json`. The official checkpoint is a single file of known shape.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import WordPiece
from torch import nn

from alm.errors import CheckpointError
from alm_train.checkpoints.download import OFFICIAL, RemoteFile, fetch
from alm_train.checkpoints.families import Config, Family, find_family
from alm_train.checkpoints.state import Checkpoint, load_state, read_checkpoint

MODEL = "model.safetensors"
TOKENIZER = "tokenizer.json"

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Weights:
    """A loaded model with everything a package must say about it."""

    family: str
    """Family of the model."""
    model: nn.Module
    """In evaluation mode."""
    tokenizer: str
    """tokenizer.json as text, the special tokens registered."""
    source: str
    """`reference`, `random`, `path` or the name of an official checkpoint."""
    name: str
    """Name of the model."""
    sha256: str
    """Hash of the file, or of the tensors of random weights."""
    licence: str
    """Licence of the weights."""
    attribution: str
    """Who made them, from what."""


def load_weights(
    source: str,
    family: str = "mellow",
    *others: str,
    offline: bool = False,
    progress: Progress | None = None,
) -> Weights:
    """Load the weights of a family, or of `others` (versions of it), by name or path.

    What a file or folder says decides between them; `reference` and `random` are the first one's. `progress(done,
    total)` counts downloaded bytes. Raises CheckpointError; for a name that is neither known nor a path the message
    lists the names.
    """
    kind, *_ = kinds = [find_family(name) for name in (family, *others)]
    official = {name: kind for kind in kinds for name in kind.official}
    if source == "reference":
        with as_file(files("alm_train") / "weights" / family) as folder:
            if not folder.is_dir():
                known = ", ".join((*official, "random"))
                raise CheckpointError(
                    f"no small {family} weights come with this version; pass --weights with one of {known}, or a path"
                )
            return _from_folder(kinds, folder, "reference")
    if source in official:
        file = fetch(OFFICIAL[source], offline=offline, progress=progress)
        return _official(official[source], read_checkpoint(file), file, source, offline)
    if source == "random":
        return _random(kind)
    path = Path(source)
    if path.is_dir():
        return _from_folder(kinds, path, "path")
    if path.is_file():
        checkpoint = read_checkpoint(path)
        kind = next((other for other in kinds[1:] if any(other.mark in key for key in checkpoint.state)), kind)
        return _official(kind, checkpoint, path, "path", offline)
    known = ", ".join(("reference", *official, "random"))
    raise CheckpointError(f"--weights {source}: no such file or folder, and no name of {family} weights ({known})")


def write_weights(
    folder: Path, model: nn.Module, tokenizer: str, licence: str, attribution: str, family: str = "mellow"
) -> None:
    """Write a folder that `load_weights` takes, the tensors in float16."""
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    halves = {key: t.half() if t.is_floating_point() else t for key, t in state.items()}
    metadata = {
        "family": family,
        "config": json.dumps(model.config.to_dict()),
        "licence": licence,
        "attribution": attribution,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # As bytes: what the library itself writes, only its owner may read.
    (folder / MODEL).write_bytes(save(halves, metadata))
    (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")


def _from_folder(families: Sequence[Family], folder: Path, source: str) -> Weights:
    checkpoint = read_checkpoint(folder / MODEL)
    metadata = checkpoint.metadata
    missing = {"family", "config", "licence", "attribution"} - metadata.keys()
    named = {family.name: family for family in families}
    if missing or metadata["family"] not in named:
        raise CheckpointError(
            f"{folder / MODEL}: expected the metadata of a {' or '.join(named)} model with family, config, licence and "
            f"attribution; found {metadata.get('family', 'no family')!r}, missing {sorted(missing)}"
        )
    family = named[metadata["family"]]
    try:
        config = family.config.from_dict(json.loads(metadata["config"]))
        model = family.module(config)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / MODEL}: the config in its metadata is not usable: {error}") from error
    load_state(model, checkpoint.state, str(folder / MODEL))
    return Weights(
        family=family.name,
        model=model.eval(),
        tokenizer=_tokenizer(folder / TOKENIZER, family, config),
        source=source,
        name=f"{family.name}-reference" if source == "reference" else folder.resolve().name,
        sha256=checkpoint.sha256,
        licence=metadata["licence"],
        attribution=metadata["attribution"],
    )


def _official(family: Family, checkpoint: Checkpoint, path: Path, source: str, offline: bool) -> Weights:
    config = family.config()
    tokenizer = _official_tokenizer(family, config, offline)
    model = family.module(config)
    load_state(model, checkpoint.state, str(path))
    named = source in family.official
    return Weights(
        family=family.name,
        model=model.eval(),
        tokenizer=tokenizer,
        source=source,
        name=_official_name(family, source) if named else path.stem,
        sha256=checkpoint.sha256,
        licence=family.licence if named else "not stated: the licence of the file you gave",
        attribution=family.attribution,
    )


def _official_name(family: Family, source: str) -> str:
    name = source.replace("_", "-")
    if family.name.endswith(name):
        return family.name
    return name if name.startswith(family.name) else f"{family.name}-{name}"


def _random(family: Family, seed: int = 0) -> Weights:
    torch.manual_seed(seed)
    config = family.config()
    model = family.module(config)
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy().data)
    return Weights(
        family=family.name,
        model=model.eval(),
        tokenizer=_official_tokenizer(family, config, offline=True),
        source="random",
        name=f"{family.name}-random",
        sha256=digest.hexdigest(),
        licence="CC0-1.0",
        attribution=f"random numbers in the official shapes, seed {seed}; for measuring speed and memory only",
    )


def _official_tokenizer(family: Family, config: Config, offline: bool) -> str:
    if isinstance(family.tokenizer, RemoteFile):
        return _tokenizer(fetch(family.tokenizer, offline=offline), family, config)
    with as_file(files("alm_train") / "tokenizers" / family.tokenizer) as path:
        return _tokenizer(path, family, config)


def _tokenizer(path: Path, family: Family, config: Config) -> str:
    """tokenizer.json from such a file, or from a vocabulary of word pieces (.txt), a token a line."""
    try:
        if path.suffix == ".txt":
            tokenizer = BertWordPieceTokenizer(WordPiece.read_file(str(path)))
        else:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise CheckpointError(f"{path} is no tokenizer: {error}") from error
    pad, *others = family.special
    if tokenizer.token_to_id(pad) != config.pad_id:
        raise CheckpointError(
            f"{path}: the pad token {pad!r} has id {tokenizer.token_to_id(pad)}, the model expects {config.pad_id}"
        )
    if missing := [token for token in others if tokenizer.token_to_id(token) is None]:
        raise CheckpointError(f"{path} has no token {missing[0]!r}, which the model's texts need")
    tokenizer.add_special_tokens(list(family.special))
    return str(tokenizer.to_str())
