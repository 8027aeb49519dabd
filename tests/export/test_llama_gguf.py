"""The decoder as a GGUF file: read back by the format's own library and, where it is installed, run by llama.cpp."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from alm.errors import ExportError
from alm_export.llama_gguf import check_rows, quantize_gguf, write_gguf
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config

CONFIG = SmolLM2Config(vocabulary=300, width=64, hidden=96, layers=2, heads=4, kv_heads=2, max_positions=128)
WIDE = replace(CONFIG, width=256, hidden=256, layers=1)
"""Every scheme has its blocks in these rows."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SmolLM2(CONFIG).eval()


@pytest.fixture(scope="module")
def tokenizer_json():
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<|endoftext|>": 0, "!": 1} | {c: i for i, c in enumerate((c for c in alphabet if c != "!"), start=2)}
    vocab["he"] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges=[("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer.to_str()


@pytest.fixture(scope="module")
def file(model, tokenizer_json, tmp_path_factory):
    pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "decoder.gguf"
    write_gguf(path, model, tokenizer_json, name="tiny", stop_id=0)
    return path


@pytest.fixture(scope="module")
def wide(tokenizer_json, tmp_path_factory):
    pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "wide.gguf"
    write_gguf(path, SmolLM2(WIDE), tokenizer_json, name="wide", stop_id=0)
    return path


def test_it_says_what_llama_cpp_needs_to_know(file):
    from gguf import GGUFReader

    reader = GGUFReader(file)

    def value(key):
        return reader.get_field(key).contents()

    assert value("general.architecture") == "llama"
    assert value("llama.block_count") == CONFIG.layers
    assert value("llama.attention.head_count_kv") == CONFIG.kv_heads
    assert value("llama.rope.freq_base") == CONFIG.rope_theta
    assert value("tokenizer.ggml.pre") == "gpt-2"
    assert len(value("tokenizer.ggml.tokens")) == CONFIG.vocabulary
    assert value("tokenizer.ggml.merges") == ["h e"]
    assert value("tokenizer.ggml.token_type")[:2] == [3, 1]


def test_queries_are_rotated_in_neighbouring_pairs(file, model):
    from gguf import GGUFReader

    tensors = {tensor.name: tensor.data for tensor in GGUFReader(file).tensors}
    half = CONFIG.head_dim // 2
    layer = model.model.layers[1].self_attn
    query = layer.q_proj.weight.detach().numpy()
    # Row 2i of a head is the i-th of its first half, row 2i + 1 the i-th of its second half.
    head = tensors["blk.1.attn_q.weight"][CONFIG.head_dim : 2 * CONFIG.head_dim]
    np.testing.assert_array_equal(head[0::2], query[CONFIG.head_dim : CONFIG.head_dim + half])
    np.testing.assert_array_equal(head[1::2], query[CONFIG.head_dim + half : 2 * CONFIG.head_dim])
    np.testing.assert_array_equal(tensors["blk.1.attn_v.weight"], layer.v_proj.weight.detach())


def test_llama_cpp_computes_the_same_logits_and_splits_text_the_same(file, model, tokenizer_json):
    llama_cpp = pytest.importorskip("llama_cpp")
    from tokenizers import Tokenizer

    llama = llama_cpp.Llama(str(file), n_ctx=64, n_threads=1, logits_all=True, verbose=False)
    ids = llama.tokenize(b"he hears the bell", add_bos=False)
    assert ids == Tokenizer.from_str(tokenizer_json).encode("he hears the bell").ids
    llama.eval(ids)
    with torch.inference_mode():
        expected = model(model.model.embed_tokens(torch.tensor([ids])))[0].numpy()
    # llama.cpp keeps keys and values in float16.
    np.testing.assert_allclose(np.array(llama.scores[: len(ids)]), expected, atol=2e-4)


def test_a_smaller_scheme_comes_from_llama_cpp_itself(file, tmp_path):
    pytest.importorskip("llama_cpp")
    quantize_gguf(file, tmp_path / "small.gguf", "q8_0")
    assert (tmp_path / "small.gguf").stat().st_size < 0.5 * file.stat().st_size


@pytest.mark.parametrize(("scheme", "kinds"), [
    ("fp32", {"F32"}), ("f16", {"F16"}), ("q8_0", {"Q8_0"}), ("q4_0", {"Q4_0"}), ("q4_k", {"Q4_K", "Q6_K"}),
])  # fmt: skip
@pytest.mark.parametrize(("table", "kind"), [("fp32", "F32"), ("f16", "F16"), ("q8_0", "Q8_0")])
def test_weights_are_stored_as_asked(wide, tmp_path, scheme, kinds, table, kind):
    pytest.importorskip("llama_cpp")
    from gguf import GGUFReader

    check_rows(WIDE, scheme, table)
    quantize_gguf(wide, tmp_path / "small.gguf", scheme, table=table)
    found = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "small.gguf").tensors}
    assert found.pop("token_embd.weight") == kind
    assert {found[name] for name in found if "norm" not in name} == kinds


def test_rows_that_hold_no_whole_blocks_are_an_error():
    even, odd = CONFIG, replace(CONFIG, width=80)
    check_rows(even, "q4_0", "q8_0")
    check_rows(odd, "f16", "f16")
    for config, scheme, table, message in (
        (even, "q4_k", "q8_0", r"q4_k stores 256 .* rows of 64 .* choose q4_0"),
        (odd, "q8_0", "f16", r"q8_0 stores 32 .* rows of 80 .* choose f16"),
        (odd, "f16", "q8_0", r"q8_0 stores 32 .* rows of 80"),
        (replace(CONFIG, hidden=100), "q4_0", "f16", r"rows of 100"),
    ):
        with pytest.raises(ExportError, match=message):
            check_rows(config, scheme, table)


def test_an_unknown_scheme_lists_the_known_ones(tmp_path):
    with pytest.raises(ExportError, match=r"q5_9.*fp32, f16, q4_0, q8_0, q4_k"):
        quantize_gguf(tmp_path / "a.gguf", tmp_path / "b.gguf", "q5_9")


def test_other_tokenizers_are_refused(model, tmp_path, tokenizer_json):
    pytest.importorskip("gguf")
    other = json.loads(tokenizer_json)
    other["model"]["type"] = "Unigram"
    with pytest.raises(ExportError, match="Unigram"):
        write_gguf(tmp_path / "a.gguf", model, json.dumps(other), name="tiny", stop_id=0)
