"""What leaves the training of a small CLAP: weights, tokenizer, scores, credits and a card that says how they came."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer

from alm_train.checkpoints.weights import write_weights
from alm_train.contrastive.clips import ClapClips
from alm_train.contrastive.evaluate import Naming, Results, Share
from alm_train.contrastive.recipe import ClapRecipe
from alm_train.contrastive.spoilt import KINDS
from alm_train.credits import write_credits
from alm_train.models.clap import Clap

LICENCE = "CC-BY-SA-4.0"
ATTRIBUTION = (
    "alm-edge reference weights, trained on CC0 and CC BY recordings of ESC-50 (Freesound), the Free Spoken Digit "
    "Dataset (CC BY-SA 4.0), synthetic sounds, restyled captions of NoAudioCaptioning (CDLA-Permissive 2.0), "
    "hypotheses of AudioEntailment (MIT) and the AudioSet ontology (CC BY-SA 4.0); authors in CREDITS.csv"
)


def write_clap_release(
    folder: Path,
    recipe: ClapRecipe,
    clap: Clap,
    tokenizer: Tokenizer,
    clips: ClapClips,
    results: Results | None,
    log: Path,
) -> None:
    """Write everything that ships with the weights into `folder`; the card and the scores once there are `results`."""
    write_weights(folder, clap, tokenizer.to_str(pretty=False), LICENCE, ATTRIBUTION, "clap")
    write_credits(folder / "CREDITS.csv", clips.recordings)
    shutil.copyfile(log, folder / "training.jsonl")
    if results is None:
        return
    (folder / "evaluation.json").write_text(results.to_json(), encoding="utf-8")
    parameters = sum(p.numel() for p in clap.parameters())
    (folder / "README.md").write_text(card(recipe, parameters, clips, results), encoding="utf-8")


def card(recipe: ClapRecipe, parameters: int, clips: ClapClips, results: Results) -> str:
    """The model card, in Markdown."""
    licences = Counter((r.corpus, r.licence) for r in clips.recordings)
    sources = "\n".join(f"| {corpus} | {licence} | {n} |" for (corpus, licence), n in sorted(licences.items()))
    return f"""# {recipe.name}

A small CLAP: HTS-AT and a GPT-2 style text tower that meet in {recipe.embedding} dimensions, {parameters / 1e6:.1f} M
parameters, stored in float16. It compares sounds with English descriptions and says whether a recording is clean.

**Licence of the weights: {LICENCE}** (the Free Spoken Digit Dataset and the AudioSet ontology ask for share-alike).
The authors of the recordings are credited in `CREDITS.csv`.

## Trained on

| corpus | licence | recordings |
|---|---|---|
{sources}

Besides: sounds the recipe synthesises, spoilt copies of all of these, and text: restyled captions of
NoAudioCaptioning (CDLA-Permissive 2.0), hypotheses of AudioEntailment (MIT), the AudioSet ontology (CC BY-SA 4.0).
Reproduce with `alm-train clap train/alm_train/recipes/clap_reference.yaml --data DATA --output RUN`.

The text tower read first, from texts alone: captions of one clip belong together, and a word belongs to the captions it
stands in. Then it was frozen, and the audio tower learned to point where the text tower points; a convolutional tagger
guided it and was thrown away. `training.jsonl` is the log of the run, `evaluation.json` holds the scores below. The
tokenizer lowers case: `Dog` and `dog` are one word. At last both towers were moved so that the mean of the training
clips, and that of prompts about every kind of sound in the ontology, lies at the origin.

**Kept out of it**: {listed(results.unseen)}.
They are the first two classes of each ESC-50 group in alphabetical
order. No recording of them was heard, and no text about them was put beside a sound. The text tower read about all
sounds alike, from captions and from the ontology; their words do occur there, which is how it knows them at all.

## Held-out recordings

ESC-50 fold 4, prompt `this is the sound of CLASS`; share of right answers in %, 95 % Wilson interval. `svm` is an RBF
support vector machine on cepstral statistics of the same recordings; classes that it never heard it reaches through the
text tower (the prompts of the classes it knows, weighted by their probabilities).

| clips of | among | n | clap | svm | chance |
|---|---|---|---|---|---|
{chr(10).join(naming_row(naming, len(results.seen), len(results.unseen)) for naming in results.naming)}

Pairs of a held-out clip and a spoilt copy of it that PAM's two prompts rank rightly, in %:

{_ranking_table(results)}

Correlation of the PAM score with mean MUSHRA ratings of {results.listening["clips"]:.0f} clips of speech through codecs
(`codec_mushra`, none of it trained on): Pearson {results.listening["pearson"]:.2f}, Spearman
{results.listening["spearman"]:.2f}.

## Limits

It heard {len(clips.train.clips)} clips of {len(clips.seen)} kinds of sound. A sound of another kind is placed by its
likeness to those; read the rows of the unseen classes above before relying on that. What it calls spoilt is crude
damage: noise, clipping, a low-pass, codecs at their lowest rate, few bits. The correlation above says how far that
carries to speech through neural codecs; while it is negative, codecs must not be ranked by this score. Clips are
{recipe.encoder.samples / 32000:.0f} s long, texts at most {recipe.text.tokens} tokens. The ESC-50 clips (fold 4) were
looked at while the recipe was written, and its last step, moving the towers, was added after seeing them; they are not
blind. None of them reached the weights.
"""


def listed(labels: tuple[str, ...]) -> str:
    """Names of classes in a sentence."""
    return ", ".join(label.replace("_", " ") for label in labels)


def naming_row(naming: Naming, seen: int, unseen: int) -> str:
    """One row of the table of classes named, for numbers of seen and unseen classes."""
    counts = {"seen": seen, "unseen": unseen, "all": seen + unseen}
    whose, among = (f"{counts[name]} {name}" for name in (naming.clips, naming.options))
    chance = f"{100 * naming.chance:.1f}"
    return f"| {whose} | {among} | {naming.clap.total} | {percent(naming.clap)} | {percent(naming.svm)} | {chance} |"


def _ranking_table(results: Results) -> str:
    kinds = (*KINDS, "all")
    lines = [f"| corpus | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    lines += [
        f"| {corpus} | {' | '.join(percent(shares[kind]) if kind in shares else '' for kind in kinds)} |"
        for corpus, shares in results.ranking.items()
    ]
    return "\n".join(lines)


def percent(share: Share) -> str:
    """`92.1 [90.0, 94.0]`."""
    return f"{100 * share.share:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
