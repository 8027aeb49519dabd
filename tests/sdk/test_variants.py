"""A package for several engines: which is loaded, what tells them apart, and what a manifest may not say of them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fakes import TOLERANCES, FakeDecoder, FakeEngine, golden, manifest, noise, tokenizer, weights

import alm
from alm.commands import main
from alm.engines import ENGINES
from alm.package import Component, GoldenInfo, Manifest, Package, Variant, write_package
from alm.package.safetensors import write_tensors
from alm.verify import verify, verify_engines

PARTS = ("audio_encoder", "token_embedding", "decoder")
SHARED = {name: Component("fake", f"{name}.fake", ("weights.safetensors",), "fp32") for name in PARTS}
OTHER = SHARED | {
    "token_embedding": Component("other", "token_embedding.fake", ("weights.safetensors",), "fp32"),
    "decoder": Component("other", "decoder.other", ("other.safetensors",), "int4"),
}


class OtherEngine(FakeEngine):
    name = "other"

    def load_decoder(self, package: Package) -> FakeDecoder:
        entry = package.manifest.components["decoder"].weights[0]
        return FakeDecoder(package.tensors(entry), package.manifest.generation.max_positions)


def engine(threads: int | None) -> OtherEngine:
    return OtherEngine()


def packed(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def other_weights() -> dict[str, np.ndarray]:
    """Another decoder on the same audio encoder and token embedding."""
    changed = weights(seed=1)
    return weights() | {name: changed[name] for name in ("query", "key", "value", "head")}


def variant(**changes: object) -> Variant:
    return Variant(**{"components": OTHER, "golden": GoldenInfo(TOLERANCES), **changes})  # type: ignore[arg-type]


@pytest.fixture
def both(tmp_path: Path, fake_engine: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose first engine is `fake`, the second `other`."""
    monkeypatch.setitem(ENGINES, "other", __name__)
    own = {name: array for name, array in golden(other_weights()).items() if name in ("logits", "tokens")}
    arrays = golden(weights()) | {f"other/{name}": array for name, array in own.items()}
    entries: dict[str, bytes | Path] = {
        "tokenizer.json": tokenizer().to_str().encode(),
        "weights.safetensors": packed(lambda file: write_tensors(file, weights())),
        "other.safetensors": packed(lambda file: write_tensors(file, other_weights())),
        "golden.npz": packed(lambda file: np.savez(file, **arrays)),
        "decoder.other": b"-",
        **{f"{name}.fake": b"-" for name in PARTS},
    }
    path = tmp_path / "both.alm"
    write_package(path, manifest(variants={"other": variant()}), entries)
    return path


def tokens(path: Path, engine: str | None) -> tuple[int, ...]:
    with alm.load(path, engine=engine) as model, model.listen(noise(1)) as clip:
        return clip.ask("what is it?", max_tokens=9).tokens


def test_an_engine_is_chosen_by_name_and_the_first_is_the_default(both: Path) -> None:
    assert tokens(both, None) == tokens(both, "fake") != tokens(both, "other")
    with alm.load(both, engine="other") as model:
        assert model.info.engine == "other"
        assert model.info.components == OTHER
        assert model.info.engines == ("other", "fake")
    with alm.load(both) as model:
        assert model.info.engines == ("fake", "other")


def test_an_engine_that_the_package_lacks_is_refused_and_the_others_are_named(both: Path) -> None:
    with pytest.raises(alm.EngineError, match=r"exported for fake and other, not for 'llama\.cpp'; load it with"):
        alm.load(both, engine="llama.cpp")


def test_each_engine_is_held_against_its_own_self_test(both: Path) -> None:
    assert [(result.engine, result.ok) for result in verify_engines(both)] == [("fake", True), ("other", True)]
    with Package.open(both) as package:
        entries = {name: package.read(name) for name in package.manifest.entries}
        given = package.manifest
    entries["other.safetensors"] = entries["weights.safetensors"]
    write_package(both, given, entries)
    assert verify(both, engine="fake").ok
    broken = verify(both, engine="other")
    assert broken.first_difference is not None
    assert broken.first_difference.stage == "logits"
    with pytest.raises(alm.ParityError, match="on other, stage logits is the first that differs"):
        broken.check()


def test_tolerances_are_those_of_the_engine(both: Path) -> None:
    with Package.open(both) as package:
        entries = {name: package.read(name) for name in package.manifest.entries}
        given = package.manifest
    strict = variant(golden=GoldenInfo({**TOLERANCES, "logits": 0.5}))
    write_package(both, dataclasses.replace(given, variants={"other": strict}), entries)
    assert verify(both, engine="other").stages[3].tolerance == 0.5
    assert verify(both, engine="fake").stages[3].tolerance == TOLERANCES["logits"]


def test_a_session_belongs_to_the_engine_that_heard_it(both: Path, tmp_path: Path) -> None:
    with alm.load(both) as model, model.listen(noise(1)) as clip:
        clip.save(tmp_path / "heard.alms")
    with alm.load(both, engine="fake") as model:
        alm.restore(tmp_path / "heard.alms", model).close()
    with alm.load(both, engine="other") as model, pytest.raises(alm.SessionError, match=r"on fake.*on other"):
        alm.restore(tmp_path / "heard.alms", model)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["alm", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0), capsys.readouterr().out


def test_commands_show_and_take_an_engine(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", *noise(1), subtype="FLOAT")
    status, shown = run(monkeypatch, capsys, "inspect", both)
    assert status == 0
    assert "fake, other" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert [row[1] for row in rows if row and row[0] == "decoder"] == ["fake", "other"]
    assert len([row for row in rows if row and row[0] == "audio_encoder"]) == 1
    asked = "ask", both, tmp_path / "a.wav", "what is it?", "--max-tokens", 9, "--json"
    for engine in ("fake", "other"):
        status, shown = run(monkeypatch, capsys, *asked, "--engine", engine)
        assert (status, tuple(json.loads(shown)["tokens"])) == (0, tokens(both, engine))
    status, shown = run(monkeypatch, capsys, "verify", both, "--json")
    assert (status, [stage["engine"] for stage in json.loads(shown)["stages"]]) == (0, ["fake"] * 5 + ["other"] * 5)
    status, shown = run(monkeypatch, capsys, "verify", both, "--engine", "other", "--json")
    assert [stage["engine"] for stage in json.loads(shown)["stages"]] == ["other"] * 5


@pytest.mark.parametrize(
    ("variants", "match"),
    [
        ({"other": variant(components=SHARED)}, r"variants\['other'\]: found components for 'fake', expected 'other'"),
        ({"fake": variant(components=SHARED)}, "'fake' is the engine of the package's own components already"),
        ({"other": variant(components={})}, "components: found none, expected those of the package: audio_encoder"),
        ({"other": variant(components={"decoder": OTHER["decoder"]})}, "components: found decoder, expected those"),
    ],
)
def test_variants_that_make_no_sense_are_refused(variants: dict[str, Variant], match: str) -> None:
    text = json.dumps(dataclasses.asdict(manifest(variants=variants)))
    with pytest.raises(alm.PackageError, match=match):
        Manifest.from_json(text)


def test_entries_that_only_another_engine_needs_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(alm.PackageError, match="the manifest needs the entry"):
        write_package(tmp_path / "x.alm", manifest(variants={"other": variant()}), {"golden.npz": b""})
    assert not (tmp_path / "x.alm").exists()


def test_packages_of_the_first_schema_are_read() -> None:
    value = dataclasses.asdict(manifest())
    del value["variants"]
    value["schema"] = 1
    read = Manifest.from_json(json.dumps(value))
    assert (read.engines, read.variants) == (("fake",), {})
    assert read == manifest()
    with pytest.raises(alm.PackageError, match="found the field 'variants', which schema 1 does not have"):
        Manifest.from_json(json.dumps({**value, "variants": {}}))
    with pytest.raises(alm.PackageError, match="the field 'variants' is missing"):
        Manifest.from_json(json.dumps({**value, "schema": 2}))


def test_a_manifest_without_components_is_refused() -> None:
    with pytest.raises(alm.PackageError, match="components: found none"):
        Manifest.from_json(json.dumps(dataclasses.asdict(manifest(components={}))))
