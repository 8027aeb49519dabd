"""Multiple choice: scored from one shared prefix, never generated."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import AUDIO_TOKENS, PREFIX, PROMPT_TOKENS, ROOM, ids_of, noise

import alm
from alm.answering.choosing import options_prompt
from alm.errors import PromptError
from alm.models.mellow import Mellow


def log_likelihood(model: Mellow, samples: np.ndarray, question: str, continuation: str) -> float:
    """Of one option, from the whole sequence at once for each of its tokens."""
    decoder = model.reader.decoder
    audio, separator = model.encode(samples)["audio_tokens"], decoder.embed(np.array([0]))
    prompt = decoder.embed(model.reader.tokenizer.prompt(question))
    ids, total = ids_of(continuation), 0.0
    for number, token in enumerate(ids):
        rows = [
            audio,
            separator,
            audio,
            separator,
            prompt,
            decoder.embed(np.array(ids[:number], dtype=np.int64)),
        ]
        logits = decoder.new_cache().append(np.concatenate(rows)).astype(np.float64)
        total += logits[token] - np.log(np.exp(logits).sum())
    return total


@pytest.mark.parametrize(
    ("options", "asked", "scored"),
    [
        (["Yes", "no"], "is it loud?", ["yes", "no"]),
        (["no", "yes"], "is it loud?", ["no", "yes"]),
        (
            ["a Dog", "rain", "wind"],
            "is it loud? a) a dog b) rain c) wind",
            ["a) a dog", "b) rain", "c) wind"],
        ),
        (["yes", "no", "so"], "is it loud? a) yes b) no c) so", ["a) yes", "b) no", "c) so"]),
    ],
)
def test_probabilities_are_the_softmax_of_log_likelihoods(
    model: Mellow, options: list[str], asked: str, scored: list[str]
) -> None:
    samples, rate = noise(1)
    choice = model.listen((samples, rate)).choose("is it loud?", options)
    totals = np.array([log_likelihood(model, samples, asked, text) for text in scored])
    expected = np.exp(totals - totals.max())
    assert choice.probabilities == pytest.approx(expected / expected.sum(), rel=1e-3)
    assert choice.index == int(totals.argmax())
    assert choice.text == options[choice.index]


def test_the_prompt_is_run_once_for_all_options(model: Mellow, clip: alm.Clip) -> None:
    decoder = model.reader.decoder
    decoder.appended.clear()
    clip.choose("which?", ["ab", "cd", "ef"])
    # 'a) ab' has five tokens; the first is scored by the prompt's own logits.
    assert decoder.appended == [PROMPT_TOKENS] + [1] * 3 * 4


def test_the_session_is_as_before(clip: alm.Clip) -> None:
    before = clip.ask("what?").tokens
    clip.choose("which?", ["ab", "cd"])
    assert clip.ask("what?").tokens == before
    assert clip.choose("which?", ["ab", "cd"]) == clip.choose("which?", ["ab", "cd"])


def test_long_recordings_take_the_mean(model: Mellow) -> None:
    samples, rate = noise(2.0)
    half = len(samples) // 2
    parts = [model.listen((part, rate)).choose("loud?", ["yes", "no"]) for part in (samples[:half], samples[half:])]
    whole = model.listen((samples, rate)).choose("loud?", ["yes", "no"])
    mean = np.mean([part.probabilities for part in parts], axis=0)
    assert whole.probabilities == pytest.approx(mean)


def test_26_options_fill_the_alphabet() -> None:
    asked, scored = options_prompt("which?", [str(number) for number in range(26)])
    assert asked.endswith("z) 25")
    assert scored[0] == "a) 0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the number of options is 0, expected 2 to 26"),
        (["yes"], "the number of options is 1,"),
        ([str(number) for number in range(27)], "the number of options is 27,"),
        (["a", " "], "option 2 is empty"),
        (["a", "b", "A "], "options 1 and 3 are both 'A'"),
        ("yes", "pass a list of texts"),
        (["a", 3], "pass a list of texts"),
    ],
)
def test_options_that_cannot_be_scored(clip: alm.Clip, options: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        clip.choose("which?", options)


def test_empty_and_long_questions(clip: alm.Clip) -> None:
    with pytest.raises(PromptError, match="empty"):
        clip.choose(" ", ["a", "b"])
    with pytest.raises(PromptError, match="empty"):
        clip.choose("", ["yes", "no"])
    with pytest.raises(PromptError, match=f"the limit of this package is {PROMPT_TOKENS}"):
        clip.choose("which?", ["a" * 30, "b" * 30])


def test_the_room_is_larger_than_any_prompt() -> None:
    # Options are part of the prompt, so one that fits the prompt also fits behind it in this fake.
    assert PREFIX == 2 * AUDIO_TOKENS + 2
    assert ROOM > PROMPT_TOKENS
