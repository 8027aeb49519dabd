"""One open device that fills a ring, through PortAudio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from alm.audio.source import Samples
from alm.errors import AudioError
from alm.listening.devices import PORTAUDIO, InputDevice, sounddevice
from alm.listening.ring import Ring

LATENCY_SECONDS = 0.2
"""Asked of PortAudio. Its usual 35 ms run over when Python is busy elsewhere, and nobody hears this delay."""

# What PortAudio answers (PaErrorCode in portaudio.h).
HOST_ERROR, CHANNELS_REFUSED, RATE_REFUSED, UNAVAILABLE = -9999, -9998, -9997, -9985

_open: set[Capture] = set()  # guarded by PORTAUDIO


class Capture:
    """A device that is recorded. The callback copies what PortAudio gives it into the ring and does nothing else."""

    def __init__(self, device: InputDevice, ring: Ring) -> None:
        """Open and start the device at the ring's rate and number of channels.

        RefusedError when it does not take those, AudioError when it is busy or fails otherwise.
        """
        self.device = device
        self.ring = ring
        with PORTAUDIO:
            module = sounddevice()
            try:
                self._stream = module.InputStream(
                    samplerate=ring.sample_rate,
                    device=device.index,
                    channels=ring.channels,
                    dtype="float32",
                    latency=LATENCY_SECONDS,
                    callback=_copier(ring),
                )
            except module.PortAudioError as error:
                raise _translated(error, device, ring) from error
            try:
                self._stream.start()
            except module.PortAudioError as error:
                self._stream.close()
                raise _translated(error, device, ring) from error
            self.opened = time.monotonic()
            _open.add(self)

    @property
    def active(self) -> bool:
        """False once PortAudio has given up on the device."""
        return bool(self._stream.active)

    def close(self) -> None:
        """Stop and let go of the device; the thread that called the callback has ended afterwards."""
        with PORTAUDIO:
            if self in _open:
                _open.remove(self)
                self._stream.close()


class RefusedError(AudioError):
    """A device does not take a rate or a number of channels; another may do."""


def first_accepted(device: InputDevice, rings: Iterable[Ring]) -> Capture:
    """A capture into the first of `rings` whose rate and channels the device takes. AudioError as for `Capture`."""
    refused = None
    for ring in rings:
        try:
            return Capture(device, ring)
        except RefusedError as error:
            refused = error
    raise refused or ValueError("no ring to try")


def look_again() -> None:
    """Let PortAudio list its devices anew, which it does only when it starts.

    Starting it again would end every open capture, so while there is one nothing happens.
    """
    with PORTAUDIO:
        if not _open:
            module = sounddevice()
            # Private names, but sounddevice has no other way to do it.
            module._terminate()
            module._initialize()


def _copier(ring: Ring) -> Callable[[Samples, int, Any, Any], None]:
    def copy(frames: Samples, count: int, times: Any, status: Any) -> None:
        ring.write(frames, status.input_overflow)

    return copy


def _translated(error: Any, device: InputDevice, ring: Ring) -> AudioError:
    code = error.args[1] if len(error.args) > 1 else 0
    asked = f"{device.name!r} at {ring.sample_rate} Hz with {ring.channels} channels"
    if code in (CHANNELS_REFUSED, RATE_REFUSED):
        return RefusedError(
            f"the microphone {asked} is refused; it has up to {device.channels} channels and runs at "
            f"{device.sample_rate} Hz, leave out sample_rate and channels to use that"
        )
    if code == UNAVAILABLE:
        return AudioError(
            f"the microphone {device.name!r} is in use by another program or gone; end that program "
            "(fuser -v /dev/snd/* shows it) or record through PulseAudio or PipeWire, which share"
        )
    reason = error.args[2][2] if code == HOST_ERROR and len(error.args) > 2 else error.args[0]
    return AudioError(f"the microphone {asked} cannot be opened: {reason or error}; look whether `arecord` can")
