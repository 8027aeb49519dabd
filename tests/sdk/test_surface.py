"""The public surface of `alm`, and what importing it must not bring in."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import alm
from alm import errors
from alm.models.mellow import Mellow

HEAVY = {"torch", "transformers", "onnx", "onnxruntime", "typer", "rich", "tokenizers", "soundfile", "soxr", "asyncio"}


def loaded_by(program: str) -> set[str]:
    code = f"{program}\nimport sys, json; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_brings_in_nothing_heavy() -> None:
    assert "numpy" in loaded_by("import alm")
    assert not HEAVY & loaded_by("import alm")


def test_help_brings_in_no_engine() -> None:
    program = (
        "import sys; sys.argv = ['alm', 'ask', '--help']\n"
        "from alm.commands import main\n"
        "try:\n    main()\nexcept SystemExit: pass"
    )
    assert not (HEAVY - {"typer", "rich"}) & loaded_by(program)


def test_everything_promised_is_there() -> None:
    assert all(hasattr(alm, name) for name in alm.__all__)
    assert {"load", "Clip", "Answer", "Piece", "Choice", "AlmError"} <= set(alm.__all__)
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert raised <= set(alm.__all__)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (alm.load, ["path", "family", "engine", "threads", "engine_options", "verify", "cache_bytes", "waiting"]),
        (Mellow.listen, ["self", "a", "b", "window", "compat", "progress"]),
        (Mellow.compare, ["self", "a", "b", "question", "window", "compat", "truncate", "options"]),
        (Mellow.watch, ["self", "source", "prompt", "gate", "truncate", "options"]),
        (alm.Clip.ask, ["self", "question", "truncate", "options"]),
        (alm.Clip.stream, ["self", "question", "truncate", "options"]),
        (alm.Clip.choose, ["self", "question", "options"]),
    ],
)
def test_signatures(function: object, names: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == names  # type: ignore[arg-type]


def test_results_are_frozen(clip: alm.Clip) -> None:
    answer = clip.ask("what?")
    with pytest.raises(AttributeError):
        answer.text = "other"  # type: ignore[misc]
    assert hash(answer) == hash(clip.ask("what?")) or answer.timing != clip.ask("what?").timing


def test_a_family_or_engine_we_do_not_have(model: Mellow, tmp_path: object) -> None:
    from pathlib import Path

    from fakes import write_fake

    from alm.package import Component, ModelInfo

    folder = Path(str(tmp_path))
    other = write_fake(folder / "a.alm", model=ModelInfo(family="bellow", name="x", parameters=1))
    with pytest.raises(alm.PackageError, match=r"family 'bellow'; this version knows .*mellow"):
        alm.load(other)
    parts = {
        name: Component("steam", f"{name}.fake", (), "fp32") for name in ("audio_encoder", "token_embedding", "decoder")
    }
    with pytest.raises(alm.EngineError, match="unknown engine 'steam'; this version has: onnxruntime"):
        alm.load(write_fake(folder / "b.alm", components=parts))
    with pytest.raises(
        alm.EngineError, match=r"was exported for fake, not for 'onnxruntime'; load it with engine='fake'"
    ):
        alm.load(model.package.path, engine="onnxruntime")
    with pytest.raises(alm.PackageError, match="missing: token_embedding"):
        del parts["token_embedding"]
        alm.load(write_fake(folder / "c.alm", components=parts))
