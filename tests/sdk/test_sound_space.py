"""CLAP and PAM through the SDK: vectors, labels, scores, and what is said when they cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clap import TINY, tiny_clap
from tiny_mellow import RATE, noise

import alm
from alm.adaptation import AdaptationSettings, Adapter
from alm.models import Clap, Mellow, Pam
from alm_export.pipeline import Exported
from alm_train.models.clap import SUFFIX
from alm_train.models.two_towers import unit

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]
LABELS = ["dog bark", "rain", "siren"]


@pytest.fixture(scope="module")
def pam(tiny_space: Export, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pam]:
    pairs = tmp_path_factory.mktemp("prompts") / "pairs.yaml"
    pairs.write_text("- {name: noise, good: clear, bad: noisy}\n- {name: wind, good: still air, bad: wind}\n")
    with alm.load(tiny_space("pam", prompts=str(pairs)).path, Pam, threads=1) as model:
        yield model


def sound(seconds: float, seed: int = 0) -> tuple[np.ndarray, int]:
    return noise(round(seconds * RATE), seed)[0], RATE


def in_torch(samples: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return unit(tiny_clap().embed_audio(torch.from_numpy(samples[None])))[0].numpy()


def text_in_torch(text: str, clap: Clap) -> np.ndarray:
    from alm.texts.text import TextTokenizer

    ids, _ = TextTokenizer(clap.package.read("tokenizer.json"), clap.space.text).encode(text)
    with torch.inference_mode():
        return unit(tiny_clap().embed_text(torch.from_numpy(ids)[None]))[0].numpy()


def test_vectors_are_those_of_torch(clap: Clap) -> None:
    sounds = [sound(1, seed) for seed in range(3)]
    found = clap.embed_audio(sounds)
    assert found.shape == (3, TINY.embedding)
    np.testing.assert_allclose(found, [in_torch(samples) for samples, _ in sounds], atol=1e-4)
    texts = ["a dog barking", "rain", "is it a bell?! a crow!"]
    np.testing.assert_allclose(clap.embed_text(texts), [text_in_torch(t, clap) for t in texts], atol=1e-4)


def test_a_long_recording_is_the_mean_of_its_windows(clap: Clap) -> None:
    samples, _ = sound(2.5)
    cuts = [samples[:RATE], samples[RATE : 2 * RATE], samples[-RATE:]]
    heard = clap.hear((samples, RATE))
    np.testing.assert_allclose(heard.vectors, [in_torch(cut) for cut in cuts], atol=1e-4)
    assert heard.spans == ((0, 1), (1, 2), (1.5, 2.5))
    mean = heard.vectors.mean(0)
    np.testing.assert_allclose(clap.embed_audio([(samples, RATE)])[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert len(clap.hear((samples, RATE), window="first").spans) == 1


def test_compat_puts_channels_in_a_row(clap: Clap, pam: Pam) -> None:
    left, right = sound(1, 1)[0], sound(1, 2)[0]
    stereo = np.stack((left, right), 1), RATE
    np.testing.assert_allclose(pam.hear(stereo, compat=True).vectors, [in_torch(left), in_torch(right)], atol=1e-4)
    np.testing.assert_allclose(clap.hear(stereo, compat=True).vectors, [in_torch(left)], atol=1e-4)
    averaged = (left + right) / 2
    np.testing.assert_allclose(clap.hear(stereo).vectors, [in_torch(averaged)], atol=1e-4)


def test_classify_is_a_softmax_over_scaled_cosines(clap: Clap) -> None:
    samples, _ = sound(1)
    result = clap.classify((samples, RATE), LABELS)
    texts = np.stack([text_in_torch(f"this is a sound of {label}", clap) for label in LABELS])
    powers = np.exp(20.0 * texts @ in_torch(samples))
    expected = dict(zip(LABELS, powers / powers.sum(), strict=True))
    assert {one.label: one.probability for one in result.labels} == pytest.approx(expected, abs=1e-4)
    assert [one.label for one in result.labels] == sorted(LABELS, key=lambda label: -expected[label])
    assert result.best == result.labels[0].label
    assert clap.classify((samples, RATE), LABELS, template="{}").labels != result.labels


def test_similarity_is_the_authors(clap: Clap) -> None:
    sounds, texts = [sound(1, 1), sound(1, 2)], ["rain", "a siren"]
    expected = clap.space.scale * clap.embed_audio(sounds) @ clap.embed_text(texts).T
    np.testing.assert_allclose(clap.similarity(sounds, texts), expected, atol=1e-4)


def test_stored_labels_need_no_text_tower(clap: Clap, tiny_space: Export, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("dog bark\n\nrain\nsiren\n")
    with alm.load(tiny_space("clap", labels=file, no_text=True).path, Clap) as small:
        assert small.space.labels == tuple(LABELS)
        assert set(small.info.components) == {"audio_encoder"}
        assert "tokenizer.json" not in small.info.entries
        result, expected = small.classify(sound(1)), clap.classify(sound(1), LABELS)
        assert [one.label for one in result.labels] == [one.label for one in expected.labels]
        assert [one.probability for one in result.labels] == pytest.approx(
            [one.probability for one in expected.labels], abs=1e-4
        )
        with pytest.raises(alm.AlmError, match=r"without the text encoder .*dog bark, rain, siren"):
            small.classify(sound(1), ["a", "b"])
        with pytest.raises(alm.AlmError, match="put into its template at export"):
            small.classify(sound(1), template="{}")


def test_score_is_the_mean_over_windows(pam: Pam) -> None:
    samples, _ = sound(2.5)
    result = pam.score((samples, RATE))
    vectors = pam.package.tensors("vectors.safetensors")["pairs"]
    assert vectors.shape == (2, 2, TINY.embedding)
    cuts = np.stack([in_torch(cut) for cut in (samples[:RATE], samples[RATE : 2 * RATE], samples[-RATE:])])
    for (name, curve), (good, bad) in zip(result.curve.items(), vectors, strict=True):
        np.testing.assert_allclose(curve, 1 / (1 + np.exp(20.0 * (cuts @ bad - cuts @ good))), atol=1e-4)
        assert result.values[name] == pytest.approx(np.mean(curve))
    assert list(result.values) == ["noise", "wind"]
    assert result.value == result.values["noise"]
    assert result.spans == ((0, 1), (1, 2), (1.5, 2.5))


def test_what_was_met_lately_is_not_encoded_again(tiny_space: Export) -> None:
    with alm.load(tiny_space("clap").path, Clap, cache_bytes=10**6) as model:
        for _ in range(2):
            model.classify(sound(1), LABELS)
        assert (model.cache.counts.misses, model.cache.counts.hits) == (4, 4)
    with alm.load(tiny_space("clap").path, Clap, cache_bytes=0) as model:
        model.embed_audio([sound(1), sound(1)])
        assert model.cache.counts.hits == 0


def test_progress_and_order(clap: Clap) -> None:
    seen: list[tuple[int, int]] = []
    clap.embed_audio([sound(1), sound(1)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_how_far_into_a_long_recording_it_is(clap: Clap, pam: Pam) -> None:
    reached: list[float] = []
    clap.classify(sound(2.5), LABELS, progress=reached.append)
    pam.score(sound(2.5), progress=reached.append)
    clap.classify(sound(2.5), LABELS, adapt=Adapter(AdaptationSettings(views=0)), progress=reached.append)
    assert reached == [1, 2, 2.5] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.classify(sound(1)), "no labels of its own"),
        (lambda m: m.classify(sound(1), ["rain"]), "at least two different"),
        (lambda m: m.classify(sound(1), ["rain", "rain"]), "at least two different"),
        (lambda m: m.classify(sound(1), "rain"), "at least two different"),
        (lambda m: m.classify(sound(1), LABELS, template="a sound"), "expected {} in it"),
        (lambda m: m.embed_text("rain"), "expected a list of texts"),
        (lambda m: m.embed_text([" "]), "is empty"),
        (lambda m: m.embed_text(["rain " * 90]), "the limit of this package is 77"),
        (lambda m: m.embed_text(["\ud800"]), "not valid Unicode"),
        (lambda m: m.embed_text([3]), "expected a text"),
        (lambda m: m.embed_audio("x.wav"), "expected a list of recordings"),
        (lambda m: m.embed_audio(["nowhere.wav"]), "cannot be opened"),
    ],
)
def test_what_cannot_be_done_is_said(clap: Clap, call: Callable[[Clap], object], message: str) -> None:
    with pytest.raises(alm.AlmError, match=message):
        call(clap)


def test_a_package_of_another_family(tiny_space: Export) -> None:
    path = tiny_space("clap").path
    with pytest.raises(alm.PackageError, match=r"is a package of clap, which can classify.*expected pam"):
        alm.load(path, Pam)
    with pytest.raises(alm.PackageError, match="expected mellow"):
        alm.load(path, Mellow)


def test_a_closed_model_says_so(tiny_space: Export) -> None:
    model = alm.load(tiny_space("clap").path, Clap)
    model.close()
    model.close()
    with pytest.raises(alm.AlmError, match="closed"):
        model.embed_audio([sound(1)])


def test_the_suffix_is_part_of_the_package(clap: Clap) -> None:
    assert clap.space.text is not None
    assert clap.space.text.suffix == SUFFIX
