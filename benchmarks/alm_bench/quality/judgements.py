"""How often a caption metric agrees with people, on their choices between two captions of a clip.

Protocol and data: FENSE (Zhou et al., 2022, arXiv 2110.04684), which MACE follows. Pairs are of four kinds: two
people's captions (HC), one of the clip and one of another clip (HI), a person's and a model's (HM), two models' (MM).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from alm_bench.quality.fluency import Detector
from alm_bench.quality.items import TaskError
from alm_bench.quality.judging import FENSE, MACE
from alm_bench.quality.measures import Measure, Places, mean_of
from alm_bench.quality.ngrams import plain, sentence_bleu, sentence_chrf, sentence_rouge

Texts = Sequence[str]
Similarity = Callable[[str, Texts], float]
"""Caption and references to a score."""

KINDS = ("HC", "HI", "HM", "MM")
FEWEST_REFERENCES = 4
"""Shorter lists are repeated from the start until they have as many."""


def _choice(fields: list[str | int | list[int]]) -> list[str | int | list[int]]:
    match fields:
        case [str(), str(), *_, list()]:
            return fields
    raise ValueError("expected two captions first and the votes last")


Choice = Annotated[list[str | int | list[int]], AfterValidator(_choice)]


class JudgedClip(BaseModel):
    """A clip of AudioCaps-Eval or Clotho-Eval; other fields are choices: two captions, who made them, votes."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Choice | str | None]

    audio_id: str
    references: Annotated[list[str], Field(min_length=2)]


@dataclass(frozen=True)
class Pair:
    """A choice that people made."""

    kind: str
    """One of `KINDS`."""
    clip: str
    """The clip that both captions are said to be of."""
    captions: tuple[str, str]
    """The two."""
    references: tuple[tuple[str, ...], ...]
    """What each is compared with."""
    verdict: int
    """Sum of the votes: above 0 the first is better, below 0 the second."""


@dataclass(frozen=True)
class Metric:
    """A way to score a caption."""

    similarity: Similarity
    """Caption and references to a score."""
    by_words: bool = False
    """Whether it counts words. Such metrics like many references, so a model's caption is scored against each set of
    all but one of them, as many as a person's caption has, and the scores are averaged."""

    def score(self, kind: str, caption: str, references: Texts) -> float:
        """The score of one caption of a pair."""
        if not (self.by_words and kind == "MM"):
            return self.similarity(caption, references)
        sets = [[*references[:i], *references[i + 1 :]] for i in range(len(references))]
        return float(np.mean([self.similarity(caption, others) for others in sets]))


WORDS = {
    "BLEU-4": Metric(sentence_bleu, by_words=True),
    "ROUGE-L": Metric(sentence_rouge, by_words=True),
    "chrF": Metric(sentence_chrf, by_words=True),
}
PENALTIES = {"MACE's penalty": MACE, "FENSE's penalty": FENSE}


def read_pairs(name: str, rows: Sequence[Any]) -> list[Pair]:
    """The pairs of a judgement file that people had a preference about. TaskError for a file in another format."""
    found = []
    try:
        clips = [JudgedClip.model_validate(row) for row in rows]
    except ValidationError as error:
        first = error.errors()[0]
        raise TaskError(
            f"{name} is no file of caption judgements: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected a "
            "list of clips with audio_id, references and choices HC, HI, HM, MM_1 ..."
        ) from None
    for clip in clips:
        for key, choice in (clip.model_extra or {}).items():
            kind = key.partition("_")[0]
            if kind not in KINDS or choice is None:
                continue
            one, other, *_, votes = choice
            if sum(votes):
                # Between people's captions each side is compared with all but itself, else both with all but the first.
                left_out = (one, other if kind == "HC" else one)
                references = tuple(_references(kind, clip.references, text) for text in left_out)
                found.append(Pair(kind, clip.audio_id, (one, other), references, sum(votes)))
    if not found:
        raise TaskError(f"{name} has no pair of captions that people had a preference about")
    return found


def pair_scores(metric: Metric, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """(pairs, 2): what the metric gives both captions of each."""
    return np.array(
        [[metric.score(p.kind, *side) for side in zip(p.captions, p.references, strict=True)] for p in pairs]
    )


def agreement(name: str, scores: NDArray[np.float64], pairs: Sequence[Pair]) -> list[Measure]:
    """Percent of pairs that scores (pairs, 2) order as people do, by kind and in total; a tie is wrong."""
    right = 100.0 * ((scores[:, 0] - scores[:, 1]) * np.array([pair.verdict for pair in pairs]) > 0)
    found = []
    for kind in (*KINDS, "total"):
        places = [place for place, pair in enumerate(pairs) if kind in (pair.kind, "total")]
        if places:
            ids, clips = tuple(map(str, places)), tuple(pairs[place].clip for place in places)
            found.append(Measure("agreement", kind, name, ids, clips, mean_of(right[places].tolist())))
    return found


def agreements(metrics: Mapping[str, Metric], detector: Detector, pairs: Sequence[Pair]) -> list[Measure]:
    """`agreement` of every metric, alone and with what either penalty takes off captions that look broken."""
    broken = np.array([detector.error_probability(pair.captions) for pair in pairs])
    found = []
    for name, metric in metrics.items():
        scores = pair_scores(metric, pairs)
        found += agreement(name, scores, pairs)
        for penalty, rule in PENALTIES.items():
            found += agreement(f"{name}, {penalty}", scores * rule.factor(broken), pairs)
    return found


def rare_words(captions: Texts) -> Metric:
    """The cosine of captions as bags of words weighted by rarity in `captions`: what needs no model at all."""
    weights = TfidfVectorizer(min_df=2, sublinear_tf=True).fit([plain(caption) for caption in captions])

    def similarity(caption: str, references: Texts) -> float:
        rows = weights.transform([plain(text) for text in (caption, *references)])
        return float((rows[1:] @ rows[0].T).mean())

    return Metric(similarity)


class LabelledCaption(BaseModel):
    """A caption that people looked at for errors."""

    caption: str
    fluency_issue: int


def read_labels(name: str, rows: Sequence[Any]) -> list[LabelledCaption]:
    """Captions with labels, 1 where broken. TaskError for a file in another format."""
    try:
        return [LabelledCaption.model_validate(row) for row in rows]
    except ValidationError:
        raise TaskError(
            f"{name} is no file of labelled captions; expected the columns caption, fluency_issue"
        ) from None


def fluency_measures(detector: Detector, labelled: Sequence[LabelledCaption]) -> list[Measure]:
    """Area under the curve, in percent, of a detector on captions that people called broken (1) or fine (0)."""
    truth = np.array([row.fluency_issue for row in labelled])
    told = np.array(detector.error_probability([row.caption for row in labelled]))
    ids = tuple(map(str, range(len(truth))))
    return [Measure("fluency", "broken captions", "area under the curve", ids, ids, _area(truth, told))]


def _area(truth: NDArray[np.int64], told: NDArray[np.float64]) -> Callable[[Places], float]:
    return lambda places: 100 * float(roc_auc_score(truth[places], told[places]))


def _references(kind: str, references: Sequence[str], left_out: str) -> tuple[str, ...]:
    if kind == "MM":
        return tuple(references)
    kept = [reference for reference in references if reference != left_out]
    return tuple(islice(cycle(kept), max(len(kept), FEWEST_REFERENCES)))
