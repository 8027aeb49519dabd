"""Microphones by name, through sounddevice and PortAudio, both of which are optional and imported when needed."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from alm.errors import AudioError, DependencyError

PORTAUDIO = threading.RLock()
"""PortAudio lists, opens and closes devices for one thread at a time."""


@dataclass(frozen=True)
class InputDevice:
    """A microphone, or another input that PortAudio offers."""

    index: int
    """Its place in PortAudio's list, which changes when devices come and go."""
    name: str
    """Its name; for a sound card on Linux the card's number follows, as in "USB Audio: - (hw:1,0)"."""
    channels: int
    """Most channels that it takes."""
    sample_rate: int
    """Its own rate in Hz."""
    default: bool
    """Whether it is used when none is named."""

    @property
    def lasting_name(self) -> str:
        """The name without the number of the card, which is another one after replugging."""
        return re.sub(r" \(hw:\d+,\d+\)$", "", self.name)


def sounddevice() -> Any:
    """The module. DependencyError when it, or the PortAudio library under it, is missing."""
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise DependencyError(f"{error.name} is missing; a microphone needs: pip install 'alm-edge[mic]'") from error
    except OSError as error:
        raise DependencyError(
            f"the PortAudio library cannot be loaded ({error}); "
            "install it, on Debian and Raspberry Pi OS: apt install libportaudio2"
        ) from error
    return sounddevice


def input_devices() -> tuple[InputDevice, ...]:
    """What can be listened to, as PortAudio found it when it was first used or last refreshed."""
    with PORTAUDIO:
        module = sounddevice()
        default = module.default.device[0]
        return tuple(
            InputDevice(
                index, entry["name"], entry["max_input_channels"], int(entry["default_samplerate"]), index == default
            )
            for index, entry in enumerate(module.query_devices())
            if entry["max_input_channels"] > 0
        )


def find_device(wanted: str | int | None) -> InputDevice:
    """The device with this index or name (a part of it, in any case, will do); the default one for None.

    AudioError when there is none or more than one, with a list of those that would do.
    """
    devices = input_devices()
    if not devices:
        raise AudioError("found no microphone; connect one, and look whether this user may use it (group audio)")
    if wanted is None:
        found = [device for device in devices if device.default]
    elif isinstance(wanted, str):
        name = wanted.casefold()
        exact = [device for device in devices if name in (device.name.casefold(), device.lasting_name.casefold())]
        found = exact or [device for device in devices if name in device.name.casefold()]
    else:
        found = [device for device in devices if device.index == wanted]
    if len(found) == 1:
        return found[0]
    if not found:
        called = "default microphone" if wanted is None else f"microphone {wanted!r}"
        raise AudioError(f"found no {called}, expected one of {_listed(devices)}")
    raise AudioError(f"the microphone {wanted!r} could be any of {_listed(tuple(found))}; give more of the name")


def _listed(devices: tuple[InputDevice, ...]) -> str:
    return ", ".join(f"{device.index} {device.name!r}" for device in devices)
