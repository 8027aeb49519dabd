"""What was heard, kept: from the encoder's output to a KV prefix that serves every question.

`audio_tokens` keeps one window without repetitions, `prefix` runs it through the decoder once (`mapped_prefix` for
families that mix sound and question first), `clip_cache` finds sound that was heard before, `saved` writes sessions.
"""
