"""`alm-bench judgements`: caption metrics against the choices of people."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from alm_bench.quality.command import need_quality, wide_console

if TYPE_CHECKING:
    from alm_bench.quality.run import Row

Judgements = Annotated[Path, typer.Argument(help="audiocaps_eval.json or clotho_eval.json of FENSE, or one like it.")]
Captions = Annotated[
    Path, typer.Option(help="Clotho or AudioCaps captions: which words are rare, and how people write.")
]
ClapPackage = Annotated[Path | None, typer.Option("--clap", help="CLAP package: the text half of MACE.")]
Labels = Annotated[Path | None, typer.Option(help="CSV of captions that people called broken: a test of the detector.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Result file.")]


def judgements(
    file: Judgements, captions: Captions, clap: ClapPackage = None, labels: Labels = None, output: Output = None
) -> None:
    """How often caption metrics agree with people, by kind of pair, without and with a fluency penalty."""
    need_quality()
    import alm
    from alm.models import Clap
    from alm_bench.machine.name import machine
    from alm_bench.quality import judgements as judged
    from alm_bench.quality.fluency import learn
    from alm_bench.quality.judging import CaptionJudge
    from alm_bench.quality.measures import interval
    from alm_bench.quality.report import SCHEMA, write_json
    from alm_bench.quality.run import Row
    from alm_bench.quality.task_files import captions_of, read_rows

    pairs, written = judged.read_pairs(file.name, read_rows(file)), captions_of(captions)
    metrics, detector = {**judged.WORDS, "rare words": judged.rare_words(written)}, learn(written)
    with ExitStack() as stack:
        if clap is not None:
            judge = CaptionJudge(stack.enter_context(alm.load(clap, Clap)), None)
            metrics["CLAP text"] = judged.Metric(judge.text_similarity)
        measures = judged.agreements(metrics, detector, pairs)
    if labels is not None:
        measures += judged.fluency_measures(detector, judged.read_labels(labels.name, read_rows(labels)))
    rows = [Row(*measure.name, (interval(measure),), ()) for measure in measures]
    wide_console().print(_table(rows))
    if output is not None:
        facts = {"file": file.name, "captions": captions.name, "clap": str(clap or "")}
        scores = [dataclasses.asdict(row) for row in rows]
        write_json(output, {"kind": "judgements", "schema": SCHEMA, "machine": machine(), **facts, "scores": scores})


def _table(rows: list[Row]) -> Table:
    kinds = list(dict.fromkeys(row.group for row in rows if row.task == "agreement"))
    table = Table("metric", *kinds, title="pairs ordered as people do, %, 95 % interval in brackets")
    for metric in dict.fromkeys(row.metric for row in rows if row.task == "agreement"):
        cells = {row.group: _cell(row) for row in rows if row.metric == metric}
        table.add_row(metric, *(cells[kind] for kind in kinds))
    table.caption = "; ".join(f"{row.group}: {row.metric} {_cell(row)}" for row in rows if row.task != "agreement")
    return table


def _cell(row: Row) -> str:
    (value,) = row.values
    assert value is not None
    return f"{value.value:.1f} [{value.low:.1f}, {value.high:.1f}] n={value.n}"
