"""A captioner's whole run: captions, their embeddings, the writer, captions of held-out recordings, weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer

from alm_train.captioner.evaluate import Captioned, caption_clips
from alm_train.captioner.recipe import CaptionerRecipe
from alm_train.captioner.writing import Writer, read_captions, writing_loss, writing_validation
from alm_train.checkpoints.weights import load_weights, write_weights
from alm_train.contrastive.captions import styled_captions
from alm_train.data.library import recorded_clips
from alm_train.data.recordings import read_recordings, validation_set
from alm_train.loop import LOG, run_stage
from alm_train.memory import keep_freed_memory
from alm_train.models.clap import SUFFIX, Clap
from alm_train.models.clapcap import ClapCap
from alm_train.pipeline import Reporter, claim

VALIDATED = 400
"""Held-out captions whose loss is watched."""
CAPTIONED = 120
"""Most recordings captioned at the end, evenly spread."""
HEARD = ("esc50",)
"""Corpora whose held-out recordings are captioned at the end."""


def run_captioner(recipe: CaptionerRecipe, data: Path, output: Path, reporter: Reporter) -> Captioned:
    """Train by `recipe` on the captions under `data`; the weights end up in `output`/weights.

    Recordings are only listened to at the end, to see what is said about them. Started again with the same arguments,
    it goes on where it stopped.
    """
    keep_freed_memory()
    torch.set_num_threads(recipe.threads)
    claim(output, recipe)
    weights = load_weights(recipe.clap, "clap")
    clap, tokenizer = weights.model, Tokenizer.from_str(weights.tokenizer)
    assert isinstance(clap, Clap)
    captioner = _write(recipe, clap, tokenizer, data, output, reporter)
    attribution = f"{recipe.style} captions of NoAudioCaptioning (CDLA-Permissive 2.0); towers: {weights.attribution}"
    folder = output / "weights"
    write_weights(folder, captioner, weights.tokenizer, weights.licence, attribution, "clapcap")
    clips = recorded_clips(validation_set(read_recordings(data, HEARD)), per_source=1)
    clips = clips[:: -(-len(clips) // CAPTIONED)]
    with reporter.bar("caption held-out recordings"):
        results = caption_clips(captioner, tokenizer, clips)
    (folder / "evaluation.json").write_text(results.to_json(), encoding="utf-8")
    shutil.copyfile(output / LOG, folder / "training.jsonl")
    return results


def _write(
    recipe: CaptionerRecipe, clap: Clap, tokenizer: Tokenizer, data: Path, output: Path, reporter: Reporter
) -> ClapCap:
    with reporter.bar("read captions"):
        train, held_out = (
            read_captions(clap, tokenizer, texts, recipe.caption_tokens)
            for texts in (
                styled_captions(data, recipe.style, "train"),
                styled_captions(data, recipe.style, "val")[:VALIDATED],
            )
        )
    torch.manual_seed(recipe.seed)
    captioner = ClapCap(recipe.captioner(clap.config, tokenizer.encode(SUFFIX).ids[0]))
    captioner.clap.load_state_dict(clap.audio_encoder.state_dict())
    section = recipe.writing
    with reporter.stage("captioner") as report:
        averaged = run_stage(
            "captioner",
            Writer(captioner),
            section.schedule(recipe.seed, recipe.checkpoint_seconds),
            writing_loss(train, recipe.bridge.noise, section.batch, recipe.seed),
            writing_validation(held_out),
            output,
            report,
        )
    assert isinstance(averaged, Writer)
    captioner.clap_project.load_state_dict(averaged.mapper.state_dict())
    captioner.gpt.load_state_dict(averaged.gpt.state_dict())
    return captioner.eval()
