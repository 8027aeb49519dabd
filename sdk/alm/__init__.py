"""Audio-language models on the device in your hand.

    import alm

    with alm.load("mellow-arm64-int4.alm") as model, model.listen("street.wav") as clip:
        print(clip.ask("what is happening?").text)

Importing this loads numpy and nothing heavier; `load` brings in the engine that the package asks for.
"""

from __future__ import annotations

from alm.answers import Answer, Choice, Piece, Timing, WindowAnswer
from alm.errors import (
    AlmError,
    AudioError,
    BusyError,
    CheckpointError,
    DependencyError,
    EngineError,
    ExportError,
    PackageError,
    ParityError,
    PromptError,
    QualityError,
    SessionError,
)
from alm.loading import load
from alm.session import Clip
from alm.streaming import AnswerStream

__all__ = [
    "AlmError",
    "Answer",
    "AnswerStream",
    "AudioError",
    "BusyError",
    "CheckpointError",
    "Choice",
    "Clip",
    "DependencyError",
    "EngineError",
    "ExportError",
    "PackageError",
    "ParityError",
    "Piece",
    "PromptError",
    "QualityError",
    "SessionError",
    "Timing",
    "WindowAnswer",
    "load",
]
