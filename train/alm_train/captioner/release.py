"""What leaves the training of a captioner that heard clips: weights, tokenizer, scores, credits and a card."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from alm_train.captioner.evaluate import Results
from alm_train.captioner.grounding import HeardClips
from alm_train.captioner.recipe import CaptionerRecipe
from alm_train.checkpoints.weights import write_weights
from alm_train.contrastive.release import listed, naming_row, percent
from alm_train.credits import write_credits
from alm_train.models.clapcap import ClapCap

LICENCE = "CC-BY-SA-4.0"
ATTRIBUTION = (
    "alm-edge reference weights; audio tower of the CLAP reference weights; trained on CC0 and CC BY recordings of "
    "ESC-50 (Freesound), the Free Spoken Digit Dataset (CC BY-SA 4.0), synthetic sounds, hypotheses of AudioEntailment "
    "(MIT) and the AudioSet ontology (CC BY-SA 4.0); authors in CREDITS.csv"
)
GROUPS = {"seen": "ESC-50, seen classes", "unseen": "ESC-50, unseen classes", "fsdd": "speech"}
"""What the card calls groups of clips; others go by their name."""


def write_captioner_release(
    folder: Path,
    recipe: CaptionerRecipe,
    captioner: ClapCap,
    tokenizer: str,
    clips: HeardClips,
    results: Results | None,
    log: Path,
) -> None:
    """Write everything that ships with the weights into `folder`; the card and the scores once there are `results`."""
    write_weights(folder, captioner, tokenizer, LICENCE, ATTRIBUTION, "clapcap")
    write_credits(folder / "CREDITS.csv", clips.recordings)
    shutil.copyfile(log, folder / "training.jsonl")
    if results is None:
        return
    (folder / "evaluation.json").write_text(results.to_json(), encoding="utf-8")
    (folder / "README.md").write_text(card(recipe, captioner, clips, results), encoding="utf-8")


def card(recipe: CaptionerRecipe, captioner: ClapCap, clips: HeardClips, results: Results) -> str:
    """The model card, in Markdown."""
    assert recipe.grounding is not None
    texts, heard = recipe.writing.steps, recipe.grounding
    kinds = len(clips.seen) + len(clips.unseen)
    seconds = captioner.config.encoder.frontend.samples / captioner.config.encoder.frontend.sample_rate
    parameters = sum(p.numel() for p in captioner.parameters())
    licences = Counter((r.corpus, r.licence) for r in clips.recordings)
    sources = "\n".join(f"| {corpus} | {licence} | {n} |" for (corpus, licence), n in sorted(licences.items()))
    return f"""# {recipe.name}

A small ClapCap: the audio tower of the CLAP reference weights, a mapper and a GPT-2 style language model,
{parameters / 1e6:.1f} M parameters, stored in float16. It says in one short sentence what sounds in a clip.

**Licence of the weights: {LICENCE}** (the Free Spoken Digit Dataset and the AudioSet ontology ask for share-alike).
The authors of the recordings are credited in `CREDITS.csv`.

## Trained on

| corpus | licence | recordings |
|---|---|---|
{sources}

Besides: sounds the recipe synthesises, and text: hypotheses of AudioEntailment about Clotho's development clips (MIT),
names of the AudioSet ontology (CC BY-SA 4.0) and wordings of the {kinds} kinds of sound.
Reproduce with `alm-train captioner train/alm_train/recipes/clapcap_reference.yaml --data DATA --output RUN`.

Both towers of the CLAP stayed frozen. First the mapper and the language model learned from texts alone: to write a
text back from what the text tower makes of it, with noise ({texts} steps). Then, for {heard.writing.steps} steps,
{100 * heard.share:.0f} % of each batch were embeddings of clips by the audio tower, each in {heard.data.views} views,
beside the sentence for their kind of sound. `training.jsonl` is the log of the run, `evaluation.json` holds the scores.

**Not heard**: {listed(results.unseen)}.
The CLAP was kept from these classes as well. Texts name them; no sound was put beside those texts.

## Held-out clips

Share of captions in %, with 95 % Wilson intervals, that hold a word which of all {kinds} kinds of sound only
the clip's has. `text only` is the same model before it heard anything. `shuffled` are the final captions, each beside
the kind of another of all these clips. ESC-50 is fold 4, speech a speaker of its own, and synthetic sounds have seeds
of their own.

| clips | n | captions | text only | shuffled |
|---|---|---|---|---|
{chr(10).join(_caption_row(results, group) for group in results.captions)}

The same ESC-50 clips, asked for their class instead: the CLAP with the same audio tower by the prompt `this is the
sound of CLASS`, and an RBF support vector machine on cepstral statistics of the same training clips.

| clips of | among | n | clap | svm | chance |
|---|---|---|---|---|---|
{chr(10).join(naming_row(naming, len(results.seen), len(results.unseen)) for naming in results.naming)}

Different captions over all captions of the seen classes: {results.captions["seen"].distinct:.2f}, of `text only`
{results.text_only["seen"].distinct:.2f}.

## Limits

It says one sound per clip, in the words of the {len(clips.seen)} kinds it heard; anything else is called by the nearest
of them, as the row of the unseen classes shows. It does not say how sure it is. Clips are
{seconds:.0f} s long. The ESC-50 clips (fold 4) were looked at while the recipe was written; they are not
blind. None of them reached the weights.
"""


def _caption_row(results: Results, group: str) -> str:
    after, before = results.captions[group], results.text_only[group]
    shares = " | ".join(percent(share) for share in (after.named, before.named, after.named_by_chance))
    return f"| {GROUPS.get(group, group)} | {after.named.total} | {shares} |"
