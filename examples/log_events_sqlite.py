"""Log what is heard into an SQLite database.

    python examples/log_events_sqlite.py mellow-rpi5-int4.alm events.db --device "USB Audio"
    python examples/log_events_sqlite.py mellow-rpi5-int4.alm events.db --file night.wav
    sqlite3 events.db "SELECT datetime(time, 'unixepoch', 'localtime'), text FROM events"

It can be killed at any moment and started again: each event is committed before the next is waited for, a
microphone goes on below the rows that are there, and a recording that is read again replaces its own.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sqlite3
import sys
import time
from pathlib import Path

import alm

TABLE = """
CREATE TABLE IF NOT EXISTS events (
    source   TEXT NOT NULL,  -- the recording, or the microphone
    run      REAL NOT NULL,  -- UNIX time at which listening began; 0 for a recording
    start    REAL NOT NULL,  -- seconds since the stream began
    end      REAL NOT NULL,
    time     REAL,           -- UNIX time of start; NULL for a recording
    text     TEXT NOT NULL,
    level_db REAL NOT NULL,
    lost     REAL NOT NULL,  -- seconds that were not heard since the event before
    PRIMARY KEY (source, run, start)
)
"""


def open_log(path: Path) -> sqlite3.Connection:
    """The database, made when it is not there; a write-ahead log lets others read while events come."""
    log = sqlite3.connect(path)
    log.execute("PRAGMA journal_mode = WAL")
    log.execute(TABLE)
    return log


def record(log: sqlite3.Connection, source: str, run: float, event: alm.Event) -> None:
    """Commit one event."""
    row = (source, run, event.start, event.end, event.time, event.text, event.level_db, event.lost)
    with log:
        log.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def listen(package: Path, database: Path, recording: Path | None, device: str | None, question: str) -> int:
    """Log events until the sound ends; how many there were."""
    count = 0
    with contextlib.closing(open_log(database)) as log, alm.load(package) as model:
        source = recording or alm.Microphone(device)
        name = str(recording.resolve()) if recording else device or "default microphone"
        run = 0.0 if recording else time.time()
        with model.watch(source, question) as events:
            for event in events:
                record(log, name, run, event)
                count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description="Log what is heard into an SQLite database.")
    parser.add_argument("package", type=Path)
    parser.add_argument("database", type=Path)
    parser.add_argument("--file", type=Path, help="a recording; without it a microphone is listened to")
    parser.add_argument("--device", help="the microphone: a part of its name")
    parser.add_argument("--question", default="caption the audio.")
    given = parser.parse_args()
    # systemd stops a service with SIGTERM: end as on Ctrl-C, with the device closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(listen(given.package, given.database, given.file, given.device, given.question), "events")
    except (alm.AlmError, sqlite3.Error) as error:
        sys.exit(f"log_events_sqlite: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
