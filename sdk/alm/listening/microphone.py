"""A microphone as a live source, and a device that may come and go."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

import numpy as np

from alm.audio.source import Samples, check_values, checked_channels, checked_rate
from alm.closing import Closing
from alm.errors import AudioError
from alm.listening.blocks import BLOCK_SECONDS, BUFFER_SECONDS, Block
from alm.listening.capture import Capture, first_accepted, look_again
from alm.listening.devices import PORTAUDIO, InputDevice, find_device, input_devices
from alm.listening.ring import Ring
from alm.listening.sources import positive

WAIT_SECONDS = 0.5
"""How long to wait for a block before looking whether the device is still there."""
STALL_SECONDS = 4.0
"""A device that sends nothing for so long is gone. PulseAudio was seen to take 1.9 s to send its first frames."""
RETRY_SECONDS = 1.0
"""Between two attempts to find a device that is gone."""


class Microphone(Closing):
    """Sound from a device through PortAudio, averaged to mono; needs the extra `mic`.

    The device is opened by the first block, or when `sample_rate` or `name` is asked for. From then on it fills
    a ring of `buffer_seconds`; what nobody takes in time is lost, oldest first. A device that vanishes is
    looked for until it is back under its name, and the time away is reported as lost frames.

    Looking for a device restarts PortAudio, which ends streams that other code of this process opened with
    sounddevice. While another Microphone is open that is not done, so that one which comes back under a new
    number is not found before the other is closed.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        buffer_seconds: float = BUFFER_SECONDS,
        reconnect_seconds: float = 60.0,
    ) -> None:
        """Opens nothing yet.

        Args:
            device: part of its name, its index, or None for the default one; `devices()` lists them.
            sample_rate: in Hz; None, or a rate that the device refuses, gives the device's own.
            channels: how many to record and average; None takes both of a stereo device and otherwise one.
            buffer_seconds: sound that is kept for a reader who is late.
            reconnect_seconds: how long a device that vanished is waited for; `math.inf` waits for ever.
        """
        self._wanted = device
        self._asked_rate = None if sample_rate is None else checked_rate(sample_rate, "the microphone")
        self._asked_channels = None if channels is None else checked_channels(channels, "the microphone")
        self._buffer_seconds = positive(buffer_seconds, "buffer_seconds")
        if reconnect_seconds != math.inf:
            positive(reconnect_seconds, "reconnect_seconds")
        self._reconnect_seconds = reconnect_seconds
        self._capture: Capture | None = None
        self._taken = False
        self._closed = threading.Event()

    @staticmethod
    def devices() -> tuple[InputDevice, ...]:
        """What can be listened to, as PortAudio found it when this process first used it. DependencyError."""
        return input_devices()

    @property
    def name(self) -> str:
        """The device that is recorded. Opens it; errors as for `blocks`."""
        return self._opened().device.name

    @property
    def sample_rate(self) -> int:
        """The rate that the device runs at, in Hz. Opens it; errors as for `blocks`."""
        return self._opened().ring.sample_rate

    @property
    def live(self) -> bool:
        """True: sound is lost when nobody takes it in time."""
        return True

    @property
    def overflows(self) -> int:
        """How many times sound was lost because it was not taken in time, as far as blocks were taken."""
        return self._capture.ring.overflows if self._capture else 0

    @property
    def lost_frames(self) -> int:
        """Frames that were lost for whatever reason, a missing device included, as far as blocks were taken."""
        return self._capture.ring.lost_frames if self._capture else 0

    def blocks(self) -> Iterator[Block]:
        """Blocks of 0.1 s, shorter before a gap, until `close`.

        Raises AudioError when the device is unknown, busy, sends what is no sound, or stays away for longer
        than `reconnect_seconds`; DependencyError without sounddevice or PortAudio.
        """
        if self._taken:
            raise AudioError("the blocks of this microphone were taken already; make a new Microphone")
        self._taken = True
        if self._closed.is_set():
            return
        try:
            ring = self._opened().ring
            step = max(1, int(ring.sample_rate * BLOCK_SECONDS))
            written, heard = ring.written, time.monotonic()
            while True:
                taken = ring.take(step, WAIT_SECONDS)
                if self._closed.is_set():
                    return
                if ring.written != written:
                    written, heard = ring.written, time.monotonic()
                if taken is not None:
                    captured = time.time() - (time.monotonic() - taken.captured)
                    yield Block(self._mono(taken.frames), taken.lost, captured)
                elif self._is_gone(heard):
                    self._reconnect(heard)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the device; no thread is left. Sound that was not taken is dropped."""
        self._closed.set()
        with PORTAUDIO:
            if self._capture is not None:
                self._capture.ring.close()
                self._capture.close()

    def _opened(self) -> Capture:
        with PORTAUDIO:
            if self._capture is None:
                if self._closed.is_set():
                    raise AudioError("this microphone was closed before it was used; make a new Microphone")
                try:
                    device = find_device(self._wanted)
                except AudioError:
                    look_again()  # it may have been connected since PortAudio looked
                    device = find_device(self._wanted)
                self._capture = first_accepted(device, self._rings(device))
            return self._capture

    def _rings(self, device: InputDevice) -> Iterator[Ring]:
        """A ring for each rate and number of channels to try, in order."""
        # A card with two channels is one stereo microphone. Plugins offer dozens and mix them down when asked for one.
        usual = [2, 1] if device.channels == 2 else [1, min(2, device.channels), device.channels]
        counts = [self._asked_channels] if self._asked_channels else usual
        for rate in dict.fromkeys([self._asked_rate or device.sample_rate, device.sample_rate]):
            for channels in dict.fromkeys(counts):
                yield Ring(max(1, int(rate * self._buffer_seconds)), channels, rate)

    def _is_gone(self, heard: float) -> bool:
        assert self._capture is not None
        return not self._capture.active or time.monotonic() - max(heard, self._capture.opened) > STALL_SECONDS

    def _reconnect(self, heard: float) -> None:
        """Replace the capture by one of the same device into the same ring; `heard` is when it last sent sound."""
        assert self._capture is not None
        device, ring = self._capture.device, self._capture.ring
        # What it was asked by finds it again, unless that was its place in a list that is new each time.
        wanted = self._wanted if isinstance(self._wanted, str) else device.lasting_name
        self._capture.close()
        ring.interrupt()
        reason: AudioError | None = None
        while not self._closed.is_set():
            if time.monotonic() - heard > self._reconnect_seconds:
                raise AudioError(
                    f"the microphone {device.name!r} sent nothing for {self._reconnect_seconds:g} s and was not "
                    f"found again; look at its plug ({reason or 'it opens but stays silent'})"
                ) from reason
            try:
                with PORTAUDIO:
                    look_again()
                    if not self._closed.is_set():
                        self._capture = Capture(find_device(wanted), ring)
                return
            except AudioError as error:
                reason = error
            self._closed.wait(RETRY_SECONDS)

    def _mono(self, frames: Samples) -> Samples:
        check_values(frames, "the microphone")
        mono: Samples = frames.mean(axis=1, dtype=np.float32)
        return mono
