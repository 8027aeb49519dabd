"""The microphone through the real PortAudio callback, against a paced fake device; see run.sh beside this.

tests/microphone/run.sh pytest tests/microphone/check.py
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sdk.fakes import write_fake

import alm
from alm.engines import ENGINES
from alm.errors import AudioError
from alm.listening.blocks import Block
from alm.listening.microphone import Microphone

RATE = 32000


def pactl(*words: str) -> str:
    return subprocess.run(["pactl", *words], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def connect(name: str) -> str:
    """Plug a device in; the answer unplugs it."""
    return pactl("load-module", "module-null-sink", f"sink_name={name}", f"rate={RATE}", "channels=1", "format=s16le")


def recorded() -> list[str]:
    """Who records something."""
    return pactl("list", "short", "source-outputs").splitlines()


def threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))  # noqa: PTH208


@pytest.fixture(autouse=True)
def desk() -> Iterator[str]:
    """A device, alone so that PulseAudio has none to move a recorder to; no recorder or thread outlives a test."""
    loaded = connect("desk")
    # PortAudio and the PulseAudio client are loaded once and may keep what they need.
    Microphone.devices()
    before = threads()
    yield loaded
    assert recorded() == []
    assert len(threads()) <= len(before)
    for line in pactl("list", "short", "modules").splitlines():
        if "module-null-sink" in line:
            pactl("unload-module", line.split()[0])


class Played:
    """Noise of 16 bits that is played into a device in the background.

    Half a second of silence comes first: while a stream begins, PulseAudio renders again what a monitor had
    already given out, and some hundred samples are in neither.
    """

    def __init__(self, folder: Path, seconds: float, device: str = "desk") -> None:
        codes = np.random.default_rng(5).integers(-32768, 32768, int(seconds * RATE)).astype(np.int16)
        codes[0] = 12345  # not zero: the end of the silence
        self.samples = codes.astype(np.float32) / 32768
        soundfile.write(folder / "noise.wav", np.append(np.zeros(RATE // 2, np.int16), codes), RATE)
        self._player = subprocess.Popen(["paplay", f"--device={device}", str(folder / "noise.wav")])

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_: object) -> None:
        self._player.kill()
        self._player.wait()

    def find(self, samples: np.ndarray) -> int:
        """Where the first sample of a block stands in the noise; eight samples occur nowhere twice."""
        candidates = np.flatnonzero(self.samples == samples[0])
        found = [at for at in candidates if np.array_equal(self.samples[at : at + 8], samples[:8])]
        assert len(found) == 1, "the block is not part of what was played"
        return int(found[0])


def sounding(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks from the first one that is not silent, which comes within ten seconds."""
    return itertools.chain([next(block for block in itertools.islice(blocks, 100) if block.samples.any())], blocks)


def test_capture_is_sample_exact(tmp_path: Path) -> None:
    with Microphone("desk_microphone", sample_rate=RATE) as microphone:
        blocks = microphone.blocks()
        next(blocks)
        with Played(tmp_path, 6.0) as played:
            heard = np.empty(0, np.float32)
            for block in itertools.islice(blocks, 100):
                heard = np.append(heard, block.samples)
        assert (microphone.overflows, microphone.lost_frames) == (0, 0)
    start = int(np.flatnonzero(heard)[0])
    assert np.array_equal(heard[start : start + len(played.samples)], played.samples)
    assert abs(block.time - time.time()) < 5.0


def test_an_overflow_is_counted_to_the_sample(tmp_path: Path) -> None:
    with Microphone("desk_microphone", sample_rate=RATE, buffer_seconds=0.5) as microphone:
        blocks = microphone.blocks()
        next(blocks)
        with Played(tmp_path, 8.0) as played:
            next(sounding(blocks))
            before = next(blocks)
            time.sleep(2.0)
            after = next(blocks)
        assert after.lost > RATE
        assert played.find(after.samples) - played.find(before.samples) == len(before.samples) + after.lost
        assert (microphone.overflows, microphone.lost_frames) == (1, after.lost)


def test_a_device_that_vanishes_is_found_again(desk: str, tmp_path: Path) -> None:
    with Microphone("DESK", sample_rate=RATE, reconnect_seconds=15.0) as microphone:
        blocks = microphone.blocks()
        next(blocks)
        pactl("unload-module", desk)
        replugged = threading.Timer(3.0, lambda: connect("desk"))
        replugged.start()
        start, after = time.monotonic(), next(block for block in itertools.islice(blocks, 100) if block.lost)
        assert after.lost / RATE == pytest.approx(time.monotonic() - start, abs=1.0)
        assert after.lost > 3.0 * RATE
        assert microphone.lost_frames == after.lost and microphone.overflows == 0
        with Played(tmp_path, 3.0) as played:
            next(sounding(blocks))
            assert played.find(next(blocks).samples) > 0


def test_a_device_that_stays_away_is_an_error(desk: str) -> None:
    with Microphone("desk", reconnect_seconds=2.0) as microphone:
        blocks = microphone.blocks()
        next(blocks)
        pactl("unload-module", desk)
        with pytest.raises(AudioError, match="'desk_microphone' sent nothing for 2 s"):
            list(blocks)


def test_devices_are_told_apart_by_name(tmp_path: Path) -> None:
    names = {device.name for device in Microphone.devices()}
    assert {"desk_microphone", "window_microphone"} <= names
    with pytest.raises(AudioError, match=r"'microphone' could be any of \d+ 'desk_microphone', \d+ 'window_microph"):
        _ = Microphone("microphone").sample_rate
    with pytest.raises(AudioError, match=r"found no microphone 'kitchen', expected one of .*desk_microphone"):
        _ = Microphone("kitchen").sample_rate
    connect("window")
    with Microphone("Window") as window, Microphone("desk", sample_rate=RATE) as desk:
        assert window.name == "window_microphone"
        with Played(tmp_path, 4.0) as played:
            blocks = desk.blocks()
            next(sounding(blocks))
            assert played.find(next(blocks).samples) > 0
            assert not next(window.blocks()).samples.any()


def test_a_rate_that_is_refused_gives_the_device_its_own() -> None:
    own = {device.name: device.sample_rate for device in Microphone.devices()}["desk_microphone"]
    with Microphone("desk", sample_rate=1_000_000) as microphone:
        assert microphone.sample_rate == own
        assert len(next(microphone.blocks()).samples) == own // 10


def test_close_from_another_thread_ends_the_blocks() -> None:
    microphone = Microphone("desk")
    closing = threading.Timer(3.0, microphone.close)
    closing.start()
    assert len(list(microphone.blocks())) > 0
    closing.join()


def test_watch_hears_what_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "fake", "sdk.fakes")
    with alm.load(write_fake(tmp_path / "fake.alm")) as model:
        with model.watch(alm.Microphone("desk"), "what is it?") as events:
            time.sleep(5.0)  # of silence, which the gate takes for what is usual
            with Played(tmp_path, 3.0):
                played = time.time()
                event = next(event for event in events if event.level_db > -20.0)
        assert event.time is not None and -1.0 < event.time - played < 3.0
        assert event.lost == 0.0


def test_ctrl_c_lets_go_of_the_device() -> None:
    program = (
        "from alm.listening.microphone import Microphone\n"
        "for block in Microphone('desk').blocks(): print(len(block.samples), flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline()
    assert len(recorded()) == 1
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(timeout=20) == -signal.SIGINT
