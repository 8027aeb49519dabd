"""Between texts and ids: `prompt` for decoders, `text` for text encoders, `detokenize` back to text piece by piece.

`tokenizer` loads what all of them are made from.
"""
