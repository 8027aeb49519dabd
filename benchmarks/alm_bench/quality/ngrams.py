"""Scores by shared words: BLEU and chrF of sacrebleu, ROUGE-L of rouge-score.

BLEU: Papineni et al. 2002; chrF: Popović 2015; ROUGE-L: Lin 2004. CIDEr, SPICE and METEOR are not here: the packages
that have them need Java, data from a network, or an older numpy than this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from alm_bench.quality.measures import Places, Statistic, mean_of

Texts = Sequence[str]
References = Sequence[Sequence[str]]

BLEU_4 = BLEU(effective_order=True)
CHRF_2 = CHRF()
ROUGE = RougeScorer(["rougeL"])


def plain(text: str) -> str:
    """Lower case without punctuation, as the captioning benchmarks compare."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def bleu(candidates: Texts, references: References) -> Statistic:
    """Corpus BLEU-4 in percent, on any draw: the counts of sentences add up to those of a corpus."""
    scores = [BLEU_4.sentence_score(c, list(r)) for c, r in zip(candidates, references, strict=True)]
    counts, totals = np.array([s.counts for s in scores]), np.array([s.totals for s in scores])
    lengths = np.array([(s.sys_len, s.ref_len) for s in scores])

    def statistic(places: Places) -> float:
        said, known = lengths[places].sum(0).tolist()
        right, possible = counts[places].sum(0).tolist(), totals[places].sum(0).tolist()
        return float(BLEU.compute_bleu(right, possible, said, known, smooth_method="exp").score)

    return statistic


def sentence_bleu(candidate: str, references: Texts) -> float:
    """BLEU-4 of one sentence in percent, smoothed as sacrebleu does by default."""
    return float(BLEU_4.sentence_score(plain(candidate), [plain(r) for r in references]).score)


def sentence_chrf(candidate: str, references: Texts) -> float:
    """chrF2 of one sentence in percent, against the best of the references."""
    return float(CHRF_2.sentence_score(plain(candidate), [plain(r) for r in references]).score)


def sentence_rouge(candidate: str, references: Texts) -> float:
    """ROUGE-L F of one sentence in percent, against the best of the references."""
    return 100 * float(ROUGE.score_multi([plain(r) for r in references], plain(candidate))["rougeL"].fmeasure)


def _mean(score: Callable[[str, Texts], float]) -> Callable[[Texts, References], Statistic]:
    return lambda candidates, references: mean_of([score(c, r) for c, r in zip(candidates, references, strict=True)])


def _corpus_bleu(candidates: Texts, references: References) -> Statistic:
    return bleu([plain(c) for c in candidates], [[plain(r) for r in group] for group in references])


METRICS: dict[str, Callable[[Texts, References], Statistic]] = {
    "BLEU-4": _corpus_bleu,
    "ROUGE-L": _mean(sentence_rouge),
    "chrF": _mean(sentence_chrf),
}
"""By name: candidates and the references of each, to a statistic in percent."""
