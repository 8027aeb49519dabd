"""A package's tokenizer.json, and what both readers of it ask first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alm.errors import PackageError, PromptError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(tokenizer_json: bytes) -> Tokenizer:
    """The tokenizer, which neither pads nor truncates: layout is the manifest's, and what the file says about it would
    silently change what a model reads. PackageError when it cannot be parsed.
    """
    # Imported here: reading a package's manifest does not need a tokenizer.
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(tokenizer_json)
    except Exception as error:  # the Rust side raises bare Exception
        raise PackageError(
            f"the entry tokenizer.json is not a tokenizer in Hugging Face format ({error}); export the package again"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_unicode(text: str) -> None:
    """PromptError for a text that UTF-8 cannot hold, which the tokenizer would not survive."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the text {text!r} is not valid Unicode ({error.reason} at character {error.start})"
        ) from error
