"""How well the activity gate finds real sounds in real backgrounds, how often it is wrong, and what it costs.

    python -m alm_bench.studies.gate --data DATA [--half held-out] [--minutes 3] [--json]

DATA holds an `esc50` folder with manifest.csv. Events are mixed into backgrounds at 20, 10, 5 and 0 dB, over the
active part of each event. One is found when the gate opens between its onset and half a second after its end; a
gate that was open already finds nothing. False alarms are openings on backgrounds alone, but for the one with which
a loud stream begins. The defaults were tuned on
the half "tuning"; "held-out" are sources that had no part in it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from alm.audio.log_mel import LogMel, LogMelStream
from alm.commands.ending import run
from alm.errors import AlmError
from alm.listening.gate import Activity, ActivityGate, GateSettings
from alm.package import Frontend
from alm_bench.machine.name import machine
from alm_bench.studies.scenes import PINK, RATE, Background, Samples, Scene, read_sounds, scenes

SNRS_DB = (20, 10, 5, 0)
AFTER_S = 0.5
"""An event may be found this long after its end: the slow detectors look back half a second."""
BEFORE_S = 0.05
"""And this long before its onset: a frame covers 16 ms on each side of its centre, a step of the gate 50 ms."""
OPENING_S = 5.0
"""The gate opens by design at the start of a stream that is loud in these seconds."""
STEADY, RESTLESS, ALL = "steady", "restless", "all"
ORDER = (PINK, STEADY, RESTLESS, ALL)
"""Kinds of backgrounds, and all of them."""
COST_S = 60
"""Seconds of sound whose processing is timed."""
FRONTEND = Frontend(sample_rate=RATE, samples=10 * RATE, n_fft=1024, hop=320, mels=64, fmin=50.0, fmax=14000.0)
"""Mellow's."""
LOG_MEL = LogMel(FRONTEND)


@dataclass(frozen=True)
class Found:
    """What became of one event."""

    kind: str
    """Kind of its background."""
    snr_db: int
    """How far its active part is above the background."""
    delay_s: float | None
    """From its onset to the opening of the gate; None when it was missed."""
    whole: bool
    """Whether the activity includes its onset."""


def main(
    data: Annotated[Path, typer.Option(help="Folder that holds esc50/manifest.csv.")],
    half: Annotated[Literal["held-out", "tuning"], typer.Option(help="Which sources.")] = "held-out",
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes of each background alone; pink noise: ten times.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count found events and false alarms, and time the closed gate."""
    try:
        events, backgrounds = read_sounds(data, half)
    except AlmError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    random = np.random.default_rng(seed)
    found = [found for scene in scenes(events, backgrounds, random) for found in judge(scene)]
    alarms = false_alarms(backgrounds, minutes, random)
    result = {
        "machine": machine(),
        "half": half,
        "sources": {"events": len(events), "backgrounds": len(backgrounds)},
        "settings": asdict(GateSettings()),
        "detection": detection(found),
        "false_alarms": alarms,
        "cpu_share_closed": closed_cost(random),
    }
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        _print(result)


def activities(samples: Samples) -> list[Activity]:
    """The complete activities of a sound."""
    gate = ActivityGate(GateSettings(), RATE / FRONTEND.hop)
    changes = gate.push(LOG_MEL(samples)) + gate.finish()
    return [change for change in changes if change.end is not None]


def judge(scene: Scene) -> Iterable[Found]:
    """Each event of a scene at each ratio."""
    rate = RATE / FRONTEND.hop
    for snr_db in SNRS_DB:
        heard = activities(scene.mixed(snr_db))
        for first, event in scene.events:
            onset, end = first / RATE, (first + len(event.samples)) / RATE
            hit = next((a for a in heard if onset - BEFORE_S <= a.opened / rate <= end + AFTER_S), None)
            delay = None if hit is None else hit.opened / rate - onset
            yield Found(kind(scene.background), snr_db, delay, hit is not None and hit.start / rate <= onset)


def kind(background: Background) -> str:
    """The row of the report that a background belongs to."""
    return PINK if background.label == PINK else STEADY if background.steady else RESTLESS


def detection(found: list[Found]) -> dict[str, dict[str, Any]]:
    """Per kind of background and ratio: found, total, Wilson interval, median delay, share with onset included."""
    from alm_train.statistics import wilson

    table: dict[str, dict[str, Any]] = {}
    for name in ORDER:
        for snr_db in SNRS_DB:
            chosen = [f for f in found if f.snr_db == snr_db and name in (f.kind, ALL)]
            delays = [f.delay_s for f in chosen if f.delay_s is not None]
            table.setdefault(name, {})[str(snr_db)] = {
                "found": len(delays),
                "events": len(chosen),
                "interval": wilson(len(delays), len(chosen)),
                "median_delay_s": float(np.median(delays)) if delays else None,
                "onset_included": sum(f.whole for f in chosen) / len(delays) if delays else None,
            }
    return table


def false_alarms(backgrounds: list[Background], minutes: float, random: np.random.Generator) -> dict[str, Any]:
    """Per kind of background: hours, openings, openings per hour, and the labels they are from."""
    table: dict[str, Any] = {}
    for background in backgrounds:
        row = table.setdefault(kind(background), {"hours": 0.0, "openings": 0, "labels": Counter()})
        for _ in range(10 if background.label == PINK else 1):
            heard = activities(background.stretch(int(minutes * 60 * RATE), random))
            openings = sum(activity.opened > OPENING_S * RATE / FRONTEND.hop for activity in heard)
            row["hours"] += minutes / 60
            row["openings"] += openings
            row["labels"][background.label] += openings
    for row in table.values():
        row["per_hour"] = row["openings"] / row["hours"]
        row["labels"] = dict(row["labels"].most_common())
    return table


def closed_cost(random: np.random.Generator) -> float:
    """CPU seconds per second of sound, from blocks of 0.1 s at 32 kHz to a closed gate."""
    sound = Background(PINK, True, np.empty(0, np.float32)).stretch(COST_S * RATE, random)
    stream, gate = LogMelStream(LOG_MEL), ActivityGate(GateSettings(), RATE / FRONTEND.hop)
    started = time.process_time()
    for start in range(0, len(sound), RATE // 10):
        gate.push(stream.push(sound[start : start + RATE // 10]))
    return (time.process_time() - started) / COST_S


def _print(result: dict[str, Any]) -> None:
    found, alarms = result["detection"], result["false_alarms"]
    events, backgrounds = result["sources"].values()
    title = f"Events found, {result['half']} sources ({events} events, {backgrounds} backgrounds)"
    table = Table("background", *(f"{snr} dB" for snr in SNRS_DB), "false alarms per hour", title=title)
    for name in ORDER:
        cells = (_cell(found[name][str(snr)]) if name in found else "" for snr in SNRS_DB)
        table.add_row(name, *cells, _rate(alarms[name]) if name in alarms else "")
    console = Console(width=150, highlight=False)
    console.print(table)
    for snr in SNRS_DB:
        cell = found[ALL][str(snr)]
        if cell["found"]:
            console.print(
                f"{snr} dB: opened {cell['median_delay_s']:.2f} s after the onset (median), "
                f"the onset is included in {cell['onset_included']:.1%}"
            )
    console.print(f"closed gate, blocks of 0.1 s at 32 kHz: {result['cpu_share_closed']:.2%} of one core")
    tuned = (
        "these sources set the thresholds" if result["half"] == "tuning" else "thresholds were tuned on other sources"
    )
    console.print(f"{result['machine']}; 95 % intervals (Wilson) in brackets; {tuned}")


def _rate(row: dict[str, Any]) -> str:
    return f"{row['per_hour']:.1f} ({row['openings']} in {row['hours']:.1f} h)"


def _cell(cell: dict[str, Any]) -> str:
    low, high = cell["interval"]
    share = f"{cell['found'] / cell['events']:.1%}" if cell["events"] else "none"
    return f"{share} [{low:.0%}, {high:.0%}] of {cell['events']}"


if __name__ == "__main__":
    run(lambda: typer.run(main), "gate")
