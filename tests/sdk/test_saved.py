"""Sessions in files: the same answers after a restore, the package that made them, and whatever a file may hold."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import AUDIO_TOKENS, PREFIX, WIDTH, noise, weights, write_fake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_mellow import FRONTEND
from tiny_mellow import RATE as TINY_RATE
from tiny_mellow import noise as tiny_noise

import alm
from alm.errors import AlmError, EngineError, SessionError
from alm.heard import saved
from alm.heard.prefix import KEPT_PREFIXES
from alm.models.mellow import Mellow
from alm.package.safetensors import read_metadata, read_tensors, write_tensors

QUESTIONS = ["what is it?", "how many?", "where?"]
Parts = tuple[dict[str, Any], dict[str, np.ndarray]]


def answers(clip: alm.Clip) -> list[object]:
    """All that can be asked of a session."""
    asked = [clip.ask(question, max_tokens=8) for question in QUESTIONS]
    return [*((answer.text, answer.tokens, answer.windows) for answer in asked), clip.choose("loud?", ["yes", "no"])]


def listen(model: Mellow, windows: float, pair: bool) -> alm.Clip:
    return model.listen(noise(windows), noise(windows, seed=1)) if pair else model.listen(noise(windows))


@pytest.mark.parametrize(("windows", "pair"), [(1, False), (0.4, False), (1, True), (KEPT_PREFIXES + 1.5, False)])
@pytest.mark.parametrize("prefixes", [True, False])
def test_answers_are_the_same_after_a_restore(
    model: Mellow, tmp_path: Path, windows: float, pair: bool, prefixes: bool
) -> None:
    clip = listen(model, windows, pair)
    expected, spans = answers(clip), clip.spans
    clip.save(tmp_path / "clip.alms", prefixes=prefixes)
    assert [path.name for path in tmp_path.glob("*clip*")] == ["clip.alms"]
    with alm.load(model.package.path) as other:
        restored = alm.restore(tmp_path / "clip.alms", other)
        assert restored.spans == spans
        assert answers(restored) == expected
        assert answers(restored.fork()) == expected
        restored.save(tmp_path / "again.alms", prefixes=prefixes)
        assert (tmp_path / "again.alms").read_bytes() == (tmp_path / "clip.alms").read_bytes()


@pytest.mark.parametrize(("prefixes", "prefills"), [(True, 0), (False, KEPT_PREFIXES)])
def test_a_question_after_a_restore_needs_no_prefill(
    model: Mellow, tmp_path: Path, prefixes: bool, prefills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.listen(noise(float(KEPT_PREFIXES))).save(tmp_path / "clip.alms", prefixes=prefixes)
    monkeypatch.setattr(model, "encode", None)
    appended: list[int] = model.reader.decoder.appended  # type: ignore[attr-defined]
    appended.clear()
    restored = alm.restore(tmp_path / "clip.alms", model)
    assert appended.count(PREFIX) == prefills
    restored.ask("what?")
    assert appended.count(PREFIX) == prefills


def test_a_session_is_saved_after_its_model_was_closed(model: Mellow, tmp_path: Path) -> None:
    clip = model.listen(noise(1))
    expected = answers(clip)
    model.close()
    clip.save(tmp_path / "clip.alms")
    with pytest.raises(AlmError, match="model is closed"):
        alm.restore(tmp_path / "clip.alms", model)
    clip.close()
    with pytest.raises(AlmError, match="session is closed"):
        clip.save(tmp_path / "clip.alms")
    with alm.load(model.package.path) as other:
        assert answers(alm.restore(tmp_path / "clip.alms", other)) == expected


def test_a_save_that_fails_leaves_what_was_there(
    model: Mellow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = model.listen(noise(1))
    with pytest.raises(SessionError, match=r"cannot be saved to .*nowhere"):
        clip.save(tmp_path / "nowhere" / "clip.alms")
    clip.save(tmp_path / "clip.alms")
    before = (tmp_path / "clip.alms").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SessionError, match="No space left"):
        model.listen(noise(1, seed=1)).save(tmp_path / "clip.alms")
    assert (tmp_path / "clip.alms").read_bytes() == before
    assert len(list(tmp_path.glob("*clip*"))) == 1


def test_another_package_is_named(model: Mellow, tmp_path: Path) -> None:
    model.listen(noise(1)).save(tmp_path / "clip.alms")
    other = write_fake(tmp_path / "other.alm", tensors=weights(seed=1), scheme="int8")
    with alm.load(other) as loaded:
        with pytest.raises(SessionError) as caught:
            alm.restore(tmp_path / "clip.alms", loaded)
        for words in (
            "clip.alms: the session was made with",
            model.package.fingerprint[:16],
            "mellow-fake, fp32, for x86_64",
            f"{other} is {loaded.package.fingerprint[:16]}",
            "mellow-fake, int8, for x86_64",
            "listen to the recording again",
        ):
            assert words in str(caught.value)


def test_a_copy_of_the_package_is_the_same_package(model: Mellow, tmp_path: Path) -> None:
    clip = model.listen(noise(1))
    clip.save(tmp_path / "clip.alms")
    (tmp_path / "copy.alm").write_bytes(model.package.path.read_bytes())
    with alm.load(tmp_path / "copy.alm", verify=False) as copy:
        assert answers(alm.restore(tmp_path / "clip.alms", copy)) == answers(clip)


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "fifo", "package", "text", "tensors"])
def test_files_that_are_no_session(model: Mellow, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "package":
        path = model.package.path
    elif kind == "text":
        path.write_text("what is happening?")
    elif kind == "tensors":
        with path.open("wb") as file:
            write_tensors(file, {"rows.0": np.zeros((3, WIDTH), np.float32)}, {"format": "pt"})
    with pytest.raises(SessionError, match=str(path)):
        alm.restore(path, model)


@pytest.fixture
def whole(model: Mellow, tmp_path: Path) -> bytes:
    """The bytes of a session of two windows, one of them with its prefix in the file."""
    model.listen(noise(2.0)).save(tmp_path / "whole.alms")
    description, tensors = taken_apart((tmp_path / "whole.alms").read_bytes())
    del tensors["prefix.1"]
    return sealed(description, tensors)


def taken_apart(data: bytes) -> Parts:
    tensors = {name: tensor.copy() for name, tensor in read_tensors(data).items()}
    return json.loads(read_metadata(data)[saved.DESCRIPTION]), tensors


def sealed(description: Any, tensors: dict[str, np.ndarray]) -> bytes:
    """A file whose digest is right, whatever it holds."""
    if isinstance(description, dict) and set(description) == {f.name for f in dataclasses.fields(saved.Description)}:
        # The digest reads the description as plain JSON, so nothing but its fields matters here.
        record = saved.Description(**{**description, "windows": tuple(as_window(w) for w in description["windows"])})
        description = {**description, "digest": saved._digest(record, tensors)}
    file = io.BytesIO()
    write_tensors(file, tensors, {saved.DESCRIPTION: json.dumps(description)})
    return file.getvalue()


def as_window(window: Any) -> Any:
    return saved.SavedWindow(**window) if isinstance(window, dict) and len(window) == 3 else window


def restored(model: Mellow, data: bytes, folder: Path) -> alm.Clip:
    (folder / "hostile.alms").write_bytes(data)
    return alm.restore(folder / "hostile.alms", model)


fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def test_a_file_cut_anywhere_is_refused(model: Mellow, whole: bytes, tmp_path: Path) -> None:
    assert restored(model, whole, tmp_path).ask("what?").tokens
    for end in [*range(0, len(whole), 23), len(whole) - 1]:
        with pytest.raises(SessionError):
            restored(model, whole[:end], tmp_path)
    with pytest.raises(SessionError):
        restored(model, whole + b"\0", tmp_path)


@fuzzed
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(model: Mellow, whole: bytes, tmp_path: Path, place: float, bit: int) -> None:
    flipped = bytearray(whole)
    flipped[int(place * len(whole))] ^= 1 << bit
    with pytest.raises(SessionError):
        restored(model, bytes(flipped), tmp_path)


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], object]


def put(name: str, value: np.ndarray) -> Change:
    return lambda description, tensors: tensors.update({name: value})


def with_value(name: str, value: float) -> Change:
    def change(description: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors[name].reshape(-1)[5] = value

    return change


def window(index: int, **changes: object) -> Change:
    return lambda description, tensors: description["windows"][index].update(changes)


ROWS, STATE = (AUDIO_TOKENS, WIDTH), (2, PREFIX, WIDTH)
HOSTILE: dict[str, tuple[Change, str]] = {
    "NaN in audio tokens": (with_value("rows.0", np.nan), "audio tokens of sound 0 are not all finite"),
    "infinity in audio tokens": (with_value("rows.1", -np.inf), "audio tokens of sound 1 are not all finite"),
    "NaN in a prefix": (with_value("prefix.0", np.nan), "prefix does not fit the decoder: .* finite"),
    "infinity in a prefix": (with_value("prefix.0", np.inf), "prefix does not fit the decoder: .* finite"),
    "rows too wide": (put("rows.0", np.zeros((AUDIO_TOKENS, WIDTH + 1), np.float32)), r"rows\.0 is float32 of shape"),
    "rows of doubles": (put("rows.0", np.zeros(ROWS)), r"rows\.0 is float64"),
    "flat rows": (put("rows.0", np.zeros(WIDTH, np.float32)), r"rows\.0 is float32 of shape"),
    "no rows": (put("rows.0", np.zeros((0, WIDTH), np.float32)), r"repeats\.0 does not make 3 audio tokens"),
    "a row too few": (put("rows.0", np.zeros((2, WIDTH), np.float32)), r"repeats\.0 does not make 3"),
    "repeats of nothing": (put("repeats.0", np.array([0, 1, 2])), r"repeats\.0 does not make 3"),
    "negative repeats": (put("repeats.0", np.array([-1, 2, 2])), r"repeats\.0 does not make 3"),
    "repeats past memory": (put("repeats.0", np.array([2**62, 2**62, 2**62])), r"repeats\.0 does not make 3"),
    "repeats that wrap to three": (put("repeats.0", np.array([-(2**63), -(2**63), 3])), r"repeats\.0 does not make 3"),
    "too many tokens": (put("repeats.0", np.array([1, 1, 2])), r"repeats\.0 does not make 3"),
    "repeats as floats": (put("repeats.0", np.ones(3)), r"repeats\.0 does not make 3"),
    "short prefix": (put("prefix.0", np.zeros((2, PREFIX - 1, WIDTH), np.float32)), f"prefix of {PREFIX - 1} pos"),
    "long prefix": (put("prefix.0", np.zeros((2, PREFIX + 1, WIDTH), np.float32)), f"prefix of {PREFIX + 1} pos"),
    "prefix past the cache": (put("prefix.0", np.zeros((2, 4000, WIDTH), np.float32)), "does not fit the decoder"),
    "prefix of another shape": (put("prefix.0", np.zeros((WIDTH, PREFIX, 2), np.float32)), "does not fit the decoder"),
    "scalar prefix": (put("prefix.0", np.zeros((), np.float32)), "does not fit the decoder"),
    "empty prefix": (put("prefix.0", np.zeros((2, 0, WIDTH), np.float32)), "does not fit the decoder"),
    "prefix of halves": (put("prefix.0", np.zeros(STATE, np.float16)), "does not fit the decoder: .* float16"),
    "a prefix of no window": (put("prefix.2", np.zeros(STATE, np.float32)), r"'prefix\.2' is missing or one too many"),
    "a sound of no window": (put("rows.2", np.zeros(ROWS, np.float32)), r"'rows\.2' is missing or one too many"),
    "unknown tensors": (put("notes", np.zeros(3)), "'notes' is missing or one too many"),
    "a sound missing": (lambda _, tensors: tensors.pop("repeats.1"), r"'repeats\.1' is missing or one too many"),
    "no windows": (lambda description, _: description.update(windows=[]), "do not name two sounds each"),
    "one slot": (window(0, sounds=[0]), "do not name two sounds each"),
    "three slots": (window(0, sounds=[0, 1, 1]), "do not name two sounds each"),
    "a sound left out": (window(1, sounds=[0, 0]), r"'repeats\.1' is missing or one too many"),
    "sounds counted from 1": (window(0, sounds=[2, 2]), "do not name two sounds each"),
    "a negative sound": (window(0, sounds=[-1, 0]), r"sounds\[0\]: found -1"),
    "a sound that is no number": (window(0, sounds=["0", 0]), "found '0', expected a whole number"),
    "an end before its start": (window(0, end=0.0), "not in order of time"),
    "time running backwards": (window(0, start=0.5, end=0.6), "not in order of time"),
    "endless time": (window(1, end=1e300), r"end: found 1e\+300"),
    "an older schema": (lambda description, _: description.update(schema=0), "found a session of schema 0"),
    "a newer schema": (
        lambda description, _: description.update(schema=2, more=1),
        "found a session of schema 2, this version reads 1; save it again with this version",
    ),
    "true as schema": (lambda description, _: description.update(schema=True), "found a session of schema True"),
    "no schema": (lambda description, _: description.pop("schema"), "found a session of schema None"),
    "an unknown field": (lambda description, _: description.update(more=1), "unknown field 'more'"),
    "no package": (lambda description, _: description.pop("package"), "'package' is missing"),
    "a package in other words": (lambda description, _: description.update(package="mellow"), "found 'mellow'"),
    "windows of text": (lambda description, _: description.update(windows="two"), "found 'two', expected a list"),
    "a model of 1 MB": (lambda description, _: description.update(package="0" * 64, model="x" * 10**6), "made with"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_session_cannot_hold_is_refused(model: Mellow, whole: bytes, tmp_path: Path, case: str) -> None:
    change, words = HOSTILE[case]
    description, tensors = taken_apart(whole)
    change(description, tensors)
    with pytest.raises(SessionError, match=words) as caught:
        restored(model, sealed_if_possible(description, tensors), tmp_path)
    assert len(str(caught.value)) < 1000


def sealed_if_possible(description: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """Sealed where the digest can be computed at all; a description that breaks it is refused before."""
    try:
        return sealed(description, tensors)
    except TypeError:
        file = io.BytesIO()
        write_tensors(file, tensors, {saved.DESCRIPTION: json.dumps(description)})
        return file.getvalue()


def test_an_altered_value_that_would_fit_is_refused(model: Mellow, whole: bytes, tmp_path: Path) -> None:
    description, tensors = taken_apart(whole)
    tensors["rows.0"][0, 0] += 1
    file = io.BytesIO()
    write_tensors(file, tensors, {saved.DESCRIPTION: json.dumps(description)})
    with pytest.raises(SessionError, match="the session is altered: its digest does not match"):
        restored(model, file.getvalue(), tmp_path)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
arrays = st.builds(
    lambda code, shape, value: np.full(shape, value).astype(code),
    st.sampled_from(["<f4", "<f8", "<i8", "<u1", "?"]),
    st.lists(st.sampled_from([0, 1, 2, AUDIO_TOKENS, PREFIX, WIDTH]), max_size=4),
    st.sampled_from([0.0, 1.0, 2.0, -1.0, 200.0]),
)


@fuzzed
@given(data=st.data())
def test_any_description_and_tensors_are_refused_or_answered(
    model: Mellow, whole: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    description, tensors = taken_apart(whole)
    if data.draw(st.booleans()):
        target = data.draw(st.sampled_from([description, *description["windows"]]))
        target[data.draw(st.sampled_from([*target, "other"]))] = data.draw(anything)
    for name in data.draw(st.lists(st.sampled_from([*tensors, "prefix.1"]), max_size=2, unique=True)):
        tensors[name] = data.draw(arrays)
    try:
        clip = restored(model, sealed_if_possible(description, tensors), tmp_path)
    except SessionError:
        return
    assert clip.ask("what?", max_tokens=2).tokens


@fuzzed
@given(data=st.binary(max_size=300), header=st.booleans())
def test_any_bytes_are_refused(model: Mellow, tmp_path: Path, data: bytes, header: bool) -> None:
    with pytest.raises(SessionError):
        restored(model, struct.pack("<Q", len(data)) + data if header else data, tmp_path)


def test_the_engine_takes_back_what_it_gave_and_nothing_else(tiny_package: Path, tmp_path: Path) -> None:
    """Through onnxruntime: the same logits from restored keys and values, and arrays that would crash it refused."""
    with alm.load(tiny_package, threads=1) as model:
        clip = model.listen((tiny_noise(FRONTEND.samples)[0], TINY_RATE))
        decoder, cache = model.reader.decoder, clip._open()[0].kept
        assert cache is not None
        state = cache.state()
        assert 0.5 < state.nbytes / cache.nbytes <= 1
        again = decoder.cache_from(state)
        rows = decoder.embed(np.arange(5))
        expected = cache.fork().append(rows)
        state[:] = 0
        np.testing.assert_array_equal(again.append(rows), expected)
        np.testing.assert_array_equal(cache.fork().append(rows), expected)
        assert (cache.length, again.length) == (state.shape[2], state.shape[2] + 5)
        shape = state.shape
        for odd in (
            state.astype(np.float64),
            state[:-1],
            state[..., :-1],
            state[np.newaxis],
            state[:, :, :0],
            np.zeros((*shape[:2], model.info.decoder.max_positions + 1, shape[3]), np.float32),
            np.full(shape, np.nan, np.float32),
            np.full(shape, np.inf, np.float32),
        ):
            with pytest.raises(EngineError, match="keys and values"):
                decoder.cache_from(odd)
        clip.save(tmp_path / "clip.alms")
        description, tensors = taken_apart((tmp_path / "clip.alms").read_bytes())
        tensors["prefix.0"][:] = np.finfo(np.float32).max
        try:
            assert restored(model, sealed(description, tensors), tmp_path).ask("what?", max_tokens=3).text is not None
        except EngineError as error:
            assert "finite" in str(error)
        assert alm.restore(tmp_path / "clip.alms", model).ask("what?").tokens == clip.ask("what?").tokens
