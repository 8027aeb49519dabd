"""Scores follow their definitions, and intervals draw whole clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sklearn.metrics import f1_score

from alm_bench.quality import entailment, mcq, texts
from alm_bench.quality.asking import packed
from alm_bench.quality.baselines import baselines
from alm_bench.quality.fluency import SPOILT, learn
from alm_bench.quality.items import Item, TaskError
from alm_bench.quality.letters import RULES, is_lettered
from alm_bench.quality.measures import Measure, difference, interval, mean_of
from alm_bench.quality.ngrams import METRICS, bleu, plain

LABELS = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("rule", "said", "right", "expected"),
    [
        ("letter", "B) rain", "b) rain", True),
        ("letter", "rain", "a) rain", True),  # the official rule: no letter counts as a
        ("letter", "rain", "b) rain", False),
        ("mmau", "rain", "a) rain", False),
        ("mmau", " B) dog", "b) rain", True),
        ("word", "Yes, it is", "yes", True),
        ("word", "it is", "yes", False),
    ],
)
def test_official_rules(rule: str, said: str, right: str, expected: bool) -> None:
    assert RULES[rule](said, right) is expected


def test_what_is_a_letter() -> None:
    assert is_lettered("c) rain")
    assert not is_lettered("e) rain")
    assert not is_lettered("a dog")


def test_bleu_adds_up_to_that_of_the_corpus() -> None:
    candidates = ["a dog is barking at the cat", "rain falls on a tin roof", "a man speaks", "water"]
    references = [["a dog barks at the cat", "the dog is barking at a cat"], ["rain falls on a roof"],
                  ["a man is speaking loudly", "a man speaks"], ["the sea"]]  # fmt: skip
    places = np.array([0, 0, 1, 3, 2])
    streams = [[references[i][min(r, len(references[i]) - 1)] for i in places] for r in range(2)]
    expected = BLEU().corpus_score([candidates[i] for i in places], streams).score
    assert bleu(candidates, references)(places) == pytest.approx(expected)
    assert expected > 20
    rough, known = ["the quick dog jumps over me"], [["the quick cat jumps up to you"]]  # no run of three in common
    smoothed = BLEU().corpus_score(rough, [known[0]]).score
    assert bleu(rough, known)(np.array([0])) == pytest.approx(smoothed)


def test_ngram_scores_ignore_case_and_punctuation() -> None:
    everything = np.arange(1)
    for metric, score in METRICS.items():
        same = score(["A dog barks, twice and loudly."], [["silence", "a dog barks twice and loudly"]])
        other = score(["rain on glass"], [["a dog barks twice and loudly"]])
        assert same(everything) == pytest.approx(100, abs=0.01), metric
        assert other(everything) < 30, metric
    assert plain("A Dog, barks.") == "a dog barks"


def test_intervals_draw_clips_and_not_examples() -> None:
    values = [0.0] * 50 + [100.0] * 50
    ids = tuple(map(str, range(100)))
    apart = interval(Measure("t", "g", "m", ids, ids, mean_of(values)))
    together = interval(Measure("t", "g", "m", ids, ("one",) * 50 + ("two",) * 50, mean_of(values)))
    assert (apart.value, apart.n, apart.clips) == (50, 100, 100)
    assert 38 < apart.low < 45 < 55 < apart.high < 62
    assert (together.low, together.high, together.clips) == (0, 100, 2)


def test_differences_pair_the_examples_that_both_have() -> None:
    one = Measure("t", "g", "m", ("a", "b", "c"), ("a", "b", "c"), mean_of([0, 100, 0]))
    other = Measure("t", "g", "m", ("d", "c", "b"), ("d", "c", "b"), mean_of([0, 10, 110]))
    found = difference(one, other)
    assert (found.value, found.low, found.high, found.n) == (10, 10, 10, 2)
    with pytest.raises(ValueError, match="in common"):
        difference(one, Measure("t", "g", "m", ("x",), ("x",), mean_of([0])))


def entailment_items(clips: int, *, fit: int = 0) -> list[Item]:
    return [
        Item(f"{c}:{label}", "entailment", "ACE", (f"{c}.wav",), label, (label,), "fit" if c < fit else "test")
        for c in range(clips)
        for label in LABELS
    ]


def test_chosen_verdicts_become_labels() -> None:
    items = entailment_items(2)
    chosen = dict(zip(LABELS, (0, 3, 1), strict=True))
    said = {f"{i.id}|choose": np.eye(4)[chosen[i.answers[0]]].tolist() for i in items}
    said[f"{items[0].id}|choose"] = [0, 1, 0, 0]
    found = {m.name[1:]: interval(m) for m in entailment.measures(items, said)}
    assert found["ACE zero-shot", "accuracy"].value == pytest.approx(100 * 5 / 6)
    # F1 of entailment 2/3, neutral 1, contradiction 0.8.
    assert found["ACE zero-shot", "macro F1"].value == pytest.approx(100 * (2 / 3 + 1 + 0.8) / 3)
    assert ("ACE caption before reason", "accuracy") not in found


def test_macro_f1_is_the_usual_one() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        truth, told = random.integers(1, 4, (2, 12))
        expected = f1_score(truth, told, labels=np.unique(truth), average="macro", zero_division=0)
        assert entailment.macro_f1(truth, told, 4) == pytest.approx(expected)


@pytest.mark.parametrize("fit", [0, 15])
def test_thresholds_and_probe_tell_what_embeddings_tell(fit: int) -> None:
    random, items = np.random.default_rng(0), entailment_items(30, fit=fit)
    angles = dict(zip(LABELS, (0.2, 0.9, 1.5), strict=True))
    said = {}
    for item in items:
        clip, angle = item.audio[0], angles[item.answers[0]] + random.uniform(-0.2, 0.2)
        said[f"{clip}|embed_audio"] = packed(np.array([1, 0, 0], np.float32))
        said[f"{item.id}|embed_text"] = packed(np.array([np.cos(angle), np.sin(angle), 0], np.float32))
    found = {m.name[1:]: interval(m) for m in entailment.measures(items, said)}
    for way in ("zero-shot, two thresholds", "linear probe"):
        assert found[f"ACE {way}", "macro F1"].value > 95
        assert found[f"ACE {way}", "accuracy"].n == 3 * (30 - fit)
    shuffled = dict(zip(said, random.permutation(list(said.values())), strict=True))
    blind = {m.name[1:]: interval(m) for m in entailment.measures(items, shuffled)}
    assert blind["ACE zero-shot, two thresholds", "accuracy"].value < 60


def test_nothing_is_fitted_on_the_clip_it_is_scored_on() -> None:
    items = entailment_items(10)

    def check(train: np.ndarray, rest: np.ndarray) -> list[str]:
        assert len(train)
        assert not {items[i].audio for i in train} & {items[i].audio for i in rest}
        return ["neutral"] * len(rest)

    assert entailment.told_by(items, check) == (items, ["neutral"] * 30)
    split = entailment_items(10, fit=4)
    assert entailment.told_by(split, check) == (split[12:], ["neutral"] * 18)
    with pytest.raises(TaskError, match="two clips"):
        entailment.told_by(items[:3], check)


def test_verdicts_in_words_are_scored_by_their_option() -> None:
    text = "it rains. a) definitely false b) definitely true c) plausible"
    items = [
        Item("0", "entailment", "CLE", ("0.wav",), text, ("b) definitely true",), rule="letter"),
        Item("1", "entailment", "CLE", ("1.wav",), text, ("c) plausible",), rule="letter"),
        Item("2", "entailment", "CLE", ("2.wav",), "does it rain?", ("no",), rule="word"),
    ]
    found = {m.metric: interval(m) for m in entailment.measures(items, {"0": "b) definitely", "1": "a) x", "2": "No."})}
    assert found["accuracy"].value == pytest.approx(200 / 3)
    assert found["accuracy"].n == 3


def test_choices_by_group_and_tag() -> None:
    items = [
        Item("0", "mcq", "MMAU", ("0",), "", ("a) x",), rule="mmau", tags=("MMAU hard",)),
        Item("1", "mcq", "MMAU", ("1",), "", ("b) y",), rule="mmau", tags=("MMAU easy",)),
        Item("2", "mcq", "ClothoAQA", ("2",), "", ("yes",), rule="word"),
    ]
    found = {m.name[1:]: interval(m).value for m in mcq.measures(items, {"0": "a) x", "1": "hm", "2": "no"})}
    assert found == {
        ("MMAU", "accuracy"): 50,
        ("MMAU", "answers with a letter"): 50,
        ("MMAU hard", "accuracy"): 100,
        ("MMAU hard", "answers with a letter"): 100,
        ("MMAU easy", "accuracy"): 0,
        ("MMAU easy", "answers with a letter"): 0,
        ("ClothoAQA yes/no", "accuracy"): 0,
    }


def test_captions_lose_the_position_that_training_puts_before_them() -> None:
    items = [Item("0", "caption", "Clotho", ("0",), "", ("the dog barks all night long",))]
    found = {
        m.metric: interval(m).value
        for m in texts.measures(items, {"0": "The audio 1 is the dog barks all night long."})
    }
    assert found == {name: pytest.approx(100, abs=0.01) for name in METRICS}


def test_broken_captions_are_found() -> None:
    things, doing = (
        ("a dog", "a man", "a car", "the wind", "a bird", "a bell"),
        ("barks", "is speaking", "rings loudly"),
    )
    captions = [f"{a} {x} and {b} {y}" for a in things for x in doing for b in things for y in doing if a != b]
    detector = learn(captions)
    fine, broken = detector.error_probability(
        ["A dog barks and a bird is speaking.", "a dog barks and a bird and a bird"]
    )
    assert fine < 0.5 < broken
    with pytest.raises(TaskError, match="3 different captions are too few"):
        learn(captions[:3])


@pytest.mark.parametrize("kind", SPOILT)
def test_every_kind_of_error_changes_a_caption(kind: str) -> None:
    words = ["a", "dog", "is", "barking", "loudly", "and", "a", "man", "speaks"]
    assert SPOILT[kind](words, np.random.default_rng(0)) != words


def test_what_needs_no_sound() -> None:
    giveaway = {"entailment": "water falls", "neutral": "it may be a long autumn day", "contradiction": "silence"}
    items = [replace(item, text=f"{giveaway[item.answers[0]]} {item.audio[0]}") for item in entailment_items(8)]
    items += [Item(f"m{n}", "mcq", "MMAU", (f"{n}",), "", ("b) x" if n else "a) x",), rule="mmau") for n in range(4)]
    found = {m.name: interval(m).value for m in baselines(items)}
    assert found == {
        ("entailment", "ACE words of the hypothesis", "accuracy"): 100,
        ("entailment", "ACE words of the hypothesis", "macro F1"): 100,
        ("mcq", "MMAU, always 'b'", "accuracy"): 75,
    }


def test_questions_in_words_are_for_models_that_answer() -> None:
    item = Item(
        "q",
        "entailment",
        "g",
        ("a.wav",),
        "a) it is definitely true b) ...",
        ("a) it is definitely true",),
        rule="letter",
    )
    (asked,) = entailment.questions(item, ("ask", "choose"))
    assert asked.kind == "ask"
    assert entailment.questions(item, ("embed", "similarity")) == []
