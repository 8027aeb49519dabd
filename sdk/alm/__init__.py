"""Audio-language models on the device in your hand.

    import alm

    with alm.load("mellow-arm64-int4.alm") as model, model.listen("street.wav") as clip:
        print(clip.ask("what is happening?").text)

Importing this loads numpy and nothing heavier; `load` brings in the engine that the package asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alm.answering.answers import Answer, Choice, Piece, Timing, WindowAnswer
from alm.answering.streaming import AnswerStream
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
    ResultsError,
    SessionError,
)
from alm.loading import load, restore
from alm.session import Clip

if TYPE_CHECKING:
    from alm.listening.events import Event
    from alm.listening.gate import GateSettings
    from alm.listening.microphone import Microphone

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
    "Event",
    "ExportError",
    "GateSettings",
    "Microphone",
    "PackageError",
    "ParityError",
    "Piece",
    "PromptError",
    "QualityError",
    "ResultsError",
    "SessionError",
    "Timing",
    "WindowAnswer",
    "load",
    "restore",
]

LISTENING = {
    "Event": "alm.listening.events",
    "GateSettings": "alm.listening.gate",
    "Microphone": "alm.listening.microphone",
}
"""What brings in the resampler and more, so it is imported when asked for."""


def __getattr__(name: str) -> Any:
    if name not in LISTENING:
        raise AttributeError(f"module 'alm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(LISTENING[name]), name)
