"""Between texts and ids: `prompt` for decoders, `text` for text encoders, `detokenize` back to text piece by piece."""
