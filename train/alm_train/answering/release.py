"""What leaves the training of a small Mellow: weights, tokenizer, scores, credits and a card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from alm_train.answering.evaluate import Score, as_json, percent
from alm_train.answering.recipe import MellowRecipe
from alm_train.checkpoints.weights import write_weights
from alm_train.credits import write_credits
from alm_train.data.recordings import Recording
from alm_train.data.sounds import LABELS
from alm_train.models.mellow import Mellow

LICENCE = "CC-BY-SA-4.0"
ATTRIBUTION = (
    "alm-edge reference weights, trained on CC0 and CC BY recordings of ESC-50 (Freesound), the Free Spoken "
    "Digit Dataset (CC BY-SA 4.0), VCTK speech through codecs (CC BY 4.0) and synthetic sounds; "
    "authors in CREDITS.csv"
)


def write_release(
    folder: Path,
    recipe: MellowRecipe,
    model: Mellow,
    tokenizer: Tokenizer,
    trained_on: Sequence[Recording],
    results: dict[str, list[Score]],
    log: Path,
) -> None:
    """Write everything that ships with the weights into `folder`; `log` is the log of the run."""
    write_weights(folder, model, tokenizer.to_str(pretty=False), LICENCE, ATTRIBUTION)
    write_credits(folder / "CREDITS.csv", trained_on)
    shutil.copyfile(log, folder / "training.jsonl")
    (folder / "evaluation.json").write_text(json.dumps(as_json(results), indent=1) + "\n", encoding="utf-8")
    parameters = sum(p.numel() for p in model.parameters())
    (folder / "README.md").write_text(card(recipe, parameters, trained_on, results), encoding="utf-8")


def card(
    recipe: MellowRecipe, parameters: int, trained_on: Sequence[Recording], results: dict[str, list[Score]]
) -> str:
    """The model card, in Markdown."""
    licences = Counter((r.corpus, r.licence) for r in trained_on)
    sources = "\n".join(f"| {corpus} | {licence} | {n} |" for (corpus, licence), n in sorted(licences.items()))
    tables = "\n\n".join(_score_table(corpus, scores) for corpus, scores in results.items())
    return f"""# {recipe.name}

A small Mellow: HTS-AT and a SmolLM2-style decoder, {parameters / 1e6:.1f} M parameters, stored in float16. It names
everyday sounds, answers multiple-choice and yes/no questions, judges statements and compares two clips. It reads
lower-case English about sounds; it has never seen other text.

**Licence of the weights: {LICENCE}** (the Free Spoken Digit Dataset asks for share-alike). The authors of the
recordings are credited in `CREDITS.csv`.

## Trained on

| corpus | licence | recordings |
|---|---|---|
{sources}

Besides: sounds the recipe synthesises (tones, beeps, sweeps, noises, silence) and text written from templates; the
tokenizer has also read the names and descriptions of the AudioSet ontology (CC BY-SA 4.0). Clips under
non-commercial or sampling licences were left out. No source (Freesound id or talker) is in both training and
held-out clips. Reproduce with
`alm-train mellow train/alm_train/recipes/mellow_reference.yaml --data DATA --output RUN`.

A convolutional tagger was trained first and guided the encoder, which then stayed frozen while the decoder learned
from its outputs on {recipe.answering.views} views of each clip. `training.jsonl` is the log of the run and
`evaluation.json` holds the scores below.

## Held-out clips

Share of right answers in %, with 95 % intervals from a bootstrap over clips. `majority` always gives the most
frequent answer; `svm` is an RBF support vector machine on cepstral statistics, trained on the same clips. A
multiple choice has four options; half of the yes/no questions are true; a difference counts when both sounds are
named with their clips. The ESC-50 clips (fold 4) were looked at while the recipe was written, so they are not
blind; none of them reached the weights.

{tables}

## Limits

It knows {len(LABELS)} kinds of sound and one sound at a time: anything else is called by the nearest name it
has. Words outside its templates mean little to it. Clips are {recipe.encoder.samples / 32000:.0f} s long.
"""


def _score_table(corpus: str, scores: Sequence[Score]) -> str:
    answerers = list(dict.fromkeys(s.answerer for s in scores))
    lines = [
        f"**{corpus}**",
        "",
        f"| question | n | clips | {' | '.join(answerers)} |",
        f"|---|---|---|{'---|' * len(answerers)}",
    ]
    for kind in dict.fromkeys(s.kind for s in scores):
        row = {s.answerer: s for s in scores if s.kind == kind}
        first = row[answerers[0]]
        cells = " | ".join(percent(row[name]) for name in answerers)
        lines.append(f"| {kind} | {first.questions} | {first.clips} | {cells} |")
    return "\n".join(lines)
