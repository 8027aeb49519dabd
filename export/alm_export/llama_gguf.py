"""The decoder as a GGUF file of llama.cpp's `llama` architecture, with its tokenizer.

Stock llama.cpp opens it as a text model; audio enters as embeddings. It is written in float32, and llama.cpp's own
quantizer makes the smaller schemes from that (`quantize_gguf`).
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import numpy as np

from alm.errors import DependencyError, ExportError
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config

PRE_TOKENIZERS = {("Digits", "ByteLevel"): "smollm", ("ByteLevel",): "gpt-2"}
"""How tokenizers split text before merging bytes, in Hugging Face's words and in llama.cpp's; SmolLM2 has the first."""
FILE_TYPES = {"fp32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q4_k": 15}
"""Scheme to llama.cpp's number of the file type; q4_k is its medium mix."""
BLOCKS = {"q4_0": 32, "q8_0": 32, "q4_k": 256}
"""Weights of one row that a scheme stores together."""
TABLE_TYPES = {"fp32": 0, "f16": 1, "q8_0": 8}
"""Scheme of the token embedding, which is the head too, to ggml's number of the type: those that the SDK looks up."""
NORMAL, CONTROL = 1, 3
"""Token types."""
_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


def write_gguf(path: Path, model: SmolLM2, tokenizer_json: str, *, name: str, stop_id: int) -> None:
    """Write `model` in float32. DependencyError without the `gguf` library."""
    gguf = _library("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocabulary)
    writer.add_file_type(0)
    _add_tokenizer(writer, json.loads(tokenizer_json), config.vocabulary, stop_id)
    for key, tensor in _tensors(model).items():
        writer.add_tensor(key, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize_gguf(source: Path, target: Path, scheme: str, *, table: str | None = None) -> None:
    """Quantize a float GGUF by llama.cpp's own quantizer; ExportError for an unknown scheme or when it fails.

    `table` is the scheme of the token embedding; None leaves it to llama.cpp. Where rows hold no whole block
    (`check_rows`) the quantizer takes another scheme or ends the process.
    """
    if scheme not in FILE_TYPES:
        raise ExportError(f"unknown GGUF scheme {scheme!r}; known are {', '.join(FILE_TYPES)}")
    llama = _library("llama_cpp")
    llama.llama_log_set(_SILENT, None)
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[scheme]
    if table is not None:
        parameters.token_embedding_type = TABLE_TYPES[table]
    code = llama.llama_model_quantize(str(source).encode(), str(target).encode(), parameters)
    if code:
        raise ExportError(f"llama.cpp's quantizer ended with {code} while making {target.name}")


def check_rows(config: SmolLM2Config, scheme: str, table: str) -> None:
    """ExportError when rows of the decoder hold no whole number of a scheme's blocks."""
    for name, lengths in ((scheme, {config.width, config.hidden}), (table, {config.width})):
        block = BLOCKS.get(name, 1)
        if uneven := [length for length in sorted(lengths) if length % block]:
            raise ExportError(
                f"{name} stores {block} weights of a row together, and rows of {uneven[0]} are no multiple of that; "
                f"choose {'q4_0' if name == 'q4_k' else 'f16'} by --scheme audio_encoder=…,decoder=…,head=…"
            )


def _tensors(model: SmolLM2) -> dict[str, np.ndarray]:
    """Tensors by GGUF name; the head is the embedding table, which llama.cpp takes when no other is there."""
    tensors = {
        "token_embd.weight": model.model.embed_tokens.weight,
        "output_norm.weight": model.model.norm.weight,
    }
    for index, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        tensors |= {
            f"blk.{index}.attn_norm.weight": layer.input_layernorm.weight,
            f"blk.{index}.attn_q.weight": _interleaved(attention.q_proj.weight, model.config.heads),
            f"blk.{index}.attn_k.weight": _interleaved(attention.k_proj.weight, model.config.kv_heads),
            f"blk.{index}.attn_v.weight": attention.v_proj.weight,
            f"blk.{index}.attn_output.weight": attention.o_proj.weight,
            f"blk.{index}.ffn_norm.weight": layer.post_attention_layernorm.weight,
            f"blk.{index}.ffn_gate.weight": mlp.gate_proj.weight,
            f"blk.{index}.ffn_up.weight": mlp.up_proj.weight,
            f"blk.{index}.ffn_down.weight": mlp.down_proj.weight,
        }
    return {key: tensor.detach().float().contiguous().numpy() for key, tensor in tensors.items()}


def _interleaved(weight, heads: int):
    """Rows of a query or key projection as llama.cpp rotates them: it pairs neighbours where SmolLM2 pairs halves."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _add_tokenizer(writer, tokenizer: dict, vocabulary: int, stop_id: int) -> None:
    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise ExportError(f"found a {model['type']} tokenizer, GGUF's gpt2 kind needs BPE; use another engine")
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    texts = {place: text for text, place in model["vocab"].items()} | special
    # Rows of the table without a token still need a name that no text can contain.
    tokens = [texts.get(place, f"<unused_{place}>") for place in range(vocabulary)]
    kinds = [CONTROL if place in special or place not in texts else NORMAL for place in range(vocabulary)]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(stop_id)
    writer.add_eos_token_id(stop_id)
    writer.add_add_bos_token(False)


def _pre_tokenizer(tokenizer: dict) -> str:
    """llama.cpp's name for the splitting of a tokenizer; ExportError when it has none for it."""
    found = tokenizer["pre_tokenizer"] or {}
    steps = found.get("pretokenizers", [found])
    kinds = tuple(step.get("type") for step in steps)
    settings = {"individual_digits": True, "add_prefix_space": False, "use_regex": True}
    usual = all(step.get(key, value) == value for step in steps for key, value in settings.items())
    if kinds not in PRE_TOKENIZERS or not usual or tokenizer.get("normalizer"):
        raise ExportError(
            f"found a tokenizer with the normalizer {json.dumps(tokenizer.get('normalizer'))} and the pre-tokenizer "
            f"{json.dumps(found)}; GGUF takes no normalizer, and ByteLevel alone or behind Digits; use another engine"
        )
    return PRE_TOKENIZERS[kinds]


def _library(name: str):
    try:
        return __import__(name)
    except ImportError as error:
        raise DependencyError(
            f"GGUF files need the library {name}, which cannot be imported ({error}); "
            "install it with: pip install 'alm-edge[gguf]'"
        ) from error
