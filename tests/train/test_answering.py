"""What the decoder is taught: the sequences, the lessons, the hints and the initial weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from corpora import TINY_RECIPE
from tokenizers import Tokenizer

from alm_train.answering.hints import mentions, telling_words
from alm_train.answering.initial import SCALE, initialise
from alm_train.answering.learning import IGNORED, Answerer, Heard, answer_all, answering_loss, ask, lesson_at
from alm_train.answering.recipe import read_mellow_recipe
from alm_train.data.questions import TWO_CLIPS
from alm_train.data.sounds import LABELS, SOUNDS
from alm_train.models.mellow import Mellow
from alm_train.tokenizer import pad_id, template_texts, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(template_texts(2000, seed=1), 700)


@pytest.fixture(scope="module")
def answerer(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    file: Path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY_RECIPE)
    torch.manual_seed(0)
    recipe = read_mellow_recipe(file)
    config = recipe.mellow(len(LABELS), pad_id(tokenizer))
    mellow = Mellow(config)
    # The smallest vocabulary that covers the templates may stay under what the recipe allows.
    assert tokenizer.get_vocab_size() <= config.decoder.vocabulary
    initialise(mellow)
    return Answerer(mellow, tokenizer).eval()


@pytest.fixture(scope="module")
def heard(answerer: Answerer) -> Heard:
    config = answerer.mellow.config.encoder
    generator = torch.Generator().manual_seed(0)
    labels = LABELS * 2
    latent = torch.randn(3, len(labels), config.final_width, generator=generator)
    frames = torch.rand(3, len(labels), config.positions, config.classes, generator=generator)
    return Heard(latent.half(), frames.half(), labels)


def test_a_fully_padded_lesson_is_what_the_runtime_builds(answerer: Answerer, heard: Heard) -> None:
    asked = ask(heard, 24, (1, 2))
    sequence, due = answerer.lesson(heard, asked, padding=1.0, longest=32)
    prefix = answerer.prefix(heard, asked)
    assert torch.equal(sequence[:, : prefix.shape[1]], prefix)
    assert (due[:, : prefix.shape[1] - 1] == IGNORED).all()
    for row, question in zip(due[:, prefix.shape[1] - 1 :], asked.questions, strict=True):
        told = row[row != IGNORED].tolist()
        assert told[-1] == answerer.mellow.config.stop_id
        assert answerer.tokenizer.decode(told) == question.answer
        assert (row[len(told) :] == IGNORED).all()


def test_without_padding_the_answer_follows_the_question(answerer: Answerer, heard: Heard) -> None:
    asked = ask(heard, 24, (1, 2))
    _, due = answerer.lesson(heard, asked, padding=0.0, longest=32)
    before = 2 * (answerer.mellow.config.audio_tokens + 1)
    for row, question in zip(due, asked.questions, strict=True):
        first = int((row != IGNORED).nonzero()[0])
        assert first == before + len(answerer.tokenizer.encode(question.text).ids) - 1


def test_lessons_grow_from_few_sounds_to_all_and_to_full_padding() -> None:
    lessons = [lesson_at(step, 100, seed=1) for step in (0, 50, 100, 150, 200, 900)]
    sizes = [len(lesson.sounds) for lesson in lessons]
    assert sizes[0] < sizes[1] < sizes[2] == len(LABELS) == sizes[-1]
    assert [lesson.padding for lesson in lessons] == [0, 0, 0, 0.5, 1, 1]
    assert set(lessons[0].sounds) <= set(lessons[1].sounds)


def test_questions_are_about_the_clips_in_the_slots(heard: Heard) -> None:
    asked = ask(heard, 300, (1, 2))
    for row, question in enumerate(asked.questions):
        first, second = (int(slot[1][row]) for slot in (asked.first, asked.second))
        if question.kind not in TWO_CLIPS:
            assert first == second and asked.first[0][row] == asked.second[0][row]
        if question.kind == "caption":
            assert question.answer == f"{SOUNDS[heard.labels[first]].sentence}."
    assert [q.text for q in asked.questions] == [q.text for q in ask(heard, 300, (1, 2)).questions]
    assert [q.text for q in asked.questions] != [q.text for q in ask(heard, 300, (1, 3)).questions]


def test_mentions_point_at_the_last_word_of_a_sound(tokenizer: Tokenizer, heard: Heard) -> None:
    checked = 0
    for question in ask(heard, 400, (1, 2)).questions:
        encoding = tokenizer.encode(question.text)
        for token, label in mentions(question, encoding):
            end = encoding.offsets[token][1]
            sound = SOUNDS[label]
            assert question.text[:end].split()[-1] in {
                words.split()[-1] for words in (sound.name, sound.phrase, sound.sentence)
            }
            checked += 1
    assert checked > 300


def test_a_choice_names_its_sound_once_as_heard(answerer: Answerer, heard: Heard) -> None:
    asked = ask(heard, 120, (1, 2))
    rows, positions, present = answerer.named(heard, asked)
    sequence, _ = answerer.lesson(heard, asked, padding=0.0, longest=32)
    assert positions.max() < sequence.shape[1]
    for row, question in enumerate(asked.questions):
        if question.kind == "choice":
            assert present[rows == row].sum() == 1 and (rows == row).sum() == len(question.asked)


def test_telling_words_tell_sounds_apart(tokenizer: Tokenizer) -> None:
    words = telling_words(tokenizer)
    assert torch.allclose(words.sum(1), torch.ones(len(LABELS)))
    assert words[LABELS.index("dog"), tokenizer.encode(" dog").ids].sum() > 0
    assert words[LABELS.index("cat"), tokenizer.encode(" dog").ids].sum() == 0
    assert words[:, tokenizer.encode(" a").ids].sum() == 0
    assert len(torch.unique(words, dim=0)) == len(LABELS)


def test_audio_rows_and_words_start_at_one_scale(answerer: Answerer, heard: Heard) -> None:
    rows = answerer.rows(heard, (torch.zeros(8, dtype=torch.long), torch.arange(8)))
    embeddings = answerer.mellow.caption_decoder.lm.model.embed_tokens.weight
    assert rows.std().item() == pytest.approx(SCALE, rel=0.2)
    assert embeddings.std().item() == pytest.approx(SCALE, rel=0.2)


def test_the_loss_reaches_everything_but_the_encoder(answerer: Answerer, heard: Heard) -> None:
    loss, metrics = answering_loss(heard, 16, 1, 32, growth=1)(answerer, 5, torch.Generator())
    answerer.zero_grad()
    loss.backward()
    assert metrics["presence"] > 0 and metrics["alignment"] > 0
    for name, parameter in answerer.named_parameters():
        assert (parameter.grad is None) is ("htsat" in name), name


def test_answers_do_not_depend_on_their_batch(answerer: Answerer, heard: Heard) -> None:
    asked = ask(heard, 10, (4, 2))
    assert answer_all(answerer, heard, asked, 12, batch=10) == answer_all(answerer, heard, asked, 12, batch=3)
