"""Always listening: from sound that never ends to events in words.

The way of a block: `sources` (recordings, arrays), `pcm` (pipes) or `microphone` (through its `ring`)
hands out `blocks` of mono sound at its own rate; `gate` opens and closes on their log-mel frames; `windows` fits
what the gate let through to the model's length; `watch` asks the model and yields `events`.
"""
