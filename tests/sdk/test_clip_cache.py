"""Sound heard before is found by what it sounds like; the cache stays within its bytes and shares with sessions."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import AUDIO_TOKENS, PREFIX, RATE, SAMPLES, WIDTH, noise
from hypothesis import given
from hypothesis import strategies as st

import alm
from alm.errors import AlmError, EngineError
from alm.heard.clip_cache import ClipCache
from alm.heard.prefix import KEPT_PREFIXES
from alm.models.mellow import Mellow

TOKENS = AUDIO_TOKENS * (WIDTH * 4 + 8)
"""Bytes of one encoding of the fake model, no two of whose audio tokens are equal."""
WHOLE = TOKENS + PREFIX * 2 * WIDTH * 4
"""Bytes of a kept prefix of the fake model and its audio tokens."""


class Work:
    """Counts encoder passes and prefills."""

    def __init__(self, model: Mellow) -> None:
        self.model = model
        self.passes = 0
        self.encode = model.encode
        model.encode = self.count  # type: ignore[method-assign]

    def count(self, *arguments: object) -> object:
        self.passes += 1
        return self.encode(*arguments)  # type: ignore[arg-type]

    @property
    def done(self) -> tuple[int, int]:
        return self.passes, self.model.reader.decoder.appended.count(PREFIX)  # type: ignore[attr-defined]


@pytest.fixture
def work(model: Mellow) -> Work:
    return Work(model)


def test_the_same_sound_is_heard_once(model: Mellow, work: Work, tmp_path: Path) -> None:
    samples, rate = noise(1)
    for name in ("one.wav", "other name.wav"):
        soundfile.write(tmp_path / name, samples, rate, subtype="FLOAT")
    stereo = np.stack([samples, samples], axis=1)
    asked = []
    for source in (
        (samples, rate),
        tmp_path / "one.wav",
        tmp_path / "other name.wav",
        (tmp_path / "one.wav").read_bytes(),
        (stereo, rate),
    ):
        with model.listen(source) as clip:
            asked.append(clip.ask("what?").tokens)
        assert work.done == (1, 1)
    assert len(set(asked)) == 1
    counts = model.cache.counts
    assert (counts.hits, counts.misses, counts.entries) == (4, 2, 2)
    assert counts.bytes == TOKENS + WHOLE
    model.listen((samples + np.float32(1e-6), rate))
    assert work.done == (2, 2)


def test_a_window_of_a_long_recording_is_the_same_sound(model: Mellow, work: Work) -> None:
    samples, rate = noise(KEPT_PREFIXES + 1.0)
    model.listen((samples[-SAMPLES:], rate)), model.listen((samples[:SAMPLES], rate))
    whole = model.listen((samples, rate))
    assert work.done == (KEPT_PREFIXES + 1, KEPT_PREFIXES + 1)
    model.listen((samples, rate), window="first"), model.listen((samples, rate), compat=True)
    assert work.done == (KEPT_PREFIXES + 1, KEPT_PREFIXES + 1)
    with alm.load(model.package.path, cache_bytes=0) as bare:
        assert bare.listen((samples, rate)).ask("what?").tokens == whole.ask("what?").tokens


def test_comparing_reuses_what_was_heard_of_each(model: Mellow, work: Work) -> None:
    a, b = noise(1, seed=1), noise(1, seed=2)
    model.listen(a), model.listen(b)
    assert work.done == (2, 2)
    first = model.compare(a, b, "what differs?")
    assert work.done == (2, 3)
    assert model.compare(a, b, "what differs?").tokens == first.tokens
    assert work.done == (2, 3)
    assert model.compare(b, a, "what differs?").tokens != first.tokens
    assert work.done == (2, 4)
    with alm.load(model.package.path, cache_bytes=0) as bare:
        assert bare.compare(a, b, "what differs?").tokens == first.tokens


def test_no_bytes_keep_nothing(package: Path) -> None:
    with alm.load(package, cache_bytes=0) as model:
        work = Work(model)
        one, two = model.listen(noise(1)), model.listen(noise(1), noise(1))
        assert work.done == (2, 2)
        assert one.ask("what?").tokens == two.ask("what?").tokens
        assert (model.cache.counts.entries, model.cache.counts.bytes) == (0, 0)


def test_the_least_recently_used_leaves(package: Path) -> None:
    with alm.load(package, cache_bytes=2 * (TOKENS + WHOLE)) as model:
        work = Work(model)
        sounds = [noise(1, seed=seed) for seed in range(3)]
        model.listen(sounds[0]), model.listen(sounds[1])
        assert model.cache.counts.bytes == model.cache.counts.limit
        model.listen(sounds[0])
        model.listen(sounds[2])
        assert work.done == (3, 3)
        model.listen(sounds[0])
        assert work.done == (3, 3)
        model.listen(sounds[1])
        assert work.done == (4, 4)
        assert model.cache.counts.bytes <= model.cache.counts.limit


def test_repeated_audio_tokens_cost_nothing(model: Mellow, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = model.encode
    before = model.listen(noise(1)).ask("what?").tokens
    used = model.cache.counts.bytes
    repeated = lambda samples: {"audio_tokens": np.repeat(encode(samples)["audio_tokens"][:1], AUDIO_TOKENS, axis=0)}  # noqa: E731
    monkeypatch.setattr(model, "encode", repeated)
    assert model.listen(noise(1, seed=1)).ask("what?").tokens != before
    saved = (AUDIO_TOKENS - 1) * (WIDTH * 4 + 8)
    assert model.cache.counts.bytes == 2 * used - 2 * saved


@pytest.mark.parametrize("second", ["listen", "compare"])
def test_two_threads_encode_once(model: Mellow, second: str) -> None:
    """The second thread comes while the first is in the middle of the encoder pass."""
    inside, go_on, encode = threading.Event(), threading.Event(), model.encode
    passes = []

    def slow(samples: np.ndarray) -> object:
        passes.append(1)
        inside.set()
        assert go_on.wait(20)
        return encode(samples)

    model.encode = slow  # type: ignore[assignment,method-assign]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(model.listen, noise(1))
        assert inside.wait(20)
        arguments = [noise(1)] if second == "listen" else [noise(1), noise(1, seed=1)]
        others = [pool.submit(model.listen, *arguments) for _ in range(3)]
        go_on.set()
        answers = {other.result(20).ask("what?").tokens for other in others}
        alone = first.result(20).ask("what?").tokens
    assert len(passes) == (1 if second == "listen" else 2)
    assert len(answers) == 1
    assert (answers == {alone}) == (second == "listen")


def test_whoever_waits_for_a_thread_that_fails_does_it_itself() -> None:
    cache, started, fail = ClipCache(100), threading.Event(), threading.Event()
    made = Item(7)

    def failing() -> Item:
        started.set()
        assert fail.wait(20)
        raise EngineError("no")

    with ThreadPoolExecutor(3) as pool:
        broken = pool.submit(cache.get, (b"a",), failing)
        assert started.wait(20)
        waiting = [pool.submit(cache.get, (b"a",), lambda: made) for _ in range(2)]
        fail.set()
        assert {waiter.result(20) for waiter in waiting} == {made}
        with pytest.raises(EngineError):
            broken.result(20)
    assert cache.counts.entries == 1


@dataclass(frozen=True)
class Item:
    """Something of a known size."""

    nbytes: int


@given(
    limit=st.integers(0, 30),
    looked_up=st.lists(st.integers(0, 9), max_size=60),
    sizes=st.lists(st.integers(0, 20), min_size=10, max_size=10),
)
def test_any_order_of_look_ups(limit: int, looked_up: list[int], sizes: list[int]) -> None:
    """Held against the plainest way to write it down."""
    cache, expected = ClipCache(limit), OrderedDict[int, int]()
    hits = misses = 0
    for key in looked_up:
        made: list[Item] = []
        found = cache.get((bytes([key]),), lambda: made.append(Item(sizes[key])) or made[0])  # noqa: B023
        assert found.nbytes == sizes[key]
        assert bool(made) == (key not in expected)
        hits, misses = hits + (not made), misses + len(made)
        if key in expected:
            expected.move_to_end(key)
        elif sizes[key] <= limit:
            expected[key] = sizes[key]
        while sum(expected.values()) > limit:
            expected.popitem(last=False)
        counts = cache.counts
        assert (counts.entries, counts.bytes, counts.limit) == (len(expected), sum(expected.values()), limit)
        assert (counts.hits, counts.misses) == (hits, misses)


def kept(clip: alm.Clip) -> weakref.ref[object]:
    return weakref.ref(clip._open()[0].kept)


@pytest.fixture
def collected() -> Iterator[Callable[[weakref.ref[object]], bool]]:
    def gone(reference: weakref.ref[object]) -> bool:
        gc.collect()
        return reference() is None

    yield gone


def test_closing_a_session_leaves_the_cache(
    model: Mellow, work: Work, collected: Callable[[weakref.ref[object]], bool]
) -> None:
    clip = model.listen(noise(1))
    answer, reference = clip.ask("what?").tokens, kept(clip)
    clip.close()
    assert not collected(reference)
    assert model.listen(noise(1)).ask("what?").tokens == answer
    assert work.done == (1, 1)


def test_leaving_the_cache_leaves_the_session(package: Path, collected: Callable[[weakref.ref[object]], bool]) -> None:
    with alm.load(package, cache_bytes=TOKENS + WHOLE) as model:
        clip = model.listen(noise(1))
        answer, reference = clip.ask("what?").tokens, kept(clip)
        model.listen(noise(1, seed=1))
        assert clip.ask("what?").tokens == answer
        assert not collected(reference)
        clip.close()
        assert collected(reference)


def test_closing_the_model_empties_the_cache(model: Mellow, collected: Callable[[weakref.ref[object]], bool]) -> None:
    clip = model.listen(noise(1))
    answer, reference = clip.ask("what?").tokens, kept(clip)
    model.close()
    assert (model.cache.counts.entries, model.cache.counts.bytes) == (0, 0)
    assert clip.ask("what?").tokens == answer
    clip.close()
    assert collected(reference)


def test_a_model_closed_while_it_listens_keeps_nothing(model: Mellow) -> None:
    seen: list[float] = []

    def progress(seconds: float) -> None:
        seen.append(seconds)
        model.close()

    with pytest.raises(AlmError, match="model is closed"):
        model.listen(noise(3.0), progress=progress)
    assert len(seen) == 1
    assert model.cache.counts.bytes == 0


def test_forks_share_what_was_heard(
    model: Mellow, work: Work, collected: Callable[[weakref.ref[object]], bool]
) -> None:
    clip = model.listen(noise(2.0))
    fork = clip.fork()
    assert work.done == (2, 2)
    assert fork.spans == clip.spans
    answer, reference = clip.ask("what?").tokens, kept(clip)
    half = clip.stream("what?")
    next(half)
    clip.close()
    with pytest.raises(AlmError, match="session is closed"):
        clip.fork()
    again = fork.fork()
    assert fork.ask("what?").tokens == again.ask("what?").tokens == half.finish().tokens == answer
    model.close()
    assert not collected(reference)
    fork.close(), again.close()
    del half
    assert collected(reference)


@pytest.mark.parametrize("limit", [-1, 1.5, True, None, "64 MB"])
def test_the_limit_is_a_number_of_bytes(package: Path, limit: object) -> None:
    with pytest.raises(AlmError, match=r"cache_bytes is .*; it must be a whole number of bytes, at least 0"):
        alm.load(package, cache_bytes=limit)  # type: ignore[arg-type]


def test_the_rate_of_a_recording_counts(model: Mellow, work: Work) -> None:
    samples, rate = noise(1)
    model.listen((samples, rate)), model.listen((samples, 2 * rate))
    assert work.done == (2, 2)
    assert rate == RATE
