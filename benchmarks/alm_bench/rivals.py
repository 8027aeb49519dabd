"""Our package against other ways to run the same model, in turn in one run, each reading in a process of its own.

Weights are random in the official shapes and the same for all, so speed and memory are the only things this says.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alm_bench import noise
from alm_bench.environment import conditions, environment
from alm_bench.measuring import TOKENS, Setting, joined, roofline, run_json
from alm_bench.package_facts import examine
from alm_bench.results import BenchError, Result, Side

OURS = "package"
TARGETS = {"x86_64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Rival:
    """One way to run the model."""

    about: str
    """What it is, for people."""
    needs: tuple[str, ...]
    """Modules without which it cannot run."""
    prepare: Callable[[Path], Path]
    """Makes what it reads in a folder, once, and returns its place."""


def _nothing(folder: Path) -> Path:
    return folder


def _package(folder: Path) -> Path:
    path = folder / "mellow-random-int4.alm"
    if path.exists():
        return path
    target = TARGETS.get(platform.machine())
    if target is None:
        raise BenchError(f"packages are exported for {' and '.join(TARGETS)}, this machine is {platform.machine()}")
    words = ["mellow", "--weights", "random", "--int4", "--target", target, "--output", str(path), "--json"]
    _python("-c", "from alm_export.commands import main; main()", *words)
    return path


def _huggingface(folder: Path) -> Path:
    """The decoder as a folder that transformers reads, with its tokenizer."""
    made = folder / "huggingface"
    if made.exists():
        return made
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from alm_train.checkpoints.weights import load_weights

    weights = load_weights("random")
    ours = weights.model.caption_decoder.lm  # type: ignore[union-attr]
    shape = ours.config
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            rope_theta=shape.rope_theta,
            rms_norm_eps=shape.norm_eps,
            max_position_embeddings=shape.max_positions,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    theirs.load_state_dict(ours.state_dict() | {"lm_head.weight": ours.model.embed_tokens.weight})
    theirs.save_pretrained(made)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(weights.tokenizer), eos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(made)
    return made


def _gguf(folder: Path) -> Path:
    if (folder / "q4_0.gguf").exists():
        return folder / "q4_0.gguf"
    from alm_export.llama_gguf import quantize_gguf, write_gguf
    from alm_train.checkpoints.weights import load_weights

    weights = load_weights("random")
    language = weights.model.caption_decoder.lm  # type: ignore[union-attr]
    write_gguf(folder / "f32.gguf", language, weights.tokenizer, name=weights.name, stop_id=0)
    quantize_gguf(folder / "f32.gguf", folder / "q4_0.gguf", "q4_0")
    return folder / "q4_0.gguf"


def _naive_onnx(folder: Path) -> Path:
    if (folder / "naive.onnx").exists():
        return folder / "naive.onnx"
    import torch
    from transformers import LlamaForCausalLM

    class Logits(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, use_cache=False).logits

    # sdpa's masks are built with a torch.vmap that the exporter does not take.
    model = LlamaForCausalLM.from_pretrained(_huggingface(folder), attn_implementation="eager").eval()
    path = folder / "naive.onnx"
    length = {"input_ids": {1: torch.export.Dim("length", min=2, max=2048)}}
    ids = torch.arange(16)[None]
    torch.onnx.export(
        Logits(model).eval(), (ids,), path, output_names=["logits"], dynamic_shapes=length, dynamo=True, verbose=False
    )
    return path


def _genai(folder: Path) -> Path:
    made = folder / "genai"
    if (made / "genai_config.json").exists():
        return made
    options = ["-i", str(_huggingface(folder)), "-o", str(made), "-p", "int4", "-e", "cpu"]
    _python("-m", "onnxruntime_genai.models.builder", *options, "-c", str(folder / "cache"))
    return made


RIVALS = {
    "package": Rival("this project, int4", (), _package),
    "authors": Rival("the authors' way: PyTorch float32, no KV cache", ("torch",), _nothing),
    "transformers": Rival("Hugging Face transformers, float32, KV cache", ("torch", "transformers"), _huggingface),
    "llama.cpp": Rival("llama.cpp, decoder alone, Q4_0", ("llama_cpp", "gguf"), _gguf),
    "onnx-naive": Rival(
        "torch.onnx export in onnxruntime, decoder alone, float32, no KV cache",
        ("torch", "transformers", "onnxscript"),
        _naive_onnx,
    ),
    "onnxruntime-genai": Rival(
        "onnxruntime-genai's own builder and generator, decoder alone, int4",
        ("onnxruntime_genai", "transformers"),
        _genai,
    ),
}
"""By the name that `alm_bench.rival_runs` knows."""


def measure_rivals(
    names: list[str], folder: Path, threads: tuple[int, ...], rounds: int, report: Callable[[str], None]
) -> tuple[Result, dict[str, str]]:
    """The result of all rivals that can run here, and why the others cannot, by name."""
    missing = {
        name: f"not installed: {', '.join(lacking)}"
        for name in names
        if (lacking := [module for module in RIVALS[name].needs if find_spec(module) is None])
    }
    present = [name for name in names if name not in missing]
    made = {}
    for name in present:
        report(f"preparing {name}")
        try:
            made[name] = RIVALS[name].prepare(folder)
        except BenchError as error:
            if name == OURS:
                raise
            missing[name] = str(error)
    present = list(made)
    before, steady, others = conditions(), noise.fixed_work(), noise.Others()
    limits = tuple(roofline(count) for count in threads)
    settings = [(name, Setting(made[name], count, "warm")) for count in threads for name in present]
    readings: dict[tuple[str, Setting], list[dict[str, Any]]] = {cell: [] for cell in settings}
    for number in range(rounds):
        for name, setting in settings:
            report(f"round {number + 1} of {rounds}: {name}, {setting.threads} threads")
            words = [name, str(setting.path), str(setting.threads), str(TOKENS)]
            command = [sys.executable, "-m", "alm_bench.rival_runs", *words]
            readings[name, setting].append(run_json(command, setting.threads, f"measuring {name}"))
    sides = []
    for name in present:
        runs = tuple(joined(setting, readings[name, setting]) for key, setting in settings if key == name)
        facts, work = examine(made[name]) if name == OURS else (None, None)
        sides.append(Side(name, _about(name), runs, (), facts, work))
    judged = noise.judge(steady, noise.fixed_work(), others.cores())
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Result(when, "local", environment(before, conditions()), judged, limits, tuple(sides)), missing


def _about(name: str) -> str:
    """The rival with the versions of what it needs."""
    rival = RIVALS[name]
    owners = importlib.metadata.packages_distributions()
    packages = sorted({owners[module][0] for module in rival.needs if module in owners})
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return rival.about + (f" ({versions})" if versions else "")


def _python(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise BenchError(f"preparing with {' '.join(words[:2])} failed: {reason}")
