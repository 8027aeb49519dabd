"""Read a checkpoint file and load it into a model, strictly: every key accounted for, nothing executed.

The official files are state dicts written by `torch.save`, sometimes with `module.` before every key; those of the
CLAP family stand under the key `model` (microsoft/CLAP).
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from alm.errors import CheckpointError
from alm.package.archive import MANIFEST
from alm_train.checkpoints.extras import EXTRAS, Extras

PARALLEL = "module."
WRAPPER = "model"
LISTED = 8
"""Keys listed per kind of mismatch before the rest is only counted."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file held."""

    state: dict[str, Tensor]
    """Tensors by key, `module.` removed."""
    metadata: dict[str, str]
    """Text entries of a safetensors file; empty for other files."""
    sha256: str
    """Hash of the file."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors file or a `torch.save`d state dict. CheckpointError for anything else.

    Pickles are read with torch's restricted unpickler, which builds tensors and plain containers and refuses
    everything that could run code.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    reader = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    state, metadata = reader(path)
    if all(key.startswith(PARALLEL) for key in state):
        state = {key.removeprefix(PARALLEL): tensor for key, tensor in state.items()}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(state, metadata, digest)


def load_state(model: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Copy `state` into `model`; CheckpointError lists every missing, unexpected and misshapen key.

    `name` says in messages where the state came from. What official files may hold besides is in `extras.py`.
    """
    state = dict(state)
    expected = model.state_dict()
    for path, module in model.named_modules():
        if type(module) in EXTRAS:
            _settle(state, expected, f"{path}." if path else "", EXTRAS[type(module)](module), name)
    _check_keys(state, expected, name)
    broken = [key for key, tensor in state.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise CheckpointError(f"{name}: {_listing(broken)} hold NaN or infinity; get the file again")
    model.load_state_dict(state)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no complete safetensors file: {error}") from error


def _read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Without torch's reason, which advises to read it all the same.
        raise CheckpointError(
            f"{path} holds more than tensors, or is no checkpoint; it was not opened, because such a file can "
            "run code when it is read"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError, ... for damaged files
        if _is_package(path):
            raise CheckpointError(f"{path} is a package; name the checkpoint that it was exported from") from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or only half downloaded ({reason}); get it again") from error
    if isinstance(state, dict) and isinstance(state.get(WRAPPER), dict):
        state = state[WRAPPER]
    pairs = state.items() if isinstance(state, dict) else ()
    if not pairs or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in pairs):
        raise CheckpointError(f"{path} is no state dict: expected a dictionary from names to tensors")
    return state, {}


def _is_package(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _settle(state: dict[str, Tensor], expected: dict[str, Tensor], path: str, extras: Extras, name: str) -> None:
    """Take one module's extras out of `state` and put in what it may lack."""
    below = {key.removeprefix(path): tensor for key, tensor in state.items() if key.startswith(path)}
    for key in [key for key in extras.derived if key in below]:
        computed = extras.derived[key](below)
        if computed is not None:
            _check_derived(f"{path}{key}", state.pop(f"{path}{key}"), computed, name)
    for key in extras.unused:
        state.pop(f"{path}{key}", None)
    for key in extras.optional:
        state.setdefault(f"{path}{key}", expected[f"{path}{key}"])


def _check_derived(key: str, tensor: Tensor, expected: Tensor, name: str) -> None:
    if tensor.shape != expected.shape or not torch.allclose(tensor.float(), expected.float(), atol=1e-4):
        raise CheckpointError(
            f"{name}: {key} is not what this model computes; the file belongs to a model with another "
            "spectrogram, window layout, mask or head"
        )


def _check_keys(state: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    problems = [
        f"{len(keys)} {kind}: {_listing(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{name} does not fit this model. " + "; ".join(problems))


def _listing(keys: list[str]) -> str:
    return ", ".join(keys[:LISTED]) + (f" and {len(keys) - LISTED} more" if len(keys) > LISTED else "")
