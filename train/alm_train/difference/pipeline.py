"""A whole run: clips, what the encoder makes of them, tokenizer, three stages, scores, weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase
from torch import Tensor

from alm_train.answering.learning import Answerer, hear
from alm_train.answering.learning import Heard as FullyHeard
from alm_train.checkpoints.weights import Weights, load_weights
from alm_train.contrastive.captions import ontology_groups
from alm_train.data.library import Library, build_library, recorded_clips, synthetic_clips
from alm_train.data.recordings import Recording, read_recordings, training_set, validation_set
from alm_train.difference.character import Scale, measure
from alm_train.difference.evaluate import Results, difference_validation, evaluate_difference
from alm_train.difference.initial import initialise
from alm_train.difference.learning import Ears, Explainer, answers_of, draw, explaining_loss, writing_loss
from alm_train.difference.recipe import DifferenceRecipe
from alm_train.difference.release import write_difference_release
from alm_train.difference.wording import Heard
from alm_train.loop import LOG, Loss, Validate, run_stage
from alm_train.memory import keep_freed_memory
from alm_train.models.adiff import Adiff
from alm_train.models.mellow import Mellow
from alm_train.recipe import StepsSection
from alm_train.run import Reporter, claim
from alm_train.tokenizer import train_tokenizer

HELD_OUT = "esc50"
"""Corpus whose held-out recordings are asked about."""
WRITTEN = 12000
"""Lessons that the tokenizer reads."""


@dataclass(frozen=True)
class Clips:
    """Everything that is heard in a run."""

    recordings: list[Recording]
    """Recordings that were trained on."""
    train: Library
    """Their clips, and synthetic ones."""
    held_out: Library
    """Clips of other sources."""


def run_difference(recipe: DifferenceRecipe, data: Path, output: Path, reporter: Reporter) -> Results:
    """Train by `recipe` on the corpora under `data`; the weights end up in `output`/weights.

    Started again with the same arguments, it goes on where it stopped.
    """
    keep_freed_memory()
    torch.set_num_threads(recipe.threads)
    claim(output, recipe)
    weights = load_weights(recipe.mellow, "mellow")
    mellow = weights.model
    assert isinstance(mellow, Mellow)
    clips = _clips(recipe, mellow, data, output, reporter)
    scale = Scale.of(measure(clips.train.log_mels[0]))
    ears = _ears(scale, clips.train, _latent(recipe, mellow, clips.train, output, reporter))
    with reporter.bar("listen to held-out clips") as progress:
        heard = hear(mellow.audio_encoder.base.htsat, clips.held_out, 1, recipe.augmentation.settings(), 0, progress)
    plain = _ears(scale, clips.held_out, heard.latent)
    tokenizer = _tokenizer(recipe, ears, data, output)
    module = _learn(recipe, mellow, tokenizer, ears, difference_validation(plain, recipe.seed), output, reporter)
    return _release(recipe, weights, module, tokenizer, clips, plain, heard, output, reporter)


def _clips(recipe: DifferenceRecipe, mellow: Mellow, data: Path, output: Path, reporter: Reporter) -> Clips:
    section, frontend = recipe.data, mellow.config.encoder.frontend
    recordings = read_recordings(data, section.corpora)
    chosen = training_set(recordings)
    train = recorded_clips(chosen, section.per_source) + synthetic_clips(section.synthetic, 0)
    held_out = recorded_clips([r for r in validation_set(recordings) if r.corpus == HELD_OUT], section.per_source)
    used = {clip.path for clip in train}
    with reporter.bar("decode training clips") as progress:
        train_library = build_library(train, section.speeds, frontend, output / "cache", progress)
    with reporter.bar("decode held-out clips") as progress:
        held_out_library = build_library(held_out, (1.0,), frontend, output / "cache", progress)
    return Clips([r for r in chosen if r.path in used], train_library, held_out_library)


def _latent(recipe: DifferenceRecipe, mellow: Mellow, train: Library, output: Path, reporter: Reporter) -> Tensor:
    """(views, clips, width) of the training clips, from an earlier start of this run when they are there."""
    file = output / "heard.safetensors"
    if not file.exists():
        settings = recipe.augmentation.settings()
        with reporter.bar("listen to training clips") as progress:
            heard = hear(mellow.audio_encoder.base.htsat, train, recipe.data.views, settings, recipe.seed, progress)
        partial = file.with_suffix(".partial")
        save_file({"latent": heard.latent}, partial)
        partial.replace(file)
    return load_file(file)["latent"]


def _ears(scale: Scale, library: Library, latent: Tensor) -> Ears:
    characters = scale.characters(measure(library.log_mels[0]))
    return Ears(latent, tuple(Heard(*pair) for pair in zip(library.labels, characters, strict=True)))


def _tokenizer(recipe: DifferenceRecipe, ears: Ears, data: Path, output: Path) -> Tokenizer:
    """Trained on prompts, answers and the words of the AudioSet ontology. It lowers case itself."""
    file = output / "tokenizer.json"
    if not file.exists():
        lesson = draw(ears, WRITTEN, (recipe.seed, 0))
        texts = [*lesson.prompts, *answers_of(ears, lesson)]
        texts += [text for group in ontology_groups(data) for text in group]
        tokenizer = train_tokenizer(texts, recipe.explainer.vocabulary)
        tokenizer.normalizer = Lowercase()
        tokenizer.save(str(file))
    return Tokenizer.from_file(str(file))


def _learn(
    recipe: DifferenceRecipe,
    mellow: Mellow,
    tokenizer: Tokenizer,
    ears: Ears,
    validate: Validate[Explainer],
    output: Path,
    reporter: Reporter,
) -> Explainer:
    torch.manual_seed(0)
    adiff = Adiff(recipe.adiff(mellow.config.encoder, tokenizer))
    adiff.audio_encoder.base.htsat.load_state_dict(mellow.audio_encoder.base.htsat.state_dict())
    initialise(adiff)
    module = Explainer(adiff, tokenizer)
    language = module.adiff.caption_decoder.gpt
    stages: tuple[tuple[str, StepsSection, Loss[Explainer], Validate[Explainer]], ...] = (
        ("writing", recipe.writing, writing_loss(ears, recipe.writing.batch, recipe.seed), lambda _: {}),
        ("grounding", recipe.grounding, explaining_loss(ears, recipe.grounding.batch, recipe.seed + 1), validate),
        ("joining", recipe.joining, explaining_loss(ears, recipe.joining.batch, recipe.seed + 2), validate),
    )
    for name, section, loss, watch in stages:
        language.requires_grad_(name != "grounding")
        with reporter.stage(name) as report:
            averaged = run_stage(
                name,
                module,
                section.schedule(recipe.seed, recipe.checkpoint_seconds),
                loss,
                watch,
                output,
                report,
            )
        module.load_state_dict(averaged.state_dict())
        module.zero_grad()  # a gradient left on what is frozen next would count in the clipping
    return module.eval()


def _release(
    recipe: DifferenceRecipe,
    mellow: Weights,
    module: Explainer,
    tokenizer: Tokenizer,
    clips: Clips,
    plain: Ears,
    heard: FullyHeard,
    output: Path,
    reporter: Reporter,
) -> Results:
    """Write the weights, then score what was written: the rounding to float16 is part of it."""
    folder = output / "weights"
    write_difference_release(folder, recipe, module.adiff, tokenizer, clips.recordings, None, output / LOG)
    stored = load_weights(str(folder), "adiff").model
    assert isinstance(stored, Adiff)
    beside = Answerer(mellow.model, Tokenizer.from_str(mellow.tokenizer))
    with reporter.bar("explain held-out pairs"):
        results = evaluate_difference(
            Explainer(stored, tokenizer), plain, beside, heard, clips.train, clips.held_out, recipe.seed
        )
    write_difference_release(folder, recipe, module.adiff, tokenizer, clips.recordings, results, output / LOG)
    return results
