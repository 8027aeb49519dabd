"""Questions with one right answer: ReasonAQA's multiple choice and yes/no, and MMAU.

The model answers freely and is scored by the official rules (`letters`), not by the likelihood of options, so that the
figures compare with those that others report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alm_bench.quality.asking import Question
from alm_bench.quality.items import Item
from alm_bench.quality.letters import RULES, is_lettered
from alm_bench.quality.measures import Measure, mean_of


def questions(item: Item, capabilities: Collection[str]) -> list[Question]:
    """The question as it stands in the task file."""
    return [Question(item.id, "ask", item.text)]


def measures(items: Sequence[Item], said: Mapping[str, Any]) -> list[Measure]:
    """Accuracy per group and tag in percent; beside it how many answers named an option at all."""
    asked = [item for item in items if item.id in said]
    found = []
    for group in dict.fromkeys(name for item in asked for name in (_group(item), *item.tags)):
        members = [item for item in asked if group in (_group(item), *item.tags)]
        ids, clips = tuple(item.id for item in members), tuple(item.audio[0] for item in members)
        right = [100.0 * RULES[item.rule](said[item.id], item.answers[0]) for item in members]
        found.append(Measure("mcq", group, "accuracy", ids, clips, mean_of(right)))
        if all(item.rule != "word" for item in members):
            named = [100.0 * is_lettered(said[item.id]) for item in members]
            found.append(Measure("mcq", group, "answers with a letter", ids, clips, mean_of(named)))
    return found


def _group(item: Item) -> str:
    return f"{item.group} yes/no" if item.rule == "word" else item.group
