"""The quality gate: the cheapest assignment of schemes whose answers stay inside a stated budget.

The budget is the largest share of next-token decisions that may differ from float32. The search starts at the
cheapest assignment and, while over budget, gives the part that costs most agreement its next dearer scheme.
When nothing dearer is left, the export is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alm.errors import QualityError
from alm_quantize.quality import Quality

PARTS = ("audio_encoder", "decoder", "head")
"""What is assigned a scheme; `head` is the matrix shared by the token embedding and the logits."""
DEFAULT_BUDGET = 0.05
"""Five in a hundred decisions may differ."""

Assignment = dict[str, str]


@dataclass(frozen=True)
class Trial:
    """One assignment and what it costs."""

    schemes: Assignment
    """Scheme name per part."""
    whole: Quality
    """The package as it is."""
    alone: Mapping[str, Quality]
    """`audio_encoder` and `decoder` (with its head), each with the other in float32."""

    @property
    def loss(self) -> float:
        """Share of decisions that differ from float32."""
        return self.whole.agreement.loss


def search(
    ladders: Mapping[str, tuple[str, ...]], measure: Callable[[Assignment], Trial], budget: float
) -> list[Trial]:
    """Trials in the order they were made; the last one is inside the budget.

    `ladders` gives each part its schemes from cheapest to dearest. QualityError, with every trial in its
    message, when the dearest assignment is still outside.
    """
    rungs = dict.fromkeys(ladders, 0)
    trials: list[Trial] = []
    while True:
        trials.append(measure({part: ladder[rungs[part]] for part, ladder in ladders.items()}))
        if trials[-1].loss <= budget:
            return trials
        part = _costliest(trials[-1], [p for p in ladders if rungs[p] + 1 < len(ladders[p])])
        if part is None:
            raise QualityError(_refusal(trials, budget))
        rungs[part] += 1


def _costliest(trial: Trial, movable: list[str]) -> str | None:
    """The movable part that costs most agreement. The head counts with the decoder and moves first: it is
    one matrix, and the last one before the answer."""
    cost = {name: quality.agreement.loss for name, quality in trial.alone.items()}
    cost["head"] = cost["decoder"] + 1e-9
    return max(movable, key=lambda part: cost[part], default=None)


def _refusal(trials: list[Trial], budget: float) -> str:
    tried = "; ".join(
        f"{', '.join(f'{part} {scheme}' for part, scheme in trial.schemes.items())}: {trial.loss:.1%}"
        for trial in trials
    )
    return (
        f"quantization changes more than {budget:.1%} of next-token decisions ({tried}). "
        "Export with more bits (--int8, --fp32), or accept it with a larger --budget"
    )
