"""Weights of one family are not taken for another's, and names that do not exist list those that do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_clap import TINY, tiny_clap

from alm.errors import CheckpointError, ExportError
from alm_export.families import FAMILIES as EXPORTED
from alm_export.families import find_exporter
from alm_train.checkpoints.families import FAMILIES
from alm_train.checkpoints.weights import load_weights


def test_a_folder_comes_back_as_its_family(tiny_clap_weights: Path) -> None:
    weights = load_weights(str(tiny_clap_weights), "clap")
    assert (weights.family, weights.source, weights.model.config) == ("clap", "path", TINY)
    for key, tensor in tiny_clap().state_dict().items():
        assert torch.equal(weights.model.state_dict()[key], tensor)


def test_weights_may_be_read_by_whom_other_new_files_may(tiny_clap_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert (tiny_clap_weights / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_of_another_family(tiny_clap_weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected the metadata of a mellow model .* found 'clap'"):
        load_weights(str(tiny_clap_weights), "mellow")


def test_names_that_do_not_exist() -> None:
    with pytest.raises(CheckpointError, match="unknown model family 'clop'; this version has mellow, clap"):
        load_weights("reference", "clop")
    with pytest.raises(CheckpointError, match=r"no name of clap weights \(reference, 2023, random\)"):
        load_weights("2020", "clap")
    with pytest.raises(ExportError, match="unknown model family 'clop'; this version has mellow, clap, pam"):
        find_exporter("clop")


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exporter_names_weights_and_parts_that_exist(name: str) -> None:
    exporter = find_exporter(name)
    assert FAMILIES.keys() >= set(exporter.weights_families)
    assert "audio_encoder" in exporter.parts
    assert exporter.precision in {"int4", "int8", "fp32"}
