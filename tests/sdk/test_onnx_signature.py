"""ONNX graphs that are valid and belong to another package: refused when they are loaded, with names and sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_mellow import entries_of

import alm
from alm.package import Manifest, write_package

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("section", "changes", "match"),
    [
        ("decoder", {"layers": 1}, "'decoder.onnx' has the unknown input 'past_key_1'"),
        ("decoder", {"layers": 3}, "'decoder.onnx' lacks the input 'past_key_2'"),
        ("decoder", {"kv_heads": 3}, r"the input 'past_key_0' as tensor\(float\) of \(1, 1, \d+, 16\), .* \(1, 3, "),
        ("decoder", {"head_dim": 32}, r"'past_key_0' as .*, 16\), the manifest says .*, 32\)"),
        ("decoder", {"width": 64}, r"as tensor\(float\) of \(1, \w+, 48\), .* \(1, \w+, 64\)"),
        ("decoder", {"vocabulary": 321}, r"'logits' as tensor\(float\) of \(any, 320\), .* \(any, 321\)"),
        ("decoder", {"max_positions": 255}, "'past_key_0' as .* the manifest says"),
        ("frontend", {"samples": 16001}, r"'waveform' as tensor\(float\) of \(1, 16000\), .* \(1, 16001\)"),
        ("prompt", {"audio_tokens": 4}, r"'audio_tokens' as tensor\(float\) of \(1, \d+, 48\), .* \(1, 4, 48\)"),
    ],
)
def test_a_graph_of_other_sizes(
    tiny_package: Path, tmp_path: Path, section: str, changes: dict[str, int], match: str
) -> None:
    manifest, entries = entries_of(tiny_package)
    changed: Manifest = replace(manifest, **{section: replace(getattr(manifest, section), **changes)})
    if "max_positions" in changes:
        generation = replace(changed.generation, max_positions=changes["max_positions"])
        changed = replace(changed, generation=generation)
    write_package(tmp_path / "p.alm", changed, entries)
    with pytest.raises(alm.EngineError, match=match):
        alm.load(tmp_path / "p.alm")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("decoder", "token_embedding"),
        ("token_embedding", "decoder"),
        ("audio_encoder", "decoder"),
        ("decoder", "audio_encoder"),
    ],
)
def test_components_that_are_swapped(tiny_package: Path, tmp_path: Path, one: str, other: str) -> None:
    manifest, entries = entries_of(tiny_package)
    components = {**manifest.components, one: manifest.components[other]}
    write_package(tmp_path / "p.alm", replace(manifest, components=components), entries)
    with pytest.raises(alm.EngineError, match=f"'{other}.onnx' (lacks the|has the unknown) input"):
        alm.load(tmp_path / "p.alm")
