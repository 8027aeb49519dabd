"""A whole run: clips, tokenizer, text tower, teacher, audio tower, scores, weights. Finished parts are kept."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase

from alm_train.contrastive.captions import caption_groups, ontology_groups
from alm_train.contrastive.centring import centre
from alm_train.contrastive.clips import ClapClips, gather_clips
from alm_train.contrastive.cooccurrence import start_as_average, word_vectors
from alm_train.contrastive.evaluate import Results, evaluate_clap
from alm_train.contrastive.hearing import Listener, hearing_loss, hearing_validation, put_up
from alm_train.contrastive.pairs import TextPairs
from alm_train.contrastive.reading import Reader, reading_loss, reading_validation
from alm_train.contrastive.recipe import ClapRecipe
from alm_train.contrastive.release import write_clap_release
from alm_train.loop import LOG, run_stage
from alm_train.memory import keep_freed_memory
from alm_train.models.clap import Clap
from alm_train.run import Reporter, claim
from alm_train.tagging import Batches, train_teacher
from alm_train.teacher import ConvTagger
from alm_train.tokenizer import pad_id, train_tokenizer


def run_clap(recipe: ClapRecipe, data: Path, output: Path, reporter: Reporter) -> Results:
    """Train by `recipe` on the corpora and texts under `data`; the weights end up in `output`/weights.

    Started again with the same arguments, it goes on where it stopped.
    """
    keep_freed_memory()
    torch.set_num_threads(recipe.threads)
    claim(output, recipe)
    clips = gather_clips(recipe, data, output / "cache", reporter)
    tokenizer = _tokenizer(recipe, data, output)
    clap = _text_tower(recipe, clips, tokenizer, data, output, reporter)
    known = [i for i, clip in enumerate(clips.held_out.clips) if clip.label in clips.seen]
    teacher = train_teacher(recipe, clips.train, clips.held_out.only(known), output, reporter)
    _audio_tower(recipe, clips, clap, teacher, tokenizer, output, reporter)
    centre(clap, clips.train.log_mels[0], ontology_groups(data), tokenizer)
    folder = output / "weights"
    write_clap_release(folder, recipe, clap, tokenizer, clips, None, output / LOG)
    with reporter.bar("score held-out clips"):
        results = evaluate_clap(folder, clips, data)
    write_clap_release(folder, recipe, clap, tokenizer, clips, results, output / LOG)
    return results


def _tokenizer(recipe: ClapRecipe, data: Path, output: Path) -> Tokenizer:
    """Trained on the texts of the reading stage. It lowers case itself, so that `Dog` and `dog` are one word."""
    file = output / "tokenizer.json"
    if not file.exists():
        texts = [text for group in caption_groups(data, "train") + ontology_groups(data) for text in group]
        tokenizer = train_tokenizer(texts, recipe.text.vocabulary)
        tokenizer.normalizer = Lowercase()
        tokenizer.save(str(file))
    return Tokenizer.from_file(str(file))


def _text_tower(
    recipe: ClapRecipe, clips: ClapClips, tokenizer: Tokenizer, data: Path, output: Path, reporter: Reporter
) -> Clap:
    """A CLAP whose text tower has read."""
    config = recipe.clap(len(clips.seen), tokenizer.get_vocab_size(), pad_id(tokenizer))
    ontology = ontology_groups(data)
    captions = caption_groups(data, "train")
    pairs, held_out = TextPairs(captions, ontology), TextPairs(caption_groups(data, "val"), ontology)
    torch.manual_seed(0)
    reader = Reader(config)
    start_as_average(reader.tower, word_vectors(captions + ontology, tokenizer, config.text.width))
    with reporter.stage("text") as report:
        averaged = run_stage(
            "text",
            reader,
            recipe.reading.schedule(recipe.seed, recipe.checkpoint_seconds),
            reading_loss(pairs, tokenizer, config, recipe.reading.batch, recipe.seed),
            reading_validation(held_out, tokenizer, config, recipe.reading.batch),
            output,
            report,
        )
    torch.manual_seed(0)
    clap = Clap(config)
    clap.caption_encoder.load_state_dict(averaged.tower.state_dict())
    return clap


def _audio_tower(
    recipe: ClapRecipe,
    clips: ClapClips,
    clap: Clap,
    teacher: ConvTagger,
    tokenizer: Tokenizer,
    output: Path,
    reporter: Reporter,
) -> None:
    """Train the audio tower of `clap` in place."""
    section = recipe.hearing
    batches = Batches(clips.train, recipe.data.per_class, section.stage.batch, recipe.seed + 1)
    signposts = put_up(clap, tokenizer, clips.seen)
    torch.manual_seed(0)
    listener = Listener(clap, teacher.head.in_features)
    with reporter.stage("audio") as report:
        averaged = run_stage(
            "audio",
            listener,
            section.stage.schedule(batches.epoch_steps, recipe.seed, recipe.checkpoint_seconds),
            hearing_loss(batches, clips.spoilt, signposts, teacher, recipe.augmentation.settings(), section),
            hearing_validation(clips.held_out, signposts, clips.held_out_spoilt),
            output,
            report,
        )
    clap.load_state_dict(averaged.clap.state_dict())
