"""What each rival reads, made once in a folder from the same random weights."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from pathlib import Path

from alm.package import Package
from alm_bench.results.records import BenchError
from alm_bench.rivals.own_runners import PREFIX

TARGETS = {"x86_64": "x86_64", "aarch64": "arm64"}
HUGGING_FACE = "huggingface"


def nothing(folder: Path) -> Path:
    """Nothing: the rival draws the weights itself."""
    return folder


def package(folder: Path) -> Path:
    """Our package."""
    return _exported(folder / "mellow-random-int4.alm")


def executorch(folder: Path) -> Path:
    """A package of ExecuTorch's, unzipped. Its export takes ten minutes."""
    exported, made = folder / "mellow-random-executorch.alm", folder / "executorch"
    if not (made / "model.pte").exists():
        unzip(_exported(exported, "--engine", "executorch"), made, PREFIX)
    return made


def unzip(path: Path, folder: Path, positions: int, engine: str | None = None) -> str:
    """Unzip a package, so that an engine's own runner opens its files; the engine of its decoder.

    PackageError for what is no package, BenchError for a decoder of fewer positions or of another engine.
    """
    with Package.open(path) as package:
        shape, decoder = package.manifest.decoder, package.manifest.components.get("decoder")
    if shape is None or decoder is None or shape.max_positions < positions:
        found = f"one of {shape.max_positions}" if shape else "none"
        raise BenchError(f"{path}: expected a decoder of {positions} positions or more, found {found}")
    if engine not in (None, decoder.engine):
        raise BenchError(f"{path} was exported for {decoder.engine}, expected a package for {engine}")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return decoder.engine


def huggingface(folder: Path) -> Path:
    """The decoder as a folder that transformers reads, with its tokenizer."""
    made = folder / HUGGING_FACE
    if (made / "tokenizer.json").exists():
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


def gguf(folder: Path) -> Path:
    """The decoder as llama.cpp's Q4_0."""
    if (folder / "q4_0.gguf").exists():
        return folder / "q4_0.gguf"
    from alm_export.llama_gguf import quantize_gguf, write_gguf
    from alm_train.checkpoints.weights import load_weights

    weights = load_weights("random")
    language = weights.model.caption_decoder.lm  # type: ignore[union-attr]
    write_gguf(folder / "f32.gguf", language, weights.tokenizer, name=weights.name, stop_id=0)
    quantize_gguf(folder / "f32.gguf", folder / "q4_0.gguf", "q4_0")
    (folder / "f32.gguf").unlink()
    return folder / "q4_0.gguf"


def naive_onnx(folder: Path) -> Path:
    """The decoder as `torch.onnx` exports it, without a cache."""
    path = folder / "naive.onnx"
    if path.exists():
        return path
    import torch
    from transformers import LlamaForCausalLM

    class Logits(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, use_cache=False).logits

    # sdpa's masks are built with a torch.vmap that the exporter does not take.
    model = LlamaForCausalLM.from_pretrained(huggingface(folder), attn_implementation="eager").eval()
    length = {"input_ids": {1: torch.export.Dim("length", min=2, max=2048)}}
    ids = torch.arange(16)[None]
    torch.onnx.export(
        Logits(model).eval(), (ids,), path, output_names=["logits"], dynamic_shapes=length, dynamo=True, verbose=False
    )
    return path


def genai(folder: Path) -> Path:
    """The decoder as onnxruntime-genai's own builder makes it at int4."""
    made = folder / "genai"
    if not (made / "genai_config.json").exists():
        options = ["-i", str(huggingface(folder)), "-o", str(made), "-p", "int4", "-e", "cpu"]
        _python("-m", "onnxruntime_genai.models.builder", *options, "-c", str(folder / "cache"))
    return made


def _exported(path: Path, *options: str) -> Path:
    if path.exists():
        return path
    target = TARGETS.get(platform.machine())
    if target is None:
        raise BenchError(f"packages are exported for {' and '.join(TARGETS)}, this machine is {platform.machine()}")
    words = ["mellow", "--weights", "random", "--int4", "--target", target, *options, "--output", str(path), "--json"]
    _python("-c", "from alm_export.commands import main; main()", *words)
    return path


def _python(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise BenchError(f"preparing with {' '.join(words[:2])} failed: {reason}")
