"""Answers in free text against references: captions, differences and descriptive answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alm_bench.quality.asking import Question
from alm_bench.quality.items import Item
from alm_bench.quality.measures import Measure
from alm_bench.quality.ngrams import METRICS


def questions(item: Item, capabilities: Collection[str]) -> list[Question]:
    """The question as it stands in the task file; a package that captions takes none."""
    if "ask" not in capabilities:
        return [Question(item.id, "caption")]
    return [Question(item.id, "ask", item.text)]


def measures(items: Sequence[Item], said: Mapping[str, Any]) -> list[Measure]:
    """N-gram scores per group."""
    found = []
    for group in dict.fromkeys(item.group for item in items):
        members = [item for item in items if item.group == group and item.id in said]
        if not members:
            continue
        ids, clips = tuple(item.id for item in members), tuple(item.audio[0] for item in members)
        candidates = [without_position(said[item.id]) for item in members]
        references = [[without_position(text) for text in item.answers] for item in members]
        for metric, score in METRICS.items():
            found.append(Measure(members[0].task, group, metric, ids, clips, score(candidates, references)))
    return found


def without_position(text: str) -> str:
    """A caption without "The audio 1 is ", which Mellow's training puts before it and its authors take off again."""
    return re.sub(r"^the audio 1 is\s+", "", text.strip(), flags=re.IGNORECASE)
