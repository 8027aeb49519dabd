"""From a text to what a text encoder reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alm.engines.base import Int64
from alm.errors import PackageError, PromptError
from alm.texts.tokenizer import check_unicode, load_tokenizer

if TYPE_CHECKING:
    from alm.package import TextLayout


class TextTokenizer:
    """The package's tokenizer under the package's text layout. Safe to use from several threads at once.

    The pad token (`!` for CLAP) is a special token, as in training: each one in a text becomes a pad, and moves the
    place that stands for the text by one, as in the authors' code (microsoft/CLAP).
    """

    def __init__(self, tokenizer_json: bytes, layout: TextLayout) -> None:
        self._tokenizer = load_tokenizer(tokenizer_json)
        size, pad = self._tokenizer.get_vocab_size(with_added_tokens=True), self._tokenizer.id_to_token(layout.pad_id)
        if size > layout.vocabulary or pad is None:
            raise PackageError(
                f"tokenizer.json has {size} tokens and {pad!r} as the pad token {layout.pad_id}; the text encoder "
                f"knows {layout.vocabulary} tokens; export the package again"
            )
        self._layout = layout
        self._tokenizer.add_special_tokens([pad])

    def encode(self, text: str) -> tuple[Int64, int]:
        """The ids (T,) of a text between the layout's start and suffix, and the place among them that stands for the
        whole.

        Raises PromptError for what is no text, empty, or longer than the encoder's places.
        """
        if not isinstance(text, str):
            raise PromptError(f"found {type(text).__name__}, expected a text")
        if not text.strip():
            raise PromptError(f"the text {text!r} is empty; describe a sound, such as 'a dog barking'")
        check_unicode(text)
        start, suffix = self._layout.start, self._layout.suffix
        whole = f"{start or ''}{text}{suffix}"
        ids = np.array(self._tokenizer.encode(whole, add_special_tokens=False).ids, np.int64)
        if len(ids) > self._layout.tokens:
            raise PromptError(
                f"the text {text[:40]!r} has {len(ids)} tokens, the limit of this package is {self._layout.tokens}; "
                "shorten it"
            )
        place = 0 if start else int((ids != self._layout.pad_id).sum()) - 1
        if place < 0:
            raise PromptError(f"the text {text!r} is empty to the model: every token in it is the pad token")
        return ids, place
