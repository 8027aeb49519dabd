"""Libraries that this processor cannot run: found out before they end the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes import write_fake

import alm
from alm.engines import processor
from alm.engines.processor import check_processor, features
from alm.package import Component

ILLEGAL = """
import ctypes, mmap, platform
# ud2 and udf, which are illegal on every processor of their kind.
code = {"x86_64": b"\\x0f\\x0b", "aarch64": bytes(4)}[platform.machine()]
memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(code)
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
"""
GOOD = """
def llama_backend_init(): pass
def llama_print_system_info(): return b"CPU : AVX2 = 1 | AVX512_VNNI = 1 | F16C = 0 | REPACK = 1 | "
"""
VNNI = "flags : fpu avx2 avx512_vnni\n"


class Library:
    """A `llama_cpp` of our making, where the engine looks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "llama_cpp"
        (self.folder / "lib").mkdir(parents=True)
        self.built = 0

    def build(self, code: str) -> None:
        """Install it anew."""
        self.built += 1
        (self.folder / "__init__.py").write_text(code)
        (self.folder / "lib" / "libllama.so").write_bytes(b"." * self.built)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for module in ("llama_cpp", "alm.engines.llama_cpp"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return Library(tmp_path / "site")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What has been started so far."""
    started: list[object] = []
    run = subprocess.run

    def counted(*arguments: object, **options: object) -> object:
        started.append(arguments)
        return run(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", counted)
    return started


def test_loading_a_package_names_the_library_and_what_to_do(library: Library, tmp_path: Path) -> None:
    library.build(ILLEGAL)
    names = "audio_encoder", "token_embedding", "decoder"
    path = write_fake(
        tmp_path / "p.alm", components={name: Component("llama.cpp", f"{name}.fake", (), "fp32") for name in names}
    )
    with pytest.raises(alm.EngineError) as caught:
        alm.load(path)
    message = str(caught.value)
    assert f"the library of the engine 'llama.cpp' in {library.folder} ends with the signal SIGILL" in message
    assert "pip install --force-reinstall --no-cache-dir 'llama-cpp-python==" in message


def test_a_verdict_is_kept_until_the_library_changes(library: Library, trials: list[object]) -> None:
    library.build(ILLEGAL)
    for _ in range(3):
        with pytest.raises(alm.EngineError, match="SIGILL"):
            check_processor("llama.cpp")
    assert len(trials) == 1
    library.build(GOOD.replace("AVX512_VNNI = 1", "AVX512_VNNI = 0").replace("AVX2 = 1", "AVX2 = 0"))
    for _ in range(3):
        check_processor("llama.cpp")
    assert len(trials) == 2


def test_a_verdict_belongs_to_a_processor(
    library: Library, trials: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.build(GOOD)
    monkeypatch.setattr(processor, "_read", lambda path: VNNI)
    check_processor("llama.cpp")
    monkeypatch.setattr(processor, "_read", lambda path: "flags : fpu avx2\n")
    with pytest.raises(alm.EngineError, match="uses avx512_vnni, which this processor lacks"):
        check_processor("llama.cpp")
    assert len(trials) == 2


@pytest.mark.parametrize(
    "code", ["raise ValueError('broken')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
)
def test_what_says_nothing_about_the_processor_is_no_verdict(library: Library, trials: list[object], code: str) -> None:
    library.build(code)
    for _ in range(2):
        check_processor("llama.cpp")
    assert len(trials) == 2


@pytest.mark.parametrize("damage", ["not json", "[1]", '{"a": 1}'])
def test_damaged_or_unwritable_verdicts_only_cost_a_trial(
    library: Library, trials: list[object], tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.build(ILLEGAL)
    kept = tmp_path / "cache" / "alm-edge" / "engines.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(damage)
    with pytest.raises(alm.EngineError, match="SIGILL"):
        check_processor("llama.cpp")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    for _ in range(2):
        with pytest.raises(alm.EngineError, match="SIGILL"):
            check_processor("llama.cpp")
    assert len(trials) == 3


def test_a_library_that_is_loaded_or_absent_is_not_tried(
    library: Library, trials: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.build(ILLEGAL)
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    check_processor("llama.cpp")
    check_processor("an engine of one's own")
    assert trials == []


def test_features_are_those_of_every_core() -> None:
    assert features("Features\t: fp asimd i8mm\nFeatures\t: fp asimd\nmodel name : flags\n") == {"fp", "asimd"}
    assert features("") == frozenset()
