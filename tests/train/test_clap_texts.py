"""What the text tower of a small CLAP learns from: captions, pairs, prompts, and where it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clap_corpora import write_clap_corpora

from alm_train.contrastive.captions import caption_groups, ontology_groups, styled_captions
from alm_train.contrastive.cooccurrence import start_as_average, word_vectors
from alm_train.contrastive.pairs import QUALITY, QUALITY_PAIRS, TextPairs
from alm_train.contrastive.reading import Reader, read, tokenize
from alm_train.contrastive.wording import class_prompt, held_out_labels, label_texts
from alm_train.data.recordings import DataError
from alm_train.data.sounds import LABELS
from alm_train.models.clap import SUFFIX, ClapConfig
from alm_train.models.frontend import FrontendConfig
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.tokenizer import pad_id, train_tokenizer

# Three kinds of scene, of five words each: a word is only ever beside those of its own scene.
SCENES = (
    ("hen", "rooster", "farm", "cluck", "barn"),
    ("rain", "thunder", "storm", "drops", "cloud"),
    ("engine", "truck", "road", "brakes", "horn"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap_corpora(tmp_path_factory.mktemp("data"))


def _scenes(count: int) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(0)
    groups = []
    for number in range(count):
        words = SCENES[number % len(SCENES)]
        groups.append(tuple(f"the {' and the '.join(rng.permutation(words)[:3])}" for _ in range(2)))
    return groups


def _config(tokenizer_size: int, pad: int) -> ClapConfig:
    encoder = HTSATConfig(frontend=FrontendConfig(samples=16000), frames=64, fold=1, depths=(1,), heads=(2,), width=8)
    text = GPT2Config(vocabulary=tokenizer_size, width=32, layers=1, heads=2, max_positions=24)
    return ClapConfig(encoder=encoder, text=text, embedding=32, text_tokens=12, pad_id=pad)


def test_captions_of_one_clip_are_one_group(data: Path) -> None:
    groups = caption_groups(data, "train")
    clotho = next(group for group in groups if "one hears that a dog barks at the gate" in group)
    assert len(clotho) == 11 and all("a dog barks at the gate" in text for text in clotho)
    assert ("humorous a dog barks at the gate", "uplifting a dog barks at the gate") in groups
    assert len(styled_captions(data, "humorous", "train")) == 30 * 6
    assert ontology_groups(data) == [("bark", "the sound of a dog.")]


def test_a_missing_or_strange_file_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"audiocaps_style_train\.csv cannot be read"):
        styled_captions(tmp_path, "humorous", "train")
    file = tmp_path / "text/noaudio_style/humorous/audiocaps_style_train.csv"
    file.parent.mkdir(parents=True)
    file.write_text("id,text\n1,rain\n")
    with pytest.raises(DataError, match="lacks the columns audiocap_id, style_caption"):
        styled_captions(tmp_path, "humorous", "train")


def test_pairs_belong_together_and_name_no_group_twice() -> None:
    groups = _scenes(90) + [(f"a quiet place {n}", f"all calm {n}") for n in range(110)]
    pairs = TextPairs(groups, [("bird song", "song", "the song of a bird.")])
    first, second = pairs.draw(80, np.random.default_rng(3))
    assert len(first) == len(second) == 80
    assert sum(text in QUALITY for text in first) == QUALITY_PAIRS
    scene_of = {word: scene for scene in SCENES for word in scene}
    shown, removed = 0, 0
    for one, two in list(zip(first, second, strict=True))[QUALITY_PAIRS + 1 :]:
        scenes = {scene_of[word] for text in (one, two) for word in text.split() if word in scene_of}
        assert len(scenes) == (0 if {"quiet", "calm"} & {*one.split(), *two.split()} else 1)
        if (scenes and not one.startswith("the ")) or one.startswith("the sound of"):
            shown += 1
            removed += not set(one.split()) & set(two.split()) & set(scene_of)
    assert shown > 5 and removed > 2


def test_tokens_start_beside_the_company_they_keep() -> None:
    groups = _scenes(300)
    tokenizer = train_tokenizer([text for group in groups for text in group], 400)
    vectors = word_vectors(groups, tokenizer, 32)
    assert vectors.shape == (tokenizer.get_vocab_size(), 32) and vectors.isfinite().all()
    place = {word: vectors[tokenizer.encode(f" {word}").ids[0]] for scene in SCENES for word in scene}
    likeness = torch.nn.functional.cosine_similarity
    for scene in SCENES:
        for word in scene:
            near = np.mean([likeness(place[word], place[other], dim=0) for other in scene if other != word])
            far = np.mean([likeness(place[word], place[o], dim=0) for s in SCENES if s is not scene for o in s])
            assert near > far


def test_an_untrained_tower_already_tells_scenes_apart() -> None:
    groups = _scenes(300)
    tokenizer = train_tokenizer([text for group in groups for text in group], 400)
    config = _config(tokenizer.get_vocab_size(), pad_id(tokenizer))
    torch.manual_seed(0)
    reader = Reader(config).eval()
    start_as_average(reader.tower, word_vectors(groups, tokenizer, 32))
    vectors = read(reader.tower, tokenizer, ["the hen", "the barn", "the thunder", "the storm"], config)
    alike = vectors @ vectors.T
    assert alike[0, 1] > alike[0, 2:].max() and alike[2, 3] > alike[:2, 2:].max()


def test_a_long_text_loses_its_end_but_not_the_suffix() -> None:
    tokenizer = train_tokenizer(["rain falls on the roof"], 300)
    config = _config(tokenizer.get_vocab_size(), pad_id(tokenizer))
    ids = tokenize(tokenizer, ["rain " * 30, "rain"], config)
    suffix = tokenizer.encode(SUFFIX).ids
    assert ids.shape == (2, 12)
    assert ids[0, -len(suffix) :].tolist() == suffix
    short = tokenizer.encode("rain").ids + suffix
    assert ids[1].tolist() == short + [config.pad_id] * (12 - len(short))


def test_the_rule_for_classes_kept_out_looks_at_names_alone() -> None:
    groups = {"water": ["rain", "brook", "waves"], "animals": ["dog", "cow", "cat"]}
    assert held_out_labels(groups, 2) == ("cat", "cow", "brook", "rain")
    assert held_out_labels(groups, 0) == ()


def test_every_class_has_its_prompt_among_its_wordings() -> None:
    for label in LABELS:
        assert label_texts(label)[0] == class_prompt(label)
        assert len(set(label_texts(label))) > 5
