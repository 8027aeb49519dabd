"""Drafts on real kernels: the same tokens with and without one, on many recordings and in every kind of scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_mellow import FRONTEND, QUESTION, noise

import alm
from alm.answering.drafts import CLEAR, CLEAR_BY_SCHEME, Continuation
from alm_export.pipeline import Exported

CLIPS = sorted((Path(__file__).parents[2] / "quantize" / "alm_quantize" / "clips").glob("*.ogg"))
QUESTIONS = ["caption the audio.", "what is happening?"]
Export = Callable[[str], Exported]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each batch of a draft had."""
    seen: list[int] = []
    drafted = Continuation._drafted

    def counted(self: Continuation, place: int) -> object:
        if not self._rows:
            seen.append(len(self._draft) - place)
        return drafted(self, place)

    monkeypatch.setattr(Continuation, "_drafted", counted)
    yield seen


def drafts_of(text: str, others: list[str]) -> list[str]:
    """Right, right and too long, right for half, wrong, and what was said about other sounds."""
    words = text.split()
    half = " ".join(words[: (len(words) + 1) // 2])
    return [text, f"{text} and then something else is heard", f"{half} zebra", half, "zebra", *others[:2]]


def test_the_weights_that_ship_say_the_same_with_any_draft(reference_package: Path, rows: list[int]) -> None:
    assert len(CLIPS) == 24
    with alm.load(reference_package, threads=1) as model:
        clips = [model.listen(path) for path in CLIPS]
        for question in QUESTIONS:
            plain = [clip.ask(question) for clip in clips]
            texts = [answer.text for answer in plain]
            assert len(set(texts)) > 12
            for number, (clip, answer) in enumerate(zip(clips, plain, strict=True)):
                for draft in drafts_of(answer.text, texts[number - 2 : number]):
                    assert clip.ask(question, draft=draft).tokens == answer.tokens, (question, draft)
    # Wrong from the first token on, a draft is not even run.
    assert 48 * 3 < len(rows) < 48 * 8


def decoded(continuation: Continuation, logits: np.ndarray) -> list[int]:
    """The first 40 ids after `logits`, whatever they are."""
    ids = [int(logits.argmax())]
    while len(ids) < 40:
        ids.append(int(continuation.after(ids[-1]).argmax()))
    return ids


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("scheme", ["fp32", "int4", "audio_encoder=int8,decoder=int8,head=int8-block32"])
def test_random_weights_whose_choices_are_close(tiny_export: Export, rows: list[int], scheme: str) -> None:
    with alm.load(tiny_export(scheme).path) as model:
        reader = model.reader
        clear = CLEAR_BY_SCHEME.get(model.info.components["decoder"].scheme, CLEAR)
        prompt = reader.decoder.embed(reader.tokenizer.prompt(QUESTION))
        for seed in range(6):
            tokens = model.encode(noise(FRONTEND.samples, seed)[0])["audio_tokens"]
            cache = reader.run_prefix((tokens, tokens))
            logits = cache.append(prompt)

            right = decoded(Continuation(reader.decoder, cache.fork()), logits)
            other = [(token + 1) % model.info.decoder.vocabulary for token in right]
            for kept in (0, 1, 5, 20, 39):
                draft = right[:kept] + other[kept:]
                assert decoded(Continuation(reader.decoder, cache.fork(), draft, clear), logits) == right
    assert len(rows) >= 24
