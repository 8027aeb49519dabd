"""What the engines' own tokenizers make of text, against the package's: whoever opens a decoder alone relies on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from alm.errors import ExportError
from alm_train import tokenizer as trained
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config

FILES = {
    "SmolLM2's": Path(trained.__file__).parent / "tokenizers/smollm2.json",
    "of the reference weights": Path(trained.__file__).parent / "weights/mellow/tokenizer.json",
}
TEXTS = (
    "what is the sound? a) rain b) siren",
    "is there a  dog\n barking?",
    "at 12:30 we heard 4 bells, 3.14 s apart",
    "a 1 b, 1 000,5 and x2y ½ 4",
    "don't you'll we're it's 'tis \u2019s",
    "<|endoftext|>what",
    "ärger 日本語 🐓🐓 नमस्ते ﬁ ² \u200b",
    "  leading, trailing  ",
    "\t\tx\u00a0y\r\n\r\n  z",
    "UPPER Lower, " + "x" * 60,
)


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest) -> Path:
    return FILES[request.param]


def gguf_of(tokenizer_json: str, folder: Path) -> Path:
    """A decoder of one layer with that tokenizer."""
    from alm_export.llama_gguf import write_gguf

    size = 1 + max(json.loads(tokenizer_json)["model"]["vocab"].values())
    config = SmolLM2Config(vocabulary=size, width=8, hidden=8, layers=1, heads=1, kv_heads=1, max_positions=16)
    write_gguf(folder / "decoder.gguf", SmolLM2(config), tokenizer_json, name="tiny", stop_id=0)
    return folder / "decoder.gguf"


def test_llama_cpp_splits_text_as_the_package_does(file: Path, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is an extra; make test-engines installs it")
    llama = llama_cpp.Llama(str(gguf_of(file.read_text(), tmp_path)), vocab_only=True, verbose=False)
    ours = Tokenizer.from_file(str(file))
    for text in TEXTS:
        found = llama.tokenize(text.encode(), add_bos=False, special=True)
        assert found == ours.encode(text, add_special_tokens=False).ids, text
        assert llama.detokenize(found, special=True).decode() == text


def test_executorch_splits_text_as_the_package_does(file: Path) -> None:
    library = pytest.importorskip("pytorch_tokenizers", reason="it comes with the extra executorch")
    theirs, ours = library.CppHFTokenizer(), Tokenizer.from_file(str(file))
    theirs.load(str(file))
    for text in TEXTS:
        assert theirs.encode(text, 0, 0) == ours.encode(text, add_special_tokens=False).ids, text


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"normalizer": {"type": "NFC"}},
    ],
)
def test_a_way_to_split_text_that_gguf_cannot_name_is_an_error(change: dict, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="llama.cpp is an extra; make test-engines installs it")
    changed = json.loads(FILES["of the reference weights"].read_text()) | change
    with pytest.raises(ExportError, match="GGUF takes no normalizer, and ByteLevel alone or behind Digits"):
        gguf_of(json.dumps(changed), tmp_path)
