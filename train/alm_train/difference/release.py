"""What leaves the training of a small ADIFF: weights, tokenizer, scores, credits and a card."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from alm_train.answering.release import ATTRIBUTION, LICENCE
from alm_train.checkpoints.weights import write_weights
from alm_train.contrastive.evaluate import Share
from alm_train.credits import write_credits
from alm_train.data.recordings import Recording
from alm_train.data.sounds import LABELS
from alm_train.difference.evaluate import Results, TaskScore
from alm_train.difference.recipe import DifferenceRecipe
from alm_train.difference.wording import OFFICIAL
from alm_train.models.adiff import Adiff


def write_difference_release(
    folder: Path,
    recipe: DifferenceRecipe,
    adiff: Adiff,
    tokenizer: Tokenizer,
    trained_on: Sequence[Recording],
    results: Results | None,
    log: Path,
) -> None:
    """Write everything that ships with the weights into `folder`; the card and the scores once there are `results`."""
    write_weights(folder, adiff, tokenizer.to_str(pretty=False), LICENCE, ATTRIBUTION, "adiff")
    write_credits(folder / "CREDITS.csv", trained_on)
    shutil.copyfile(log, folder / "training.jsonl")
    if results is None:
        return
    (folder / "evaluation.json").write_text(results.to_json(), encoding="utf-8")
    parameters = sum(p.numel() for p in adiff.parameters())
    (folder / "README.md").write_text(card(recipe, parameters, trained_on, results), encoding="utf-8")


def card(recipe: DifferenceRecipe, parameters: int, trained_on: Sequence[Recording], results: Results) -> str:
    """The model card, in Markdown."""
    licences = Counter((r.corpus, r.licence) for r in trained_on)
    sources = "\n".join(f"| {corpus} | {licence} | {n} |" for (corpus, licence), n in sorted(licences.items()))
    prompts = "\n".join(f"* `{text}`" for text in OFFICIAL.values())
    rows = "\n".join(_row(score) for score in results.tasks)
    examples = "\n".join(f"| {one} | {two} | {text} |" for one, two, text in results.examples)
    return f"""# {recipe.name}

A small ADIFF: HTS-AT, mappers for both clips and the prompt, a transformer over all of them and a GPT-2 style
decoder, {parameters / 1e6:.1f} M parameters, stored in float16. It says what differs between two recordings in three
lengths, and which sound is in which. Its prompts, and wordings near them, in upper or lower case:

{prompts}

**Licence of the weights: {LICENCE}** (the Free Spoken Digit Dataset and the AudioSet ontology ask for share-alike).
The authors of the recordings are credited in `CREDITS.csv`.

## Trained on

| corpus | licence | recordings |
|---|---|---|
{sources}

Besides: sounds the recipe synthesises and text written from templates; the tokenizer has also read the AudioSet
ontology (CC BY-SA 4.0). Reproduce with
`alm-train difference train/alm_train/recipes/adiff_reference.yaml --data DATA --output RUN`.

The audio encoder is that of the Mellow weights `{recipe.mellow}` and stayed frozen: the rest learned from its outputs
on {recipe.data.views} views of each clip, in the paper's three stages. The parts learn alone: the encoder as a tagger
(the Mellow recipe), the decoder from words that stand where the clips will be ({recipe.writing.steps} steps). Then the
mappers learn to steer the frozen decoder ({recipe.grounding.steps} steps). Last, everything behind the encoder learns
together ({recipe.joining.steps} steps; in the paper this stage is short, since its decoder is a pretrained GPT-2).

Answers are composed from the words for the two sounds and, beyond few words, from what was measured of the recordings:
pitch (mean mel band by power) and evenness (deviation of the level over time), each against the training clips.
`training.jsonl` is the log of the run, `evaluation.json` holds the scores below.

## Held-out recordings

Every ESC-50 clip of fold 4 beside one of another class, the same pairs for every row. An answer is right when it has
the shape of its task and names the sounds that are asked for, each in its slot; in %, 95 % Wilson interval over pairs.
`svm` is an RBF support vector machine on cepstral statistics of the same training clips. `unseen` prompts are wordings
that were not trained on. Mellow, whose encoder this is, names both sounds of {_percent(results.mellow)} % of these
pairs when it is asked for the difference in few words. The rows share their pairs; where intervals overlap, a
difference may be chance.

| task | prompts | n | adiff | svm | chance |
|---|---|---|---|---|---|
{rows}

{_compared(results.compared)}

| first | second | answer |
|---|---|---|
{examples}

## Limits

It knows {len(LABELS)} kinds of sound and one sound at a time: anything else is called by the nearest name it has, and
two recordings of one kind are told apart only by pitch and evenness. Loudness is not compared. Whatever it is asked, it
gives one of these six kinds of answer. Clips are 5 s long. The ESC-50 clips (fold 4) were looked at while the recipe
was written, so they are not blind; none of them reached the weights.
"""


def _row(score: TaskScore) -> str:
    cells = (_percent(score.model), _percent(score.svm), f"{100 * score.chance:.2f}")
    return f"| {score.task} | {score.wording} | {score.model.total} | {' | '.join(cells)} |"


def _compared(truths: Share | None) -> str:
    if truths is None:
        return "No answer of a sentence or in detail compared pitch or evenness."
    return (
        "Of the statements `higher`, `lower`, `more even` and `less even` in the answers of a sentence and in detail,\n"
        f"{_percent(truths)} % are true of the two recordings as measured (n = {truths.total}; a coin reaches 50)."
    )


def _percent(share: Share) -> str:
    return f"{100 * share.share:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
