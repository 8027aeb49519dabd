"""What the doctor makes of machines it is not running on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import onnxruntime
import pytest

from alm import doctor
from alm.engines.versions import LIBRARIES, Library

PI4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n" * 4
PI5 = "processor\t: 0\nFeatures\t: fp asimd aes crc32 asimdhp asimddp\n" * 4
PHONE = PI5 + "processor\t: 4\nFeatures\t: fp asimd aes crc32 asimdhp asimddp i8mm\n"
PC = "flags\t\t: fpu sse2 avx2 fma avx512_vnni\nmodel name : some flags\n"


def test_a_pi_4_is_told_about_its_package() -> None:
    finding = doctor._features("aarch64", PI4)
    assert finding.value.startswith("none of dotprod")
    assert "rpi4" in finding.advice


def test_features_must_be_on_every_core() -> None:
    assert doctor._features("aarch64", PI5).value == "dotprod, fp16"
    assert doctor._features("arm64", PHONE).value == "dotprod, fp16"
    assert doctor._features("aarch64", PI5).ok


def test_x86() -> None:
    assert doctor._features("x86_64", PC).value == "avx2, fma, avx512_vnni"
    assert "AVX2" in doctor._features("AMD64", "flags : sse2\n").advice
    assert "unknown machine" in doctor._features("riscv64", "").value


def test_memory() -> None:
    plenty = "MemTotal:  4096000 kB\nMemFree: 1 kB\nMemAvailable:  2048000 kB\n"
    assert doctor._memory(plenty) == doctor.Finding("memory", "2000 MiB available of 4000 MiB")
    assert "close other programs" in doctor._memory(plenty.replace("2048000", "100000")).advice
    assert doctor._memory("").ok


def test_an_engine_that_dies_or_fails_is_reported(monkeypatch: object) -> None:
    usable = doctor._engine("onnxruntime")
    assert usable.ok
    assert usable.value.startswith(f"usable; onnxruntime {onnxruntime.__version__} (tested 1.32.0, takes 1.27 to below")
    finding = doctor._engine("no-such-engine")
    assert "unknown engine" in finding.value
    assert not finding.ok


def test_a_version_that_is_not_taken_comes_with_the_one_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library("onnxruntime", "1.32.0", "1.27", "1.28")
    monkeypatch.setitem(LIBRARIES, "onnxruntime", (library,))
    finding = doctor._engine("onnxruntime")
    assert f"onnxruntime {onnxruntime.__version__} (tested 1.32.0, takes 1.27 to below 1.28)" in finding.value
    assert finding.advice == "pip install 'onnxruntime==1.32.0'"


@pytest.mark.parametrize("name", ["numpy", "no-such-library"])
def test_an_absent_engine_is_a_fact_and_a_broken_one_a_fault(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # A torch of another version is no fault by itself: without executorch nothing here uses it.
    torch = Library("soxr", "99", "99", "100") if name == "no-such-library" else Library("soxr", "1", "0", "100")
    monkeypatch.setitem(LIBRARIES, "executorch", (Library(name, "1.5.1", "0", "99"), torch))
    failed = SimpleNamespace(returncode=1, stderr="Traceback:\nalm.errors.DependencyError: it cannot be imported\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *words, **options: failed)
    finding = doctor._engine("executorch")
    if name == "numpy":
        assert finding.value == "it cannot be imported"
        assert finding.advice == "pip install --force-reinstall --no-cache-dir 'numpy==1.5.1'"
    else:
        assert finding.ok
        assert "no-such-library not installed (tested 1.5.1, takes 0 to below 99), soxr" in finding.value
        assert "pip install 'alm-edge[executorch]'" in finding.value


def test_microphones_are_listed_and_their_absence_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"name": "USB Microphone: Audio (hw:1,0)", "max_input_channels": 1, "default_samplerate": 48000.0},
        {"name": "HDMI", "max_input_channels": 0, "default_samplerate": 48000.0},
    ]
    fake = SimpleNamespace(
        query_devices=lambda: entries,
        default=SimpleNamespace(device=[0, 1]),
        get_portaudio_version=lambda: (1246976, "PortAudio V19.7.0-devel, revision unknown"),
    )
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    found = "USB Microphone: Audio (hw:1,0) (default) (PortAudio V19.7.0-devel)"
    assert doctor._microphones() == doctor.Finding("microphones", found)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    missing = doctor._microphones()
    assert missing.ok and "alm-edge[mic]" in missing.value
