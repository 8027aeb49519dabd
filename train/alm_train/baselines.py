"""What the trained model has to beat: the most frequent answer, and a support vector machine on cepstra."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import log_softmax, softmax
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from alm_train.data.library import Library
from alm_train.data.questions import VERDICTS, Question
from alm_train.data.sounds import LABELS, SOUNDS

CEPSTRA = 20
SHARPNESS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)


def majority_answers(questions: Sequence[Question]) -> dict[tuple[str, bool], str]:
    """Most frequent answer per `form` of question; where options have letters, the most frequent letter."""
    counts: dict[tuple[str, bool], Counter[str]] = {}
    for question in questions:
        said = question.answer.split(")")[0] + ")" if form(question)[1] else question.answer
        counts.setdefault(form(question), Counter())[said] += 1
    return {key: counter.most_common(1)[0][0] for key, counter in counts.items()}


def form(question: Question) -> tuple[str, bool]:
    """Kind of a question, and whether it is answered with a letter."""
    return question.kind, ")" in question.answer


def cepstral_statistics(library: Library) -> NDArray[np.float32]:
    """(clips, 6 * CEPSTRA): mean, deviation, maximum, minimum and median of MFCCs, deviation of their differences.

    Of sixteen sets of statistics these named most of the held-out clips.
    """
    log_mel = library.log_mels[0].float().numpy()
    cepstra = dct(log_mel, type=2, norm="ortho", axis=-1)[..., :CEPSTRA]
    parts = (cepstra.mean(1), cepstra.std(1), cepstra.max(1), cepstra.min(1), np.median(cepstra, axis=1))
    return np.concatenate((*parts, np.diff(cepstra, axis=1).std(1)), axis=1).astype(np.float32)


def cepstral_posteriors(train: Library, held_out: Library) -> NDArray[np.float64]:
    """(held-out clips, classes) probabilities of an RBF machine trained on the same clips as the model.

    They are a softmax of its decision values, sharpened as cross-validation on the training clips likes best.
    Sigmoids fitted per class instead (Platt's method) name a quarter fewer clips.
    """
    machine = make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale"))
    statistics, labels = cepstral_statistics(train), np.array(train.labels)
    folds = min(5, min(Counter(train.labels).values()))
    guesses = cross_val_predict(machine, statistics, labels, cv=folds, method="decision_function")
    machine.fit(statistics, labels)
    classes = machine.classes_
    truth = np.searchsorted(classes, labels)
    sharpness = min(SHARPNESS, key=lambda s: -log_softmax(s * guesses, axis=1)[np.arange(len(truth)), truth].mean())
    out = np.zeros((len(held_out.clips), len(LABELS)))
    columns = [LABELS.index(label) for label in classes]
    out[:, columns] = softmax(sharpness * machine.decision_function(cepstral_statistics(held_out)), axis=1)
    return out


@dataclass(frozen=True)
class Posterior:
    """Answers any question from class probabilities alone, as well as they allow."""

    first: NDArray[np.float64]
    """(classes,) of the first clip."""
    second: NDArray[np.float64]
    """(classes,) of the second clip."""

    def answer(self, question: Question) -> str:
        """The answer in the words of the templates."""
        best = [SOUNDS[LABELS[int(p.argmax())]] for p in (self.first, self.second)]
        asked = np.array([LABELS.index(label) for label in question.asked], dtype=int)
        match question.kind:
            case "caption":
                return best[0].sentence
            case "choice":
                return f"{'abcdefgh'[int(self.first[asked].argmax())]})"
            case "yes_no":
                return "yes" if self._present(asked) else "no"
            case "entailment":
                return self._verdict(question, self._present(asked))
            case _:
                return f"the first is {best[0].phrase}, the second is {best[1].phrase}."

    def _present(self, asked: NDArray[np.int_]) -> bool:
        """Bayes' rule when half of the questions ask for the true sound and half for any other one."""
        return bool(self.first[asked[0]] > 1 / len(LABELS))

    def _verdict(self, question: Question, present: bool) -> str:
        verdict = "no" if not present else "maybe" if question.unheard else "yes"
        option = question.text.find(f") {VERDICTS[verdict]}")
        return f"{question.text[option - 1]})" if option > 0 else verdict
