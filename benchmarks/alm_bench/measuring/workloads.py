"""What a package of each kind is asked to do, stage by stage, by the SDK's own timing.

A workload is chosen by what the package can do. Sounds are noise drawn from a seed: the cost of a clip does not depend
on what is in it, but a sound that was heard before is not encoded again, so each pass has a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from alm.session import Clip
from alm_bench.measuring.clocks import Unit
from alm_bench.measuring.package_facts import prefix_positions
from alm_bench.results.records import BenchError

if TYPE_CHECKING:
    from alm.answering.answers import Answer
    from alm.answering.streaming import AnswerStream
    from alm.models import ClapCap, Mellow, Model
    from alm.models.sound_space import SoundSpace

QUESTION, NEXT_QUESTION = "explain the difference in few words.", "which clip is louder?"

Sound = tuple[np.ndarray, int]
"""Samples (n,) and their rate."""


@dataclass(frozen=True)
class Pass:
    """One pass through all stages after loading."""

    stages: dict[str, float]
    """Seconds or instructions by stage."""
    positions: int
    """Positions before the first generated token."""
    steps: int
    """Decoding steps within `decode`."""


def ask(model: Mellow, clock: Callable[[], float], unit: Unit, tokens: int, seed: int = 0) -> Pass:
    """Listen to two clips, ask a question and a second one, each answered with exactly `tokens` tokens."""
    sounds = sound(model, 2 * seed), sound(model, 2 * seed + 1)
    started = clock()
    clip = model.listen(*sounds)
    heard = clock()
    clip = _talkative(clip)
    asked = _answered(clip.stream(QUESTION, max_tokens=tokens), clock)
    following = _answered(clip.stream(NEXT_QUESTION, max_tokens=tokens), clock)
    answer, other = asked.answer, following.answer
    if unit == "s":
        stages = {
            "encode": answer.timing.encode,
            "prefill": answer.timing.prefill,
            "first_token": answer.timing.first_token,
            "decode": other.timing.decode,
            "next_question": other.timing.first_token,
            "answer": answer.timing.encode + answer.timing.prefill + answer.timing.decode,
        }
    else:
        stages = {
            "encode": heard - started,
            "first_token": asked.first - heard,
            "decode": following.last - following.first,
            "next_question": following.first - asked.last,
            "answer": asked.last - started,
        }
    # The first token comes out of the prefill.
    return Pass(stages, prefix_positions(model.info), len(other.tokens) - 1)


def caption(model: ClapCap, clock: Callable[[], float], unit: Unit, tokens: int, seed: int = 0) -> Pass:
    """Listen to a clip and describe it greedily, with exactly `tokens` tokens."""
    recording = sound(model, seed)
    started = clock()
    clip = model.listen(recording)
    heard = clock()
    done = _answered(_talkative(clip).stream_caption(max_tokens=tokens), clock)
    timing = done.answer.timing
    if unit == "s":
        stages = {"encode": timing.encode, "prefill": timing.prefill, "first_token": timing.first_token}
        stages["decode"] = timing.decode
        stages["answer"] = timing.encode + timing.prefill + timing.decode
    else:
        stages = {"encode": heard - started, "first_token": done.first - heard, "decode": done.last - done.first}
        stages["answer"] = done.last - started
    return Pass(stages, prefix_positions(model.info), len(done.answer.tokens) - 1)


def embed(model: SoundSpace, clock: Callable[[], float], unit: Unit, tokens: int, seed: int = 0) -> Pass:
    """One clip to its vector. The SDK has no timing of its own here, and there are no tokens."""
    recording = sound(model, seed)
    started = clock()
    model.embed_audio([recording])
    return Pass({"encode": clock() - started}, 0, 0)


WORKLOADS: dict[str, Callable[..., Pass]] = {"ask": ask, "caption": caption, "embed": embed}
"""By capability, in order of preference."""


def workload(model: Model) -> Callable[..., Pass]:
    """What to do with this model; BenchError when nothing here measures what it can do."""
    for capability, run in WORKLOADS.items():
        if capability in model.capabilities:
            return run
    raise BenchError(
        f"{model.package.path} can {', '.join(model.capabilities)}; this version measures packages that can "
        f"{' or '.join(WORKLOADS)}"
    )


def cache_bytes(model: Model) -> int:
    """Bytes of the keys and values of a whole prefix: their precision is known to the engine alone."""
    positions = prefix_positions(model.info)
    if not positions:
        return 0
    decoder = model.reader.decoder  # type: ignore[attr-defined]
    cache = decoder.new_cache()
    cache.append(decoder.embed(np.zeros(positions, np.int64)))
    return int(cache.nbytes)


def sound(model: Model, seed: int) -> Sound:
    """One clip of noise at the model's own length and rate."""
    frontend = model.info.frontend
    return (0.1 * np.random.default_rng(seed).standard_normal(frontend.samples)).astype(
        np.float32
    ), frontend.sample_rate


def _talkative(clip: Clip) -> Clip:
    """The same session, in which no token ends an answer: packages are compared over answers of one length."""
    reader = clip._reader
    return Clip(clip._open(), replace(reader, defaults=replace(reader.defaults, stop_id=-1)), clip._encode_seconds)


@dataclass(frozen=True)
class _Streamed:
    first: float
    last: float
    answer: Answer


def _answered(stream: AnswerStream, clock: Callable[[], float]) -> _Streamed:
    # A model may stop at once; its first decision is then also its last.
    marks = [clock() for _ in stream] or [clock()]
    return _Streamed(marks[0], marks[-1], stream.answer)
