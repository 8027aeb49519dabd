"""What is said about two clips: measured characters, the answers of six tasks, and the rule that judges them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from alm_train.data.sounds import LABELS, SOUNDS, sound_named_in
from alm_train.data.synthetic import synthesise
from alm_train.difference.character import COURSES, PITCHES, Character, Scale, comparison, measure
from alm_train.difference.wording import (
    GROUPS,
    LENGTHS,
    OFFICIAL,
    STEMS,
    TASKS,
    UNSEEN_STEMS,
    Heard,
    answer,
    is_right,
    prompt,
)
from alm_train.models.frontend import FrontendConfig, LogMel

FRONTEND = FrontendConfig(sample_rate=16000, samples=48000)


def heard(label: str, pitch: float = 0.0, swing: float = 0.0, *, silent: bool = False) -> Heard:
    return Heard(label, Character(pitch, swing, silent, "medium", COURSES[1]))


@pytest.fixture(scope="module")
def characters() -> dict[str, Character]:
    """Of synthetic sounds, silence and a burst of noise."""
    made = {
        label: synthesise(label, 3, FRONTEND.samples, FRONTEND.sample_rate) for label in ("white_noise", "brown_noise")
    }
    made["burst"] = made["white_noise"] * (np.arange(FRONTEND.samples) < 8000)
    made["silence"] = np.zeros(FRONTEND.samples, np.float32)
    log_mels = LogMel(FRONTEND)(torch.from_numpy(np.stack(list(made.values())).astype(np.float32)))
    measured = measure(log_mels)
    return dict(zip(made, Scale.of(measured).characters(measured), strict=True))


def test_pitch_evenness_and_silence_are_measured(characters: dict[str, Character]) -> None:
    hiss, rumble, burst = (characters[name] for name in ("white_noise", "brown_noise", "burst"))
    assert hiss.pitch > rumble.pitch and rumble.pitch_word == "low"
    assert burst.swing > max(hiss.swing, rumble.swing) and burst.course == "comes in bursts"
    assert [name for name, character in characters.items() if character.silent] == ["silence"]
    assert np.isfinite([value for c in characters.values() for value in (c.pitch, c.swing)]).all()


def test_only_clear_differences_are_told_and_turn_around_with_the_clips(characters: dict[str, Character]) -> None:
    hiss, rumble = characters["white_noise"], characters["brown_noise"]
    assert "lower" in comparison(hiss, rumble) and "higher" in comparison(rumble, hiss)
    assert "less even" in comparison(hiss, characters["burst"]) and "more even" in comparison(characters["burst"], hiss)
    assert comparison(hiss, hiss) == ()


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_is_right_for_its_own_pair_and_task_alone(task: str) -> None:
    rng = np.random.default_rng(0)
    for first, second in (*pairwise(LABELS), ("rain", "rain"), ("siren", "siren")):
        pair = heard(first, *rng.normal(size=2)), heard(second, *rng.normal(size=2))
        text = answer(task, *pair)
        assert is_right(task, first, second, text), text
        if first != second:
            assert not is_right(task, second, first, text), text
        others = {other for other in TASKS if is_right(other, first, second, text)} - {task}
        # The caption of a clip is the caption of the other when both are of one kind.
        assert others <= ({"first", "second"} if task in ("first", "second") and first == second else set()), text


def test_the_words_around_the_names_name_no_sound() -> None:
    for words in (*GROUPS.values(), *PITCHES, *COURSES, "of much the same pitch and evenness", "nothing is heard"):
        assert sound_named_in(words) is None


def test_silence_is_not_compared() -> None:
    silence, rain = heard("silence", silent=True), heard("rain", 2.0, 2.0)
    assert answer("sentence", silence, rain) == "the first audio is silence, while the second is rain falling."
    assert "nothing is heard" in answer("detail", rain, silence)
    assert answer("sentence", rain, heard("rain")).endswith("and the second is lower and more even.")


def test_wordings_are_many_and_the_unseen_are_not_among_them() -> None:
    rng = np.random.default_rng(0)
    for task in TASKS:
        assert len({prompt(task, rng) for _ in range(400)}) > 60
    seen = {prompt(task, rng).rstrip(".?") for task in LENGTHS for _ in range(2000)}
    unseen = {prompt(task, rng, UNSEEN_STEMS).rstrip(".?") for task in LENGTHS for _ in range(400)}
    assert not seen & unseen and not set(STEMS) & set(UNSEEN_STEMS)
    assert {OFFICIAL[task] for task in LENGTHS} <= seen


def test_every_group_of_sounds_has_its_words() -> None:
    assert {sound.category for sound in SOUNDS.values()} == set(GROUPS)
