"""The quality gate: the cheapest assignment of schemes that stays inside a stated budget.

What the budget limits is the family's own: for Mellow the share of next-token decisions that may differ from
float32. The search starts at the cheapest assignment and, while outside, gives the part that costs most its next
dearer scheme. When nothing dearer is left, the export is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from alm.errors import QualityError
from alm_quantize.quality import Quality

PARTS = ("audio_encoder", "decoder", "head")
"""What is assigned a scheme; `head` is the matrix shared by the token embedding and the logits."""

Assignment = dict[str, str]


class Attempt(Protocol):
    """One assignment and what it costs, in a family's own measures."""

    @property
    def schemes(self) -> Assignment:
        """Scheme name per part."""
        ...

    @property
    def costs(self) -> Mapping[str, float]:
        """What each part costs; of those that can climb, the largest does."""
        ...

    @property
    def summary(self) -> str:
        """What the whole costs, in words for a refusal."""
        ...

    def within(self, budget: float) -> bool:
        """Whether the whole stays inside the budget."""
        ...


T = TypeVar("T", bound=Attempt)


@dataclass(frozen=True)
class Trial:
    """An assignment of a model that answers questions."""

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

    @property
    def costs(self) -> Mapping[str, float]:
        """Agreement that each part costs. The head counts with the decoder and moves first: it is one matrix, and the
        last one before the answer."""
        cost = {name: quality.agreement.loss for name, quality in self.alone.items()}
        return {**cost, "head": cost["decoder"] + 1e-9}

    @property
    def summary(self) -> str:
        """What the whole costs, in words."""
        return f"{self.loss:.1%} of next-token decisions differ"

    def within(self, budget: float) -> bool:
        """Whether the share of decisions that differ is inside the budget."""
        return self.loss <= budget


def search(ladders: Mapping[str, tuple[str, ...]], measure: Callable[[Assignment], T], budget: float) -> list[T]:
    """Trials in the order they were made; the last one is inside the budget.

    `ladders` gives each part its schemes from cheapest to dearest. QualityError, with every trial in its
    message, when the dearest assignment is still outside.
    """
    rungs = dict.fromkeys(ladders, 0)
    trials: list[T] = []
    while True:
        trials.append(measure({part: ladder[rungs[part]] for part, ladder in ladders.items()}))
        if trials[-1].within(budget):
            return trials
        movable = [part for part, ladder in ladders.items() if rungs[part] + 1 < len(ladder)]
        if not movable:
            raise QualityError(_refusal(trials, budget))
        costs = trials[-1].costs
        rungs[max(movable, key=lambda part: costs[part])] += 1


def _refusal(trials: list[T], budget: float) -> str:
    tried = "; ".join(
        f"{', '.join(f'{part} {scheme}' for part, scheme in trial.schemes.items())}: {trial.summary}"
        for trial in trials
    )
    return (
        f"quantization changes more than the budget of {budget:.1%} allows ({tried}). "
        "Export with more bits (--int8, --fp32), or accept it with a larger --budget"
    )
