"""A whole run: clips, teacher, encoder, decoder, evaluation, weights. Each finished part is found again on resume."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from alm_train.answering.evaluate import Score, answering_validation, evaluate
from alm_train.answering.initial import initialise
from alm_train.answering.learning import Answerer, Heard, answering_loss, hear
from alm_train.answering.recipe import MellowRecipe
from alm_train.answering.release import write_release
from alm_train.checkpoints.weights import load_weights
from alm_train.data.library import Library, Progress, build_library, recorded_clips, synthetic_clips
from alm_train.data.recordings import (
    DataError,
    Recording,
    read_recordings,
    training_set,
    validation_set,
)
from alm_train.data.sounds import LABELS
from alm_train.loop import LOG, run_stage
from alm_train.memory import keep_freed_memory
from alm_train.models.htsat import HTSAT
from alm_train.models.mellow import Mellow
from alm_train.run import HELD_OUT_SEEDS, Reporter, claim
from alm_train.tagging import (
    Batches,
    GuidedEncoder,
    encoder_validation,
    guided_loss,
    train_teacher,
)
from alm_train.teacher import ConvTagger
from alm_train.tokenizer import pad_id, template_texts, train_tokenizer

ONTOLOGY = Path("text/audioset_ontology/ontology.json.gz")


@dataclass(frozen=True)
class Clips:
    """Everything that is heard in a run."""

    recordings: list[Recording]
    """Recordings that were trained on."""
    train: Library
    """Their clips, and synthetic ones."""
    held_out: Library
    """Clips of other sources."""


def run_mellow(recipe: MellowRecipe, data: Path, output: Path, reporter: Reporter) -> dict[str, list[Score]]:
    """Train by `recipe` on the corpora under `data`; the weights end up in `output`/weights.

    Started again with the same arguments, it goes on where it stopped. Returns the scores per corpus.
    """
    keep_freed_memory()
    torch.set_num_threads(recipe.threads)
    claim(output, recipe)
    clips = _clips(recipe, data, output, reporter)
    tokenizer = _tokenizer(recipe, data, output)
    teacher = train_teacher(recipe, clips.train, clips.held_out, output, reporter)
    htsat = _encoder(recipe, clips, teacher, tokenizer, output, reporter)
    mellow = _answerer(recipe, clips, htsat, tokenizer, output, reporter)
    return _release(recipe, clips, mellow, tokenizer, output, reporter)


def _clips(recipe: MellowRecipe, data: Path, output: Path, reporter: Reporter) -> Clips:
    section = recipe.data
    recordings = read_recordings(data, section.corpora)
    chosen = training_set(recordings)
    train = recorded_clips(chosen, section.per_source) + synthetic_clips(section.synthetic, 0)
    held_out = recorded_clips(validation_set(recordings), section.per_source)
    held_out += synthetic_clips(section.synthetic_held_out, HELD_OUT_SEEDS)
    used = {clip.path for clip in train}
    with reporter.bar("decode training clips") as progress:
        train_library = build_library(train, section.speeds, recipe.frontend, output / "cache", progress)
    with reporter.bar("decode held-out clips") as progress:
        held_out_library = build_library(held_out, (1.0,), recipe.frontend, output / "cache", progress)
    return Clips([r for r in chosen if r.path in used], train_library, held_out_library)


def _tokenizer(recipe: MellowRecipe, data: Path, output: Path) -> Tokenizer:
    file = output / "tokenizer.json"
    if not file.exists():
        texts = template_texts(6000, recipe.seed) + _ontology_texts(data / ONTOLOGY)
        train_tokenizer(texts, recipe.decoder.vocabulary).save(str(file))
    return Tokenizer.from_file(str(file))


def _ontology_texts(file: Path) -> list[str]:
    """Names and descriptions of AudioSet's classes (CC BY-SA 4.0): words about sounds beyond the templates."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") as opened:
            classes = json.load(opened)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    return [f"{entry['name']}. {entry['description']}".lower() for entry in classes]


def _encoder(
    recipe: MellowRecipe, clips: Clips, teacher: ConvTagger, tokenizer: Tokenizer, output: Path, reporter: Reporter
) -> HTSAT:
    stage = recipe.tagging
    batches = Batches(clips.train, recipe.data.per_class, stage.batch, recipe.seed + 1)
    torch.manual_seed(0)
    config = recipe.mellow(len(LABELS), pad_id(tokenizer)).encoder
    encoder = GuidedEncoder(HTSAT(config), teacher.head.in_features)
    with reporter.stage("encoder") as report:
        averaged = run_stage(
            "encoder",
            encoder,
            stage.schedule(batches.epoch_steps, recipe.seed, recipe.checkpoint_seconds),
            guided_loss(
                batches,
                recipe.augmentation.settings(),
                teacher,
                recipe.guidance.answers,
                recipe.guidance.features,
            ),
            encoder_validation(clips.held_out),
            output,
            report,
        )
    return averaged.htsat


def _answerer(
    recipe: MellowRecipe, clips: Clips, htsat: HTSAT, tokenizer: Tokenizer, output: Path, reporter: Reporter
) -> Mellow:
    section = recipe.answering
    torch.manual_seed(0)
    mellow = Mellow(recipe.mellow(len(LABELS), pad_id(tokenizer)))
    initialise(mellow)
    mellow.audio_encoder.base.htsat = htsat
    heard = _kept(
        output / "heard.safetensors",
        clips.train,
        lambda progress: hear(
            htsat, clips.train, section.views, section.augmentation.settings(), recipe.seed, progress
        ),
        reporter,
    )
    plain = _held_out_heard(recipe, clips, htsat, reporter)
    steps = section.epoch_questions // section.stage.batch
    with reporter.stage("decoder") as report:
        averaged = run_stage(
            "decoder",
            Answerer(mellow, tokenizer),
            section.stage.schedule(steps, recipe.seed, recipe.checkpoint_seconds),
            answering_loss(
                heard,
                section.stage.batch,
                recipe.seed,
                section.answer_tokens,
                section.growth_epochs * steps,
            ),
            answering_validation(plain, clips.held_out, recipe.seed, section.answer_tokens),
            output,
            report,
        )
    return averaged.mellow


def _held_out_heard(recipe: MellowRecipe, clips: Clips, htsat: HTSAT, reporter: Reporter) -> Heard:
    with reporter.bar("listen to held-out clips") as progress:
        return hear(htsat, clips.held_out, 1, recipe.answering.augmentation.settings(), recipe.seed, progress)


def _kept(file: Path, library: Library, compute: Callable[[Progress], Heard], reporter: Reporter) -> Heard:
    """Outputs of the finished encoder, from `file` when they are there."""
    if file.exists():
        tensors = load_file(file)
        return Heard(tensors["latent"], tensors["frames"], tuple(library.labels))
    with reporter.bar("listen to training clips") as progress:
        heard = compute(progress)
    partial = file.with_suffix(".partial")
    save_file({"latent": heard.latent, "frames": heard.frames}, partial)
    partial.replace(file)
    return heard


def _release(
    recipe: MellowRecipe, clips: Clips, mellow: Mellow, tokenizer: Tokenizer, output: Path, reporter: Reporter
) -> dict[str, list[Score]]:
    """Write the weights, then score what was written: the rounding to float16 is part of it."""
    folder = output / "weights"
    write_release(folder, recipe, mellow, tokenizer, clips.recordings, {}, output / LOG)
    stored = load_weights(str(folder)).model
    heard = _held_out_heard(recipe, clips, stored.audio_encoder.base.htsat, reporter)
    with reporter.bar("answer held-out questions"):
        results = evaluate(
            Answerer(stored, tokenizer),
            heard,
            clips.train,
            clips.held_out,
            recipe.evaluation.rounds,
            recipe.seed,
            recipe.answering.answer_tokens,
        )
    write_release(folder, recipe, mellow, tokenizer, clips.recordings, results, output / LOG)
    return results
