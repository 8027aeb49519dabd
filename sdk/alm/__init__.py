"""Audio-language models on the device in your hand."""
