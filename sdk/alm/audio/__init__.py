"""Sound in: any recording to windows of mono float32 at the model's rate.

`source` opens what holds a recording, `decode` makes it mono at one rate, `windows` fits it to the
model's length, `compat` does it all as the authors of the models did.
"""

from __future__ import annotations

from alm.audio.compat import compat_window, compat_windows
from alm.audio.decode import Waveform, read_audio, resample
from alm.audio.source import MAX_SECONDS, Source
from alm.audio.windows import Window, WindowPolicy, stream_windows, windows

__all__ = [
    "MAX_SECONDS",
    "Source",
    "Waveform",
    "Window",
    "WindowPolicy",
    "compat_window",
    "compat_windows",
    "read_audio",
    "resample",
    "stream_windows",
    "windows",
]
