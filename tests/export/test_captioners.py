"""ClapCap and ADIFF through their packages: the tokens of PyTorch, in every way of asking."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_captioners import ADIFF, CLAPCAP, STOP, tiny_captioner
from tiny_mellow import RATE, entries_of, noise, run_graph, tiny_tokenizer
from typer.testing import CliRunner

import alm
from alm.audio import compat_window
from alm.commands import app as commands
from alm.errors import EngineError, ExportError, PackageError, PromptError
from alm.package import write_package
from alm.verify import verify
from alm_export.commands import app
from alm_export.graphs.gpt2_decoder import build_gpt2_decoder
from alm_export.pipeline import Exported
from alm_train.models.adiff import Adiff
from alm_train.models.clapcap import ClapCap
from alm_train.models.decoding import beam_search, greedy
from alm_train.models.gpt2 import GPT2LM, GPT2Config

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = "what is the difference?"


@pytest.fixture(scope="module")
def exported(tiny_captioner_export: Callable[..., Exported]) -> Callable[..., Exported]:
    return tiny_captioner_export


@pytest.fixture(scope="module")
def clapcap(exported: Callable[..., Exported]) -> alm.models.ClapCap:
    with alm.load(exported("clapcap").path, alm.models.ClapCap) as model:
        yield model


@pytest.fixture(scope="module")
def adiff(exported: Callable[..., Exported]) -> alm.models.Adiff:
    with alm.load(exported("adiff").path, alm.models.Adiff) as model:
        yield model


def halves(model: torch.nn.Module) -> torch.nn.Module:
    """The model as its weights folder holds it."""
    return model.half().float().eval()


@pytest.fixture(scope="module")
def clapcap_in_float() -> ClapCap:
    return halves(tiny_captioner("clapcap"))


@pytest.fixture(scope="module")
def adiff_in_float() -> Adiff:
    return halves(tiny_captioner("adiff"))


def sound(seed: int, seconds: float = 1.0) -> tuple[np.ndarray, int]:
    return noise(int(RATE * seconds), seed)[0], RATE


def before_stop(tokens: list[int] | tuple[int, ...]) -> list[int]:
    return [token for token in tokens if token != STOP]


@torch.inference_mode()
def float_prefix(model: ClapCap, seed: int) -> torch.Tensor:
    return model.prefix(torch.from_numpy(sound(seed)[0])[None])


@pytest.mark.parametrize("seed", range(3))
def test_captions_are_those_of_pytorch(clapcap: alm.models.ClapCap, clapcap_in_float: ClapCap, seed: int) -> None:
    prefix = float_prefix(clapcap_in_float, seed)
    found = clapcap.caption(sound(seed), beams=1, max_tokens=24)
    assert list(found.tokens) == before_stop(greedy(clapcap_in_float.gpt, prefix, STOP, 24))
    for beams, temperature in ((5, 0.0), (3, 0.5)):
        found = clapcap.caption(sound(seed), beams=beams, temperature=temperature, max_tokens=24)
        best = beam_search(clapcap_in_float.gpt, prefix, STOP, 24, beams, temperature or 1.0)[0]
        assert list(found.tokens) == before_stop(best.tokens)
        assert found.finish_reason == ("stop" if best.tokens[-1] == STOP else "length")


def test_five_beams_unless_said_otherwise_and_up_to_the_room(clapcap: alm.models.ClapCap) -> None:
    assert clapcap.caption(sound(1)).tokens == clapcap.caption(sound(1), beams=5).tokens
    assert clapcap.caption(sound(1)).tokens != clapcap.caption(sound(1), beams=1).tokens
    generation = clapcap.info.generation
    assert generation is not None
    assert generation.max_tokens == 67
    assert len(clapcap.caption(sound(1), beams=1).tokens) == 67


def test_a_stop_token_ends_a_caption_and_compat_writes_it_down(
    exported: Callable[..., Exported], clapcap_in_float: ClapCap, tmp_path: Path
) -> None:
    """The third token of the greedy caption is made the stop token; the authors' wrapper decodes it too."""
    tokens = greedy(clapcap_in_float.gpt, float_prefix(clapcap_in_float, 1), STOP, 24)
    place = next(index for index, token in enumerate(tokens) if index and token not in tokens[:index])
    manifest, entries = entries_of(exported("clapcap").path)
    changed = json.loads(manifest.to_json())
    changed["generation"]["stop_id"] = tokens[place]
    write_package(tmp_path / "stops.alm", type(manifest).from_json(json.dumps(changed)), entries)
    with alm.load(tmp_path / "stops.alm", alm.models.ClapCap) as model:
        plain = model.caption(sound(1), beams=1)
        as_authors = model.caption(sound(1), beams=1, compat=True)
    assert list(plain.tokens) == tokens[:place]
    assert plain.finish_reason == "stop"
    assert as_authors.text == tiny_tokenizer().decode(tokens[: place + 1], skip_special_tokens=False).capitalize()


def test_compat_puts_channels_one_behind_the_other(clapcap: alm.models.ClapCap, clapcap_in_float: ClapCap) -> None:
    stereo = np.stack((sound(1, 0.5)[0], sound(2, 0.5)[0]), 1)
    row = compat_window((stereo, RATE), RATE, RATE).samples
    with torch.inference_mode():
        prefix = clapcap_in_float.prefix(torch.from_numpy(row)[None])
    expected = before_stop(greedy(clapcap_in_float.gpt, prefix, STOP, 12))
    found = clapcap.caption((stereo, RATE), compat=True, beams=1, max_tokens=12)
    assert list(found.tokens) == expected
    assert found.windows[0].end == 1.0
    assert clapcap.caption((stereo, RATE), max_tokens=1).windows[0].end == 0.5


def test_a_long_recording_is_captioned_window_by_window(clapcap: alm.models.ClapCap) -> None:
    long = np.concatenate((sound(1)[0], sound(2)[0])), RATE
    answer = clapcap.caption(long, beams=1, max_tokens=8)
    assert [window.tokens for window in answer.windows] == [
        clapcap.caption(sound(seed), beams=1, max_tokens=8).tokens for seed in (1, 2)
    ]
    assert len(clapcap.caption(long, window="first", max_tokens=8).windows) == 1


def test_streams_give_what_captions_give(clapcap: alm.models.ClapCap) -> None:
    stream = clapcap.stream(sound(2), max_tokens=12)
    pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == stream.answer.text
    assert stream.answer.tokens == clapcap.caption(sound(2), beams=1, max_tokens=12).tokens
    with clapcap.stream(sound(2), beams=4, max_tokens=12) as stream:
        assert stream.finish().tokens == clapcap.caption(sound(2), beams=4, max_tokens=12).tokens


def test_a_captioner_takes_no_question_and_others_need_one(
    clapcap: alm.models.ClapCap, adiff: alm.models.Adiff
) -> None:
    with clapcap.listen(sound(1)) as clip, pytest.raises(PromptError, match="captions and takes none"):
        clip.ask("what is it?")
    with adiff.listen(sound(1)) as clip, pytest.raises(PromptError, match="this package answers questions"):
        clip.caption()
    for beams in (0, 65, 1.5, "5"):
        with pytest.raises(PromptError, match="beams is"):
            clapcap.caption(sound(1), beams=beams)


def test_watching_needs_no_question(clapcap: alm.models.ClapCap) -> None:
    with clapcap.watch(sound(1, 3.0), gate=None, max_tokens=6) as events:
        told = [event.text for event in events]
    assert told
    assert all(told)


@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_explanations_are_those_of_pytorch(adiff: alm.models.Adiff, adiff_in_float: Adiff, seed: int) -> None:
    one, two = (torch.from_numpy(sound(s)[0])[None] for s in (seed, seed + 5))
    text = f"{PROMPT} <|endoftext|>"
    ids = adiff_in_float.pad(tiny_tokenizer().encode(text, add_special_tokens=False).ids)
    prefix = adiff_in_float.prefix(one, two, torch.tensor([ids]))
    language = adiff_in_float.caption_decoder.gpt
    found = adiff.compare(sound(seed), sound(seed + 5), PROMPT, max_tokens=20)
    assert list(found.tokens) == before_stop(greedy(language, prefix, STOP, 20))
    found = adiff.compare(sound(seed), sound(seed + 5), PROMPT, max_tokens=20, beams=4)
    assert list(found.tokens) == before_stop(beam_search(language, prefix, STOP, 20, 4)[0].tokens)


def test_the_order_of_clips_and_the_prompt_matter(adiff: alm.models.Adiff) -> None:
    answers = {
        adiff.compare(sound(one), sound(two), prompt, max_tokens=20).tokens
        for one, two, prompt in ((1, 2, PROMPT), (2, 1, PROMPT), (1, 2, "is there a dog?"))
    }
    assert len(answers) == 3


def test_a_prompt_that_is_too_long_is_cut_on_request_only(adiff: alm.models.Adiff) -> None:
    with adiff.listen(sound(1), sound(2)) as clip:
        with pytest.raises(PromptError, match="the limit of this package is 60"):
            clip.ask("rain " * 100)
        assert clip.ask("rain " * 100, truncate=True, max_tokens=4).tokens


def test_sessions_are_kept_in_files(adiff: alm.models.Adiff, tmp_path: Path) -> None:
    with adiff.listen(sound(1), sound(2)) as clip:
        answer = clip.ask(PROMPT, max_tokens=12)
        clip.save(tmp_path / "pair.session")
    with alm.restore(tmp_path / "pair.session", adiff) as again:
        assert again.ask(PROMPT, max_tokens=12).tokens == answer.tokens


@pytest.mark.parametrize(("family", "precision"), [("clapcap", "int4"), ("adiff", "int8")])
def test_fewer_bits_verify_and_take_less_room(exported: Callable[..., Exported], family: str, precision: str) -> None:
    made, exact = exported(family, precision), exported(family)
    assert verify(made.path).ok
    schemes = {name: component.scheme for name, component in made.manifest.components.items()}
    assert "fp32" not in schemes.values()
    assert made.path.stat().st_size < exact.path.stat().st_size
    quality = made.manifest.quality
    assert quality["whole"]["agreement"]["n"] > 100
    assert set(quality["alone"]) == {"audio_encoder", "mapper", "decoder"}
    assert exact.manifest.quality["whole"]["agreement"]["share"] == 1.0


def test_the_package_says_what_it_is(clapcap: alm.models.ClapCap, adiff: alm.models.Adiff) -> None:
    assert clapcap.capabilities == ("caption",)
    assert adiff.capabilities == ("ask", "compare")
    for model, config in ((clapcap, CLAPCAP), (adiff, ADIFF)):
        mapper, generation = model.info.mapper, model.info.generation
        assert mapper is not None
        assert generation is not None
        assert mapper.tokens == config.prefix_tokens
        assert generation.max_positions == min(config.prefix_tokens + 300, 256) or model is clapcap
        assert "alm c" in model.package.read("README.md").decode()


def test_the_wrong_family_is_named(exported: Callable[..., Exported]) -> None:
    with pytest.raises(PackageError, match="is a package of clapcap, which can caption; expected adiff"):
        alm.load(exported("clapcap").path, alm.models.Adiff)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("mapper", "tokens", 9, "the manifest says tensor.float. of .1, 9, 48"),
        ("mapper", "width", 25, "the manifest says tensor.float. of .1, 25"),
        ("mapper", "clips", 1, "has the unknown input 'second'"),
        ("prompt", "prompt_tokens", 30, "the manifest says tensor.float. of .30, 48"),
    ],
)
def test_a_mapper_of_another_package_is_named(
    exported: Callable[..., Exported], tmp_path: Path, part: str, field: str, value: int, message: str
) -> None:
    manifest, entries = entries_of(exported("adiff").path)
    changed = json.loads(manifest.to_json())
    changed[part][field] = value
    write_package(tmp_path / "other.alm", type(manifest).from_json(json.dumps(changed)), entries)
    with pytest.raises(EngineError, match=message):
        alm.load(tmp_path / "other.alm")


def test_other_engines_are_refused(exported: Callable[..., Exported], tmp_path: Path) -> None:
    weights = exported("clapcap").path.with_name("clapcap-weights")
    words = ["clapcap", "--engine", "gguf", "--weights", str(weights), "-o", str(tmp_path / "p.alm")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ExportError)
    assert "clapcap has no export for llama.cpp" in str(result.exception)


def test_the_command(exported: Callable[..., Exported], clapcap: alm.models.ClapCap, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", *sound(1), subtype="FLOAT")
    words = ["caption", str(exported("clapcap").path), str(tmp_path / "a.wav"), "--max-tokens", "6"]

    def told(*more: str) -> str:
        result = CliRunner().invoke(commands, [*words, *more], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert told().strip() == clapcap.caption(sound(1), max_tokens=6).text.strip()
    greedily = clapcap.caption(sound(1), max_tokens=6, beams=1)
    assert json.loads(told("--json", "--beams", "1"))["tokens"] == list(greedily.tokens)
    assert told("--compat").strip() == clapcap.caption(sound(1), max_tokens=6, compat=True).text.strip()
    words[2] = str(tmp_path)
    rows = [json.loads(line) for line in told("--json").splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [("a.wav", clapcap.caption(sound(1), max_tokens=6).text)]


def test_the_decoder_graph_continues_at_any_place(tmp_path: Path) -> None:
    """Prefill, then several positions at once, each with the learned position of its place."""
    torch.manual_seed(0)
    config = GPT2Config(vocabulary=97, width=48, layers=2, heads=3, max_positions=64)
    model = GPT2LM(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3)
    embeddings = torch.randn(1, 15, 48)
    with torch.inference_mode():
        expected = model(embeddings)[0].numpy()
    state = {f"past_{part}_{i}": np.zeros((1, 3, 32, 16), np.float32) for part in ("key", "value") for i in range(2)}
    for start, end, rows in ((0, 10, [9, 2]), (10, 11, [0]), (11, 15, [0, 1, 2, 3])):
        graph = build_gpt2_decoder(model, 32, "fp32", "fp32")
        found = run_graph(
            graph,
            tmp_path,
            embeddings=embeddings[:, start:end].numpy(),
            rows=np.array(rows),
            last_position=np.array([end - 1], np.int32),
            total_length=np.array(end, np.int32),
            **state,
        )
        np.testing.assert_allclose(found.pop("logits"), expected[[start + row for row in rows]], rtol=0, atol=1e-5)
        state = {name.replace("present", "past"): value for name, value in found.items()}
