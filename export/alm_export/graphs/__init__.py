"""The components as ONNX graphs, written node by node.

`graph` adds nodes and constants; `spectrogram` and `audio_encoder` go from a waveform to audio tokens, `decoder` and
`gpt2_decoder` from a prefix to logits. `mapper` is for captioners, `clap_towers` and `clap2022_towers` for CLAP.
"""
