"""From a question to the fixed run of prompt tokens that the models are trained on, and from ids to text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from alm.engines.base import Int64
from alm.errors import PackageError, PromptError
from alm.memory import give_back
from alm.texts.tokenizer import check_unicode, load_tokenizer

if TYPE_CHECKING:
    from alm.package import PromptLayout


class PromptTokenizer:
    """The package's tokenizer under the package's prompt layout. Safe to use from several threads at once.

    The pad token (`!` for Mellow) is a special token, as in training: each one in a question becomes a pad,
    which the model reads as padding. Special tokens written out in a question count as what they name.
    """

    def __init__(self, tokenizer_json: bytes, layout: PromptLayout | None, vocabulary: int, suffix: str = "") -> None:
        """`layout` is None for a model that takes no question; `suffix` is put behind every question."""
        self._tokenizer = load_tokenizer(tokenizer_json)
        self._layout = layout
        self._suffix = suffix
        self._check_ids(vocabulary)
        if layout is not None:
            self._tokenizer.add_special_tokens([self._tokenizer.id_to_token(layout.pad_id)])
        # A vocabulary of 49152 leaves 21 MB freed and not given back when it is parsed and changed.
        give_back()

    def _check_ids(self, vocabulary: int) -> None:
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if size > vocabulary:
            raise PackageError(
                f"tokenizer.json has {size} tokens, the decoder knows {vocabulary}; export the package again"
            )
        layout = self._layout
        named = () if layout is None else (("pad_id", layout.pad_id), ("separator_id", layout.separator_id))
        for name, token in named:
            if self._tokenizer.id_to_token(token) is None:
                raise PackageError(
                    f"the manifest's {name} is {token}, which is not in tokenizer.json ({size} tokens); "
                    "export the package again"
                )

    def prompt(self, question: str | None, *, truncate: bool = False) -> Int64:
        """The ids (prompt_tokens,) of a question, padded on the right; none where the model takes no question.

        Raises PromptError when there is a question and the model takes none or the other way round, and when the
        question is empty or, unless `truncate` cuts it at the end, too long.
        """
        layout = self._layout
        if question is None:
            if layout is not None:
                raise PromptError("found no question; this package answers questions, such as 'what is happening?'")
            return np.empty(0, np.int64)
        if layout is None:
            raise PromptError(f"found the question {question!r}; this package captions and takes none, leave it out")
        ids = self.question_ids(question)
        limit, pad = layout.prompt_tokens, layout.pad_id
        if not question.strip() or all(token == pad for token in ids):
            raise PromptError(f"the question {question!r} is empty to the model; ask, say, 'what is happening?'")
        if len(ids) > limit and not truncate:
            raise PromptError(
                f"the question has {len(ids)} tokens; the limit of this package is {limit}. "
                "Shorten it, or pass truncate=True (--truncate) to drop what is past the limit"
            )
        padded = np.full(limit, pad, dtype=np.int64)
        padded[: len(ids)] = ids[:limit]
        return padded

    def question_ids(self, question: str) -> list[int]:
        """The ids of a question as it is read, however many they are, before padding."""
        return self.ids(question + self._suffix if isinstance(question, str) else question)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, lower-cased when the package asks for it; nothing is added. PromptError for what is no
        text or no valid Unicode."""
        if not isinstance(text, str):
            raise PromptError(f"expected text, got {type(text).__name__}")
        check_unicode(text)
        text = text.lower() if self._layout is not None and self._layout.lowercase else text
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def text(self, ids: Sequence[int]) -> str:
        """The text of generated ids; special tokens are kept, as the authors keep them."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))
