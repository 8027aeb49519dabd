"""GGUF entries that are not the manifest's decoder: refused by their header, before llama.cpp sees a byte."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import gguf as library
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_mellow import tiny_tokenizer

from alm.engines.gguf import check_decoder, read_gguf
from alm.errors import EngineError
from alm.package.sections import DecoderShape
from alm_export.llama_gguf import write_gguf
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config

CONFIG = SmolLM2Config(vocabulary=320, width=64, hidden=96, layers=2, heads=4, kv_heads=2, max_positions=128)
SHAPE = DecoderShape(width=64, vocabulary=320, layers=2, kv_heads=2, head_dim=16, max_positions=128)


def written(path: Path, config: SmolLM2Config = CONFIG) -> bytes:
    write_gguf(path, SmolLM2(config), tiny_tokenizer().to_str(), name="tiny", stop_id=0)
    return path.read_bytes()


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("gguf") / "d.gguf")


def check(data: bytes, shape: DecoderShape = SHAPE) -> None:
    check_decoder(read_gguf(memoryview(data), "decoder.gguf"), shape)


def test_what_the_exporter_writes_is_read_as_the_library_reads_it(valid: bytes, tmp_path: Path) -> None:
    (tmp_path / "d.gguf").write_bytes(valid)
    found = read_gguf(memoryview(valid), "decoder.gguf")
    check_decoder(found, SHAPE)
    expected = {tensor.name: tensor for tensor in library.GGUFReader(tmp_path / "d.gguf").tensors}
    assert found.tensors.keys() == expected.keys()
    for name, tensor in found.tensors.items():
        assert (tensor.offset, tensor.size) == (expected[name].data_offset, expected[name].n_bytes)
        assert tensor.shape == tuple(int(axis) for axis in expected[name].shape)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 128}, r"llama\.embedding_length is 64, expected 128"),
        ({"layers": 3}, r"llama\.block_count is 2, expected 3"),
        ({"kv_heads": 4}, r"llama\.attention\.head_count_kv is 2, expected 4"),
        ({"head_dim": 32}, r"llama\.attention\.head_count is 4, expected 2"),
        ({"vocabulary": 321}, r"llama\.vocab_size is 320, expected 321"),
        ({"max_positions": 129}, r"llama\.context_length is 128, expected '129 or more'"),
    ],
)
def test_another_decoder_than_the_manifests_is_refused(valid: bytes, change: dict[str, int], match: str) -> None:
    with pytest.raises(EngineError, match=match):
        check(valid, replace(SHAPE, **change))


def edited(valid: bytes, tmp_path: Path, **changes: object) -> bytes:
    """A GGUF of the same tensors; a change is a value of a key, or None to leave it out."""
    (tmp_path / "in.gguf").write_bytes(valid)
    reader = library.GGUFReader(tmp_path / "in.gguf")
    named = {name.replace("__", "."): value for name, value in changes.items()}
    writer = library.GGUFWriter(tmp_path / "out.gguf", named.pop("general.architecture", "llama"))
    for key, field in reader.fields.items():
        if key.startswith("llama.") and key not in named:
            writer.add_key_value(key, field.contents(), field.types[0])
    for key, value in named.items():
        if value is not None:
            kind = {int: library.GGUFValueType.UINT32, float: library.GGUFValueType.FLOAT32}.get(
                type(value), library.GGUFValueType.STRING
            )
            writer.add_key_value(key, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return (tmp_path / "out.gguf").read_bytes()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general__architecture": "gpt2"}, r"general\.architecture is 'gpt2', expected 'llama'"),
        ({"split__count": 2}, r"the key 'split\.count', which decoders of this project do not have"),
        ({"llama__expert_count": 8}, r"the key 'llama\.expert_count', which"),
        (
            {"llama__rope__freq_base": float("nan")},
            r"llama\.rope\.freq_base is nan, expected 'a finite number above 0'",
        ),
        ({"llama__rope__freq_base": 3}, r"llama\.rope\.freq_base is 3, expected"),
        ({"llama__vocab_size": "many"}, r"llama\.vocab_size is 'many', expected 320"),
        ({"llama__block_count": None}, r"llama\.block_count is None, expected 2"),
        ({"llama__feed_forward_length": 97}, r"ffn_gate\.weight is \(64, 96\), expected \(64, 97\)"),
        ({"llama__feed_forward_length": 0}, r"llama\.feed_forward_length is 0"),
    ],
)
def test_keys_that_do_not_fit_are_named(valid: bytes, tmp_path: Path, changes: dict[str, object], match: str) -> None:
    check(edited(valid, tmp_path))
    with pytest.raises(EngineError, match=match):
        check(edited(valid, tmp_path, **changes))


def test_tensors_of_another_name_are_refused(valid: bytes) -> None:
    with pytest.raises(EngineError, match=r"has no tensor 'blk\.0\.attn_k\.weight'|unknown tensor"):
        check(valid.replace(b"blk.0.attn_k.weight", b"blk.0.attn_x.weight"))
    with pytest.raises(EngineError, match="the number of tensors is 20, expected 11"):
        one = valid.replace(b"llama.block_count\x04\0\0\0\2", b"llama.block_count\x04\0\0\0\1")
        check(one, replace(SHAPE, layers=1))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "it starts with b''"),
        (b"GGML" + bytes(100), "it starts with b'GGML'"),
        (b"GGUF", "ends at byte 4, within its header"),
        (b"GGUF" + struct.pack("<IQQ", 2, 0, 0), "found version 2, expected 3"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "keys, expected at most 100"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "within its header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**64 - 1), "within its header"),
        # A list of three texts, the second of which is longer than any file.
        (
            b"GGUF"
            + struct.pack("<IQQQ14sIIQ", 3, 0, 1, 14, b"general.things", 9, 8, 3)
            + struct.pack("<QQ", 0, 2**63),
            "within its header",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), r"general\.architecture is None"),
    ],
)
def test_headers_that_are_none(data: bytes, match: str) -> None:
    with pytest.raises(EngineError, match=match):
        check(data)


@settings(max_examples=150)
@given(st.data())
def test_a_cut_or_damaged_file_is_refused_or_read_within_its_bytes(valid: bytes, data: st.DataObject) -> None:
    header = len(valid) - sum(t.size for t in read_gguf(memoryview(valid), "d").tensors.values())
    place = data.draw(st.integers(0, header))
    value = data.draw(st.binary(min_size=1, max_size=9))
    damaged = valid[:place] + value + valid[place + len(value) :]
    end = data.draw(st.one_of(st.just(len(valid)), st.integers(0, len(valid))))
    try:
        found = read_gguf(memoryview(damaged[:end]), "d")
        check_decoder(found, SHAPE)
    except EngineError as error:
        assert "export the package again" in str(error)
    else:
        assert all(t.offset > 0 and t.offset + t.size <= end for t in found.tensors.values())


def test_every_cut_is_refused(valid: bytes) -> None:
    for end in range(0, len(valid) - 64, 997):
        with pytest.raises(EngineError):
            check(valid[:end])
