"""A captioner's whole run: captions, their embeddings, the writer, what it says of held-out recordings, weights."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from alm_train.captioner.evaluate import (
    MEASURED,
    Results,
    captions_from,
    evaluate_captioner,
    judge,
    listen,
    naming_validation,
)
from alm_train.captioner.grounding import HeardClips, gather, heard_captions
from alm_train.captioner.recipe import CaptionerRecipe, GroundingSection
from alm_train.captioner.release import write_captioner_release
from alm_train.captioner.texts import text_pairs
from alm_train.captioner.writing import Captions, Source, Writer, read_captions, writing_loss, writing_validation
from alm_train.checkpoints.weights import load_weights, write_weights
from alm_train.contrastive.evaluate import embed_log_mels
from alm_train.data.library import recorded_clips
from alm_train.data.recordings import read_recordings, validation_set
from alm_train.loop import LOG, Validate, run_stage
from alm_train.memory import keep_freed_memory
from alm_train.models.clap import SUFFIX, Clap
from alm_train.models.clapcap import ClapCap
from alm_train.recipe import StepsSection
from alm_train.run import Reporter, claim

VALIDATED = 400
"""Held-out captions whose loss is watched."""
CAPTIONED = 120
"""Most recordings captioned at the end of a run that heard none, evenly spread."""


@dataclass(frozen=True)
class Towers:
    """The CLAP of a run."""

    clap: Clap
    """Frozen."""
    tokenizer: Tokenizer
    """Of its text tower, and of the captioner."""
    tokenizer_json: str
    """The same as text."""
    licence: str
    """Of its weights."""
    attribution: str
    """Who made them."""


def run_captioner(recipe: CaptionerRecipe, data: Path, output: Path, reporter: Reporter) -> Results:
    """Train by `recipe` on the captions, and the clips if it hears any, under `data`; weights in `output`/weights.

    Started again with the same arguments, it goes on where it stopped.
    """
    keep_freed_memory()
    torch.set_num_threads(recipe.threads)
    claim(output, recipe)
    towers = _towers(recipe)
    texts = _read(recipe, towers, data, "train", reporter)
    watched = writing_validation(_read(recipe, towers, data, "val", reporter))
    captioner = _new(recipe, towers)
    source = Source(texts, recipe.writing.batch, recipe.bridge.noise)
    _write("captioner", captioner, [source], recipe, recipe.writing, watched, output, reporter)
    if recipe.grounding is None:
        return _release_unheard(recipe, towers, captioner, data, output, reporter)
    clips = gather(recipe.grounding.data, data, towers.clap.config.encoder.frontend, output / "cache", reporter)
    text_only = copy.deepcopy(captioner)
    _ground(recipe, recipe.grounding, towers, captioner, texts, clips, output, reporter)
    return _release_heard(recipe, towers, text_only, captioner, clips, output, reporter)


def _towers(recipe: CaptionerRecipe) -> Towers:
    weights = load_weights(recipe.clap, "clap")
    assert isinstance(weights.model, Clap)
    tokenizer = Tokenizer.from_str(weights.tokenizer)
    return Towers(weights.model, tokenizer, weights.tokenizer, weights.licence, weights.attribution)


def _read(recipe: CaptionerRecipe, towers: Towers, data: Path, split: str, reporter: Reporter) -> Captions:
    with reporter.bar(f"read captions, {split}"):
        pairs = text_pairs(data, recipe.style, split)[: VALIDATED if split == "val" else None]
        return read_captions(towers.clap, towers.tokenizer, pairs, recipe.caption_tokens)


def _new(recipe: CaptionerRecipe, towers: Towers) -> ClapCap:
    torch.manual_seed(recipe.seed)
    captioner = ClapCap(recipe.captioner(towers.clap.config, towers.tokenizer.encode(SUFFIX).ids[0]))
    captioner.clap.load_state_dict(towers.clap.audio_encoder.state_dict())
    return captioner


def _write(
    stage: str,
    captioner: ClapCap,
    sources: list[Source],
    recipe: CaptionerRecipe,
    section: StepsSection,
    validate: Validate[Writer],
    output: Path,
    reporter: Reporter,
) -> None:
    """Train the writer of `captioner` in place."""
    with reporter.stage(stage) as report:
        averaged = run_stage(
            stage,
            Writer(captioner),
            section.schedule(recipe.seed, recipe.checkpoint_seconds),
            writing_loss(sources, recipe.seed),
            validate,
            output,
            report,
        )
    captioner.clap_project.load_state_dict(averaged.mapper.state_dict())
    captioner.gpt.load_state_dict(averaged.gpt.state_dict())
    captioner.eval()


def _ground(
    recipe: CaptionerRecipe,
    section: GroundingSection,
    towers: Towers,
    captioner: ClapCap,
    texts: Captions,
    clips: HeardClips,
    output: Path,
    reporter: Reporter,
) -> None:
    """Go on with embeddings of the training clips beside those of texts."""
    file = output / "heard.safetensors"
    heard = heard_captions(section.data, clips, towers.clap, towers.tokenizer, recipe.seed, file, reporter)
    rows = round(section.share * section.writing.batch)
    sources = [Source(heard, rows, section.noise)]
    if rows < section.writing.batch:
        sources.append(Source(texts, section.writing.batch - rows, recipe.bridge.noise))
    known = clips.held_out.only([i for i, clip in enumerate(clips.held_out.clips) if clip.label in clips.seen][::4])
    watched = naming_validation(embed_log_mels(towers.clap, known.log_mels[0]), known.labels, towers.tokenizer)
    _write("grounding", captioner, sources, recipe, section.writing, watched, output, reporter)


def _release_unheard(
    recipe: CaptionerRecipe, towers: Towers, captioner: ClapCap, data: Path, output: Path, reporter: Reporter
) -> Results:
    """Weights and scores of a run in which no recording was heard: only now some are."""
    attribution = f"{recipe.style} captions of NoAudioCaptioning (CDLA-Permissive 2.0); towers: {towers.attribution}"
    folder = output / "weights"
    write_weights(folder, captioner, towers.tokenizer_json, towers.licence, attribution, "clapcap")
    clips = recorded_clips(validation_set(read_recordings(data, (MEASURED,))), per_source=1)
    clips = clips[:: -(-len(clips) // CAPTIONED)]
    with reporter.bar("caption held-out recordings"):
        texts = captions_from(Writer(captioner), towers.tokenizer, listen(captioner, clips))
    results = Results({MEASURED: judge(texts, [clip.label for clip in clips])}, {}, (), (), ())
    (folder / "evaluation.json").write_text(results.to_json(), encoding="utf-8")
    shutil.copyfile(output / LOG, folder / "training.jsonl")
    return results


def _release_heard(
    recipe: CaptionerRecipe,
    towers: Towers,
    text_only: ClapCap,
    captioner: ClapCap,
    clips: HeardClips,
    output: Path,
    reporter: Reporter,
) -> Results:
    """Write the weights, then score what was written: the rounding to float16 is part of it."""
    folder = output / "weights"
    write_captioner_release(folder, recipe, captioner, towers.tokenizer_json, clips, None, output / LOG)
    stored = load_weights(str(folder), "clapcap").model
    assert isinstance(stored, ClapCap)
    with reporter.bar("caption held-out clips"):
        results = evaluate_captioner(towers.clap, towers.tokenizer, text_only, stored, clips)
    write_captioner_release(folder, recipe, captioner, towers.tokenizer_json, clips, results, output / LOG)
    return results
