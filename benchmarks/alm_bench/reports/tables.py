"""A result as tables: one row per setting, the same rows in a terminal and in a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from alm_bench.reports.figures import decode_share, kept, middle, percent, prefill_share, quantity, rate, reading
from alm_bench.results.records import STAGES, PackageFacts, Result, Side


@dataclass(frozen=True)
class Table:
    """Cells as text."""

    title: str
    """What the rows are about."""
    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """One per line."""


def tables(result: Result) -> Iterator[Table]:
    """Speed, memory, what else was measured, and the machine; tables without rows are left out."""
    measured = (_speed(result), _absent(result), _memory(result), _streaming(result), _files(result))
    for table in (*measured, _machine(result)):
        if table.rows:
            yield table


def _speed(result: Result) -> Table:
    stages = [name for name in STAGES if any(name in run.stages for side in result.sides for run in side.runs)]
    unit = "tokens/s" if any(run.unit == "s" for side in result.sides for run in side.runs) else "tokens/M instructions"
    rows = []
    for side in result.sides:
        for run in side.runs:
            speed = rate(run)
            rows.append(
                (
                    side.name,
                    str(run.threads),
                    run.cache,
                    *(reading(run, stage) for stage in stages),
                    "" if speed is None else f"{speed:.3g}",
                    percent(decode_share(result, side, run)),
                    percent(prefill_share(result, side, run)),
                    f"{middle(run.peak_mb).median:.0f}" if run.peak_mb else "",
                )
            )
    shares = ("decode of limit", "prefill of limit", "peak MB")
    header = ("", "threads", "cache", *(stage.replace("_", " ") for stage in stages), unit, *shares)
    return _without_empty(Table("Speed: medians, ± half the range between quartiles", header, tuple(rows)))


def _absent(result: Result) -> Table:
    return Table("Not measured", ("", "why"), tuple((result.absent or {}).items()))


def _memory(result: Result) -> Table:
    rows = [
        (
            side.name,
            str(memory.threads),
            f"{memory.interpreter.total_mb:.0f}",
            f"{memory.steady.file_mb:.0f} + {memory.steady.anonymous_mb:.0f}",
            f"{memory.peak.file_mb:.0f} + {memory.peak.anonymous_mb:.0f}",
            f"{memory.highest_mb:.0f}",
            f"{memory.highest_mb - memory.interpreter.total_mb:.0f}",
        )
        for side in result.sides
        for memory in side.memory
    ]
    header = (
        "", "threads", "Python and numpy", "steady, file + own", "peak, file + own", "high-water mark", "above Python"
    )  # fmt: skip
    return Table("Resident memory, MB", header, tuple(rows))


def _streaming(result: Result) -> Table:
    rows = []
    for side in result.sides:
        if heard := side.streaming:
            delays = [
                sorted(values)[len(values) // 2] if values else None for values in (heard.first_token, heard.event)
            ]
            found = f"{len(heard.event)} of {heard.sounds}"
            cells = ("" if delay is None else quantity(delay) for delay in delays)
            rows.append((side.name, str(heard.threads), found, *cells, f"{heard.share:.1%}", f"{heard.core_share:.1%}"))
    header = ("", "threads", "sounds found", "end to first token", "end to event", "of real time", "of a core")
    return Table("Streaming: sounds of 2 s with pauses of 4 s, in real time", header, tuple(rows))


def _files(result: Result) -> Table:
    rows = [
        (
            side.name,
            f"{facts.size / 1e6:.1f} MB",
            f"{facts.installed / 1e6:.0f} MB",
            ", ".join(f"{name} {scheme}" for name, scheme in facts.schemes.items()),
            _kept(facts),
            _energy(side),
        )
        for side in result.sides
        if (facts := side.package)
    ]
    header = ("", "package", "SDK installed", "schemes", "as float32", "energy of a pass")
    return Table("Size, quality and energy", header, tuple(rows))


def _kept(facts: PackageFacts) -> str:
    found = kept(facts)
    if found is None:
        return "not measured"
    score, words = found
    return f"{score.share:.1%} [{score.low:.1%}, {score.high:.1%}] of {score.n} {words}"


def _energy(side: Side) -> str:
    if side.energy is None:
        return "not asked for"
    if side.energy.joules_per_pass is None:
        return "not available"
    return f"{side.energy.joules_per_pass:.2f} J above idle ({side.energy.source})"


def _machine(result: Result) -> Table:
    here, noise = result.environment, result.noise
    rows = [
        ("device", result.device + (" (emulated: instructions count, seconds mean nothing)" if here.emulated else "")),
        ("machine", f"{here.machine}, {here.processor}, {here.cores} cores, {here.memory_mb:,.0f} MB"),
        ("system", here.system),
        ("versions", ", ".join(f"{name} {version}" for name, version in here.versions.items())),
        ("before", ", ".join(f"{name} {value}" for name, value in here.before.items()) or "the device tells nothing"),
        ("after", ", ".join(f"{name} {value}" for name, value in here.after.items()) or "the device tells nothing"),
        ("noise", noise_line(result)),
        *(("limit", f"{limit.threads} threads: {limit.read_gbs:.1f} GB/s read, {limit.gemm_gflops:.0f} GFLOP/s float32")
          for limit in result.roofline),
        *(("energy", side.energy.source) for side in result.sides[:1]
          if side.energy and side.energy.joules_per_pass is None),
        ("made", result.made),
    ]  # fmt: skip
    if noise.busy:
        rows.insert(0, ("BUSY", "; ".join(noise.busy)))
    return Table("Machine", (), tuple(rows))


def noise_line(result: Result) -> str:
    """How steady the machine was, in a line."""
    if not result.noise.before:
        return "does not matter: instructions were counted"
    before, after = middle(result.noise.before), middle(result.noise.after)
    return (
        f"the same work took {quantity(before.median)} ±{before.spread / 2:.1%} before and "
        f"{quantity(after.median)} ±{after.spread / 2:.1%} afterwards; others used {result.noise.others:.2f} cores"
    )


def _without_empty(table: Table) -> Table:
    keep = [column for column in range(len(table.header)) if any(row[column] for row in table.rows)]
    rows = tuple(tuple(row[column] for column in keep) for row in table.rows)
    return Table(table.title, tuple(table.header[column] for column in keep), rows)
