"""The program of a package in ExecuTorch's own runner of language models, which phones use through LlmModule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny_mellow import DECODER, FRONTEND, QUESTION, RATE, entries_of, noise
from tokenizers import Tokenizer
from tokenizers.models import BPE

import alm

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def runner_library() -> ModuleType:
    pytest.importorskip("executorch", reason="executorch is an extra; make test-engines installs it")
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401

    try:
        from executorch.extension.llm import runner
    except RuntimeError as error:
        pytest.skip(f"this wheel of executorch has no runner: {error}")
    return runner


@pytest.fixture(scope="module")
def files(engine_packages: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The program, and a tokenizer whose tokens are their own numbers: the runner gives text and no ids."""
    folder = tmp_path_factory.mktemp("unzipped")
    (folder / "model.pte").write_bytes(entries_of(engine_packages("executorch"))[1]["model.pte"])
    numbers = Tokenizer(BPE({f"{token} ": token for token in range(DECODER.vocabulary)}, []))
    numbers.add_special_tokens(["0 "])
    numbers.save(str(folder / "tokenizer.json"))
    return str(folder / "model.pte"), str(folder / "tokenizer.json")


@pytest.mark.parametrize("seeds", [(0, 0), (1, 4)])
@pytest.mark.parametrize("question", [QUESTION, "what is the sound? a) rain b) siren"])
def test_it_answers_about_sounds_as_the_sdk_does(
    runner_library: ModuleType,
    files: tuple[str, str],
    engine_packages: Callable[[str], Path],
    seeds: tuple[int, int],
    question: str,
) -> None:
    sounds = [noise(FRONTEND.samples, seed) for seed in seeds]
    with alm.load(engine_packages("executorch")) as model:
        layout, prompt = model.info.prompt, model.reader.tokenizer.prompt(question)
        expected = model.compare(*((sound[0], RATE) for sound in sounds), question, max_tokens=10).tokens
    separator = runner_library.make_token_input([layout.separator_id])
    inputs = []
    for sound in sounds:
        inputs += [runner_library.make_audio_input(torch.from_numpy(sound)[None]), separator]
    pieces, positions = generated(runner_library, files, [*inputs, runner_library.make_token_input(prompt.tolist())])
    assert positions == 2 * (layout.audio_tokens + 1) + layout.prompt_tokens
    assert [int(piece) for piece in pieces] == list(expected)
    assert len(set(expected)) > 1


def generated(library: ModuleType, files: tuple[str, str], inputs: list) -> tuple[list[str], int]:
    """The pieces of a greedy answer of 10 tokens, and how many positions it follows."""
    pieces, positions = [], []
    config = library.GenerationConfig(echo=False, temperature=0, max_new_tokens=10)
    library.MultimodalRunner(*files).generate(
        inputs, config, pieces.append, lambda stats: positions.append(stats.num_prompt_tokens)
    )
    return pieces, positions[0]
