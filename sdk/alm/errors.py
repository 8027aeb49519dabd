"""Every error a user can meet. Each message says what was found, what was expected and what to do."""

from __future__ import annotations


class AlmError(Exception):
    """Base of all errors raised on purpose by this project."""


class PackageError(AlmError):
    """A package file is damaged, altered, unsafe or of an unknown schema."""


class AudioError(AlmError):
    """A recording cannot be used: not audio, empty, not finite, or beyond a stated limit."""


class SessionError(AlmError):
    """A saved session cannot be written, or is damaged, of an unknown schema, or made with another package."""


class ResultsError(AlmError):
    """A file of results, or an index of sounds, cannot be written, is damaged, or belongs to another run or package."""


class BusyError(AlmError):
    """As many questions as the model was loaded for are waiting already; nothing was begun, so ask again later."""


class PromptError(AlmError):
    """A question cannot be used: empty, too long, or of a kind that the model does not take."""


class CheckpointError(AlmError):
    """A checkpoint is unsafe, incomplete or belongs to another model."""


class ExportError(AlmError):
    """A package could not be made."""


class QualityError(ExportError):
    """Quantization cost more quality than the stated budget allows."""


class ParityError(AlmError):
    """A stage computes something else than the golden self-test says."""


class EngineError(AlmError):
    """An engine failed to load or to run a component."""


class DependencyError(AlmError):
    """An optional dependency is missing; the message names the extra that brings it."""


def reason_of(error: OSError | ValueError) -> str:
    """Why a file cannot be used, without its name: the message that this goes into has it."""
    return getattr(error, "strerror", None) or str(error)
