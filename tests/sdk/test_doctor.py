"""What the doctor makes of machines it is not running on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import onnxruntime
import pytest

from alm import doctor

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
