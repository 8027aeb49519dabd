"""The golden self-test: names the first stage that differs, and says when it cannot be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import TOLERANCES, golden, weights, write_fake

from alm.errors import PackageError, ParityError
from alm.models.mellow_self_test import STAGES
from alm.package import GoldenInfo
from alm.verify import verify

pytestmark = pytest.mark.usefixtures("fake_engine")


@pytest.mark.parametrize("clips", [1, 2])
def test_a_package_passes_its_own_test(tmp_path: Path, clips: int) -> None:
    result = verify(write_fake(tmp_path / "p.alm", arrays=golden(weights(), clips)))
    assert [stage.stage for stage in result.stages] == list(STAGES)
    assert result.ok
    assert result.first_difference is None
    assert all(stage.detail == "" for stage in result.stages)
    result.check()


@pytest.mark.parametrize(
    ("tensor", "stage"),
    [
        ("mel", "log_mel"),
        ("latent", "latent"),
        ("tokens", "audio_tokens"),
        ("embedding", "logits"),
        ("key", "logits"),
        ("value", "logits"),
        ("head", "logits"),
    ],
)
def test_the_first_stage_that_differs_is_named(tmp_path: Path, tensor: str, stage: str) -> None:
    altered = weights()
    altered[tensor] = altered[tensor] * np.float32(1.05)
    result = verify(write_fake(tmp_path / "p.alm", tensors=altered, arrays=golden(weights())))
    assert result.first_difference is not None
    assert result.first_difference.stage == stage
    assert result.first_difference.difference > result.first_difference.tolerance
    with pytest.raises(ParityError, match=f"stage {stage} is the first that differs"):
        result.check()


def test_tokens_are_exact_and_the_first_wrong_one_is_shown(tmp_path: Path) -> None:
    arrays = golden(weights())
    arrays["tokens"][3:5] += 1
    result = verify(write_fake(tmp_path / "p.alm", arrays=arrays))
    last = result.stages[-1]
    assert (last.stage, last.difference, last.tolerance, last.ok) == ("tokens", 2.0, 0.0, False)
    assert last.detail == f"{arrays['tokens'][3] - 1} instead of {arrays['tokens'][3]} at [3]"
    assert all(stage.ok for stage in result.stages[:-1])


def test_tolerances_are_those_of_the_manifest(tmp_path: Path) -> None:
    arrays = golden(weights())
    arrays["log_mel"][0, 2, 1] += 0.05
    assert not verify(write_fake(tmp_path / "a.alm", arrays=arrays)).ok
    loose = GoldenInfo(tolerances={**TOLERANCES, "log_mel": 0.06})
    result = verify(write_fake(tmp_path / "b.alm", arrays=arrays, golden=loose))
    assert result.ok
    assert result.stages[0].difference == pytest.approx(0.05, rel=1e-3)


def test_nan_and_other_shapes_never_pass(tmp_path: Path) -> None:
    endless = GoldenInfo(tolerances=dict.fromkeys(TOLERANCES, 1e9))
    broken = weights()
    broken["head"] = np.full_like(broken["head"], np.nan)
    result = verify(write_fake(tmp_path / "a.alm", tensors=broken, arrays=golden(weights()), golden=endless))
    assert result.first_difference is not None
    assert (result.first_difference.stage, result.first_difference.difference) == ("logits", float("inf"))
    arrays = golden(weights())
    arrays["latent"] = arrays["latent"][:, :-1]
    result = verify(write_fake(tmp_path / "b.alm", arrays=arrays, golden=endless))
    assert result.first_difference is not None
    assert result.first_difference.detail == "shape (1, 5) instead of (1, 4)"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logits", None, "lacks the array 'logits'"),
        ("audio", np.zeros((3, 800), np.float32), "audio is float32 of shape"),
        ("audio", np.zeros((1, 10), np.float32), "audio is float32 of shape"),
        ("prompt_ids", np.zeros(48, np.float32), "prompt_ids is float32"),
        ("prompt_ids", np.zeros(3, np.int64), "prompt_ids is int64 of shape"),
        ("tokens", np.zeros(0, np.int64), "tokens is int64 of shape"),
        ("tokens", np.zeros(1000, np.int64), "tokens is int64 of shape"),
        ("latent", np.array([{"code": 1}], dtype=object), "cannot be read"),
    ],
)
def test_a_self_test_that_cannot_be_used(tmp_path: Path, name: str, value: np.ndarray, message: str) -> None:
    arrays = golden(weights())
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    path = write_fake(tmp_path / "p.alm", arrays=arrays)
    with pytest.raises(PackageError, match=message):
        verify(path)


def test_a_missing_tolerance_is_an_error(tmp_path: Path) -> None:
    path = write_fake(tmp_path / "p.alm", golden=GoldenInfo(tolerances={"log_mel": 0.1, "latent": 0.1}))
    with pytest.raises(PackageError, match="no golden tolerance for: audio_tokens, logits"):
        verify(path)
