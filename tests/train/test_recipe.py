"""Recipes are checked before anything is computed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from corpora import TINY_RECIPE

from alm_train.answering.recipe import read_mellow_recipe
from alm_train.data.sounds import LABELS
from alm_train.models.mellow import Mellow
from alm_train.recipe import RecipeError

REFERENCE = Path(str(files("alm_train"))) / "recipes/mellow_reference.yaml"


def test_the_reference_stays_small() -> None:
    recipe = read_mellow_recipe(REFERENCE)
    model = Mellow(recipe.mellow(len(LABELS), pad_id=1))
    assert sum(p.numel() for p in model.parameters()) <= 12_000_000
    longest = model.config.prefix_tokens + recipe.answering.answer_tokens
    assert longest <= recipe.decoder.max_positions


def _with(path: Path, change) -> Path:
    content = yaml.safe_load(TINY_RECIPE)
    change(content)
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_wrong_entry_is_named(tmp_path: Path) -> None:
    def spoil(content: dict) -> None:
        content["teaching"]["batch"] = 0
        content["decoder"]["speling"] = 3
        del content["seed"]

    with pytest.raises(RecipeError) as raised:
        read_mellow_recipe(_with(tmp_path / "r.yaml", spoil))
    for entry in ("teaching.batch", "decoder.speling", "seed"):
        assert entry in str(raised.value)


@pytest.mark.parametrize("text", ["[1, 2", "just words", ""])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        read_mellow_recipe(tmp_path / "r.yaml")
