"""The microphone, on a sounddevice that does what real devices do at the worst moment."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import alm
from alm.errors import AudioError, DependencyError
from alm.listening import capture, microphone
from alm.listening.microphone import Microphone

RATE = 16000
BLOCK = RATE // 10


class PortAudioError(Exception):
    """As sounddevice raises it: a text, a code and what the host said."""


class Stream:
    """An input stream whose callback is called when the test says so."""

    def __init__(self, sounds: Fake, samplerate: int, device: int, channels: int, callback: Any, **rest: Any) -> None:
        entry = sounds.listed[device]
        if entry.get("busy"):
            raise PortAudioError("Error opening InputStream: Device unavailable", -9985)
        if entry.get("broken"):
            raise PortAudioError("Unanticipated host error", -9999, (0, -5, "Input/output error"))
        if channels not in entry.get("counts", [1, 2]):
            raise PortAudioError("Invalid number of channels", -9998)
        if samplerate not in entry.get("rates", [samplerate]):
            raise PortAudioError("Invalid sample rate", -9997)
        assert rest == {"dtype": "float32", "latency": capture.LATENCY_SECONDS}
        self.sounds, self.channels, self.callback = sounds, channels, callback
        self.rate, self.name = samplerate, entry["name"]
        self.active = False

    def start(self) -> None:
        self.active = True
        self.sounds.streams.append(self)
        if self.sounds.greeting is not None:
            self.feed(self.sounds.greeting)

    def close(self) -> None:
        self.active = False
        if self in self.sounds.streams:
            self.sounds.streams.remove(self)

    def feed(self, mono: np.ndarray, overflow: bool = False) -> None:
        frames = np.repeat(mono[:, None], self.channels, axis=1).astype(np.float32)
        self.callback(frames, len(frames), None, SimpleNamespace(input_overflow=overflow))
        frames[:] = np.nan  # PortAudio's buffer is gone once the callback returns


class Fake:
    """The module `sounddevice`; devices that come and go are seen after a restart of PortAudio only."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        self.default = SimpleNamespace(device=[0, 0])
        self.attached = [self.entry("HDA Intel: ALC (hw:0,0)"), self.entry("USB PnP Sound Device: Audio (hw:1,0)")]
        self.listed = list(self.attached)
        self.streams: list[Stream] = []
        self.greeting: np.ndarray | None = None
        self.restarts = 0
        self.back_after: int | None = None
        self.coming: list[dict[str, Any]] = []

    def entry(self, name: str, channels: int = 1, **traits: Any) -> dict[str, Any]:
        return {"name": name, "max_input_channels": channels, "default_samplerate": float(RATE), **traits}

    def query_devices(self) -> list[dict[str, Any]]:
        return self.listed

    def InputStream(self, **settings: Any) -> Stream:
        return Stream(self, **settings)

    def _terminate(self) -> None:
        for stream in list(self.streams):
            stream.close()

    def _initialize(self) -> None:
        self.restarts += 1
        if self.restarts == self.back_after:
            self.attached += self.coming
        self.listed = list(self.attached)

    def unplug(self, part: str, back_after: int | None, *coming: dict[str, Any]) -> None:
        """Take devices away; after some restarts others come, and speak at once."""
        self.attached = [entry for entry in self.attached if part not in entry["name"]]
        for stream in self.streams:
            if part in stream.name:
                stream.active = False
        self.back_after = None if back_after is None else self.restarts + back_after
        self.coming = list(coming)
        self.greeting = tone(BLOCK)


def tone(frames: int, start: int = 0) -> np.ndarray:
    """Samples that say which they are, exact in float32."""
    return (np.arange(start, start + frames) % 32768 / 32768).astype(np.float32)


@pytest.fixture
def sounds(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(capture, "_open", set())
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(microphone, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(microphone, "RETRY_SECONDS", 0.005)
    return fake


def opened(sounds: Fake, *arguments: Any, **settings: Any) -> tuple[Microphone, Stream]:
    heard = Microphone(*arguments, **settings)
    assert heard.sample_rate > 0
    return heard, sounds.streams[-1]


# Sound


def test_it_is_public_and_imports_nothing_yet() -> None:
    assert alm.Microphone is Microphone
    before = set(sys.modules)
    Microphone("anything").close()
    assert "sounddevice" not in set(sys.modules) - before


def test_blocks_are_what_the_callback_got(sounds: Fake) -> None:
    heard, stream = opened(sounds)
    for start in range(0, 3 * BLOCK, 100):
        stream.feed(tone(100, start))
    before = time.time()
    blocks = heard.blocks()
    taken = [next(blocks) for _ in range(3)]
    assert np.array_equal(np.concatenate([block.samples for block in taken]), tone(3 * BLOCK))
    assert [len(block.samples) for block in taken] == [BLOCK] * 3
    assert all(block.lost == 0 and abs(block.time - before) < 5 for block in taken)
    assert heard.live and (heard.overflows, heard.lost_frames) == (0, 0)
    heard.close()


def test_a_late_reader_is_told_what_was_lost(sounds: Fake) -> None:
    heard, stream = opened(sounds, buffer_seconds=0.5)
    blocks = heard.blocks()
    stream.feed(tone(BLOCK))
    next(blocks)
    for start in range(BLOCK, 21 * BLOCK, BLOCK):
        stream.feed(tone(BLOCK, start))
    after = next(blocks)
    assert after.lost == 15 * BLOCK
    assert np.array_equal(after.samples, tone(BLOCK, 16 * BLOCK))
    assert (heard.overflows, heard.lost_frames) == (1, 15 * BLOCK)
    heard.close()


def test_an_overflow_of_the_device_is_counted(sounds: Fake) -> None:
    heard, stream = opened(sounds)
    stream.feed(tone(BLOCK))
    stream.feed(tone(BLOCK), overflow=True)
    blocks = heard.blocks()
    next(blocks)
    next(blocks)
    assert heard.overflows == 1
    heard.close()


def test_stereo_is_averaged_and_samples_that_are_no_sound_are_refused(sounds: Fake) -> None:
    sounds.listed[0]["max_input_channels"] = 2
    heard, stream = opened(sounds)
    assert stream.channels == 2
    frames = np.stack([np.full(BLOCK, 0.5), np.full(BLOCK, -0.25)], axis=1).astype(np.float32)
    stream.callback(frames, BLOCK, None, SimpleNamespace(input_overflow=False))
    blocks = heard.blocks()
    assert np.array_equal(next(blocks).samples, np.full(BLOCK, 0.125, np.float32))
    stream.feed(np.full(BLOCK, np.nan))
    with pytest.raises(AudioError, match="the microphone has NaN"):
        next(blocks)
    assert sounds.streams == []


# Which device, and how


@pytest.mark.parametrize("wanted", ["usb", "USB PnP Sound Device: Audio", "USB PnP Sound Device: Audio (hw:1,0)", 1])
def test_a_device_is_found_by_part_of_its_name_or_index(sounds: Fake, wanted: str | int) -> None:
    heard, _ = opened(sounds, wanted)
    assert heard.name == "USB PnP Sound Device: Audio (hw:1,0)"
    heard.close()


def test_a_whole_name_beats_a_part_of_another(sounds: Fake) -> None:
    sounds.attached += [sounds.entry("default"), sounds.entry("sysdefault")]
    heard, _ = opened(sounds, "default")
    assert heard.name == "default"
    heard.close()


@pytest.mark.parametrize("wanted", ["kitchen", 7])
def test_an_unknown_device_lists_those_there_are(sounds: Fake, wanted: str | int) -> None:
    with pytest.raises(AudioError, match=r"found no microphone .* expected one of 0 'HDA .*, 1 'USB PnP"):
        next(Microphone(wanted).blocks())


def test_an_ambiguous_name_lists_the_candidates(sounds: Fake) -> None:
    with pytest.raises(AudioError, match=r"'hw:' could be any of 0 'HDA.*, 1 'USB.*give more of the name"):
        next(Microphone("hw:").blocks())


def test_no_device_at_all_and_no_default(sounds: Fake) -> None:
    sounds.default.device[0] = -1
    with pytest.raises(AudioError, match="no default microphone, expected one of"):
        next(Microphone().blocks())
    sounds.attached = sounds.listed = [sounds.entry("HDMI", channels=0)]
    with pytest.raises(AudioError, match="found no microphone; connect one"):
        next(Microphone("USB").blocks())


def test_a_device_that_was_connected_later_is_found(sounds: Fake) -> None:
    assert len(Microphone.devices()) == 2
    sounds.attached.append(sounds.entry("Desk"))
    heard, _ = opened(sounds, "desk")
    assert heard.name == "Desk"
    assert [device.default for device in Microphone.devices()] == [True, False, False]
    heard.close()


def test_a_refused_rate_gives_the_device_its_own(sounds: Fake) -> None:
    sounds.listed[0]["rates"] = [RATE]
    heard, _ = opened(sounds, sample_rate=32000)
    assert heard.sample_rate == RATE
    heard.close()
    sounds.listed[0]["rates"] = [RATE, 32000]
    heard, _ = opened(sounds, sample_rate=32000)
    assert heard.sample_rate == 32000
    heard.close()


@pytest.mark.parametrize(
    ("most", "counts", "got"), [(1, [1], 1), (2, [2], 2), (2, [1], 1), (32, [1, 2], 1), (6, [6], 6)]
)
def test_devices_with_few_choices_of_channels(sounds: Fake, most: int, counts: list[int], got: int) -> None:
    sounds.listed[0].update(max_input_channels=most, counts=counts)
    heard, stream = opened(sounds)
    assert stream.channels == got
    heard.close()


def test_channels_that_are_asked_for_are_not_replaced(sounds: Fake) -> None:
    sounds.listed[0]["counts"] = [1]
    with pytest.raises(AudioError, match="with 2 channels is refused; it has up to 1 channels and runs at 16000 Hz"):
        next(Microphone(channels=2).blocks())


def test_a_busy_and_a_broken_device_say_so(sounds: Fake) -> None:
    sounds.listed[0]["busy"] = True
    with pytest.raises(AudioError, match="in use by another program"):
        next(Microphone().blocks())
    sounds.listed[1]["broken"] = True
    with pytest.raises(AudioError, match="cannot be opened: Input/output error"):
        next(Microphone("usb").blocks())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sample_rate": 44.5}, "expected a whole number"),
        ({"channels": 0}, "has 0 channels"),
        ({"buffer_seconds": 0}, "found buffer_seconds=0"),
        ({"reconnect_seconds": -1}, "found reconnect_seconds=-1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(AudioError, match=said):
        Microphone(**settings)


# Missing libraries


def test_without_sounddevice_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DependencyError, match=r"pip install 'alm-edge\[mic\]'"):
        next(Microphone().blocks())


def test_without_portaudio_the_debian_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(DependencyError, match="apt install libportaudio2"):
        Microphone.devices()


# Devices that go


@pytest.mark.parametrize("wanted", ["usb", 1])
def test_a_replugged_device_is_found_under_its_new_number(
    sounds: Fake, wanted: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "RETRY_SECONDS", 0.1)
    heard, stream = opened(sounds, wanted)
    blocks = heard.blocks()
    stream.feed(tone(BLOCK))
    next(blocks)
    stream.feed(tone(10))
    again = sounds.entry("USB PnP Sound Device: Audio (hw:3,0)")
    sounds.unplug("USB", 3, sounds.entry("Another", channels=2), again)
    short, after = next(blocks), next(blocks)
    assert (len(short.samples), short.lost) == (10, 0)
    assert np.array_equal(after.samples, tone(BLOCK)) and after.lost > 0
    assert heard.name == "USB PnP Sound Device: Audio (hw:3,0)"
    assert (heard.overflows, heard.lost_frames) == (0, after.lost)
    heard.close()
    assert sounds.streams == []


def test_a_device_that_falls_silent_is_opened_again(sounds: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "STALL_SECONDS", 0.1)
    heard, stream = opened(sounds)
    blocks = heard.blocks()
    stream.feed(tone(BLOCK))
    next(blocks)
    sounds.greeting = tone(BLOCK)
    assert next(blocks).lost > 0
    assert sounds.streams != [stream] and len(sounds.streams) == 1
    heard.close()


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_device_that_stays_away_is_an_error(sounds: Fake, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "STALL_SECONDS", 0.05)
    heard, stream = opened(sounds, "usb", reconnect_seconds=0.2)
    blocks = heard.blocks()
    stream.feed(tone(BLOCK))
    next(blocks)
    if how == "gone":
        sounds.unplug("USB", None)
    reason = "found no microphone 'usb'" if how == "gone" else "stays silent"
    with pytest.raises(AudioError, match=f"sent nothing for 0.2 s.*{reason}"):
        next(blocks)
    assert sounds.streams == []


def test_looking_for_a_device_does_not_end_another_microphone(sounds: Fake) -> None:
    other, listening = opened(sounds, "HDA")
    heard, stream = opened(sounds, "usb", reconnect_seconds=0.1)
    stream.feed(tone(BLOCK))
    blocks = heard.blocks()
    next(blocks)
    sounds.unplug("USB", None)
    sounds.listed[1]["broken"] = True
    with pytest.raises(AudioError, match="was not found again"):
        next(blocks)
    assert sounds.restarts == 0 and listening.active
    other.close()


def test_close_ends_a_wait_for_sound_and_for_a_device(sounds: Fake) -> None:
    for gone in (False, True):
        heard, stream = opened(sounds, "usb")
        if gone:
            sounds.unplug("USB", None)
        reader = threading.Thread(target=lambda heard=heard: list(heard.blocks()))
        reader.start()
        time.sleep(0.05)
        heard.close()
        reader.join(30.0)
        assert not reader.is_alive() and sounds.streams == [] and not stream.active


def test_it_is_used_once(sounds: Fake) -> None:
    heard, stream = opened(sounds)
    stream.feed(tone(BLOCK))
    with heard:
        next(heard.blocks())
        with pytest.raises(AudioError, match="taken already"):
            next(heard.blocks())
    assert sounds.streams == []
    unused = Microphone()
    unused.close()
    assert list(unused.blocks()) == []
    with pytest.raises(AudioError, match="closed before"):
        _ = unused.sample_rate
