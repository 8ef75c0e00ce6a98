"""What records say, as rows for scripts and as comparisons for readers. Imports no torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.methods import METHODS
from benchmarks.models import MODELS
from benchmarks.records import MetricFacts, Record, Status, iterate_records, key_of
from dqss.learned import LEARNED
from dqss.quantizers import QUANTIZERS
from dqss.reconstruction import RECONSTRUCTIONS
from dqss.registry import UnknownNameError, did_you_mean
from dqss.spec import Bits

BAR = "best-uniform"
METHOD = "dqss"

CLOSEST = 0.1
"""A share of a smaller distance to full precision, in the metric's unit of differences, would say nothing."""

FIELDS = (
    "key",
    "suite",
    "suite_version",
    "task",
    "model",
    "bits",
    "mode",
    "protocol",
    "method",
    "seed",
    "status",
    "reason",
    "score",
    "full_precision_score",
    "validation_score",
    "calibration_loss",
    "relaxed_loss",
    "discretized_loss",
    "calibration_seconds",
    "reconstruction_seconds",
    "search_seconds",
    "evaluation_seconds",
    "forward_passes",
    "peak_memory_mb",
    "size_bytes",
    "bops",
    "strategy",
)


class NoRecordsError(ValueError):
    """There is nothing to show where the records should be; the message says what to do."""


def load(out: Path, suite: str | None = None) -> tuple[list[Record], list[str]]:
    """Return the records under an output folder in reading order, and the fault of each file that is not one.

    Raises:
        NoRecordsError: there is no such folder.
        UnknownNameError: no record there is of `suite`.
    """
    if not out.is_dir():
        raise NoRecordsError(f"no folder '{out}'. Run a suite first, or name the folder of a run with --out.")
    there = sorted({path.parent.name for path in out.glob("*/*.json") if len(path.stem) == 64})
    if suite is not None and suite not in there:
        known = did_you_mean(suite, there) if there else "It holds no records at all. Run a suite first."
        raise UnknownNameError(f"no records of suite '{suite}' in '{out}'. {known}")
    found = list(iterate_records(out, suite))
    faults = [str(item) for item in found if not isinstance(item, Record)]
    return in_reading_order(item for item in found if isinstance(item, Record)), faults


def in_reading_order(records: Iterable[Record]) -> list[Record]:
    """Return records by suite, task, protocol and model, wide bits before narrow ones, baselines before searches."""
    models = list(MODELS)

    def place(record: Record) -> tuple[Any, ...]:
        bits = Bits.parse(record.bits)
        where = (record.suite, record.suite_version, record.task, record.protocol, record.mode)
        width = (-bits.weight, -bits.activation)
        seed = -1 if record.seed is None else record.seed
        return (*where, _rank(record.model, models), *width, reading_place(record.method), seed, record.key)

    return sorted(records, key=place)


def reading_place(method: str) -> tuple[int, int, str]:
    """Sort methods as they are read: uniform ones, the best uniform pair, random, other rivals, variants of DQSS, DQSS.

    Names that are in no table, of records from elsewhere, close their part in the order of the alphabet.

    >>> sorted(["dqss", "tpe", "uniform-new", "dqss-softmax", "best-uniform", "uniform-kl"], key=reading_place)
    ['uniform-kl', 'uniform-new', 'best-uniform', 'tpe', 'dqss-softmax', 'dqss']
    """
    searches = list(METHODS)
    if method == METHOD:
        # It is what a table is read for.
        return 5, 0, method
    if is_dqss(method):
        return 4, *_rank(method, searches)
    if method in (BAR, "random"):
        return (1 if method == BAR else 2), 0, method
    if method.startswith("uniform-"):
        return 0, *_rank(method, [f"uniform-{name}" for name in (*QUANTIZERS, *RECONSTRUCTIONS, *LEARNED)])
    return 3, *_rank(method, searches)


def is_dqss(method: str) -> bool:
    """Return whether a method is DQSS or a variant of it, `dqss-...`."""
    return method == METHOD or method.startswith(f"{METHOD}-")


def _rank(name: str, known: list[str]) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known), name)


def bar_of(mode: str, groups: Mapping[str, Sequence[Record]]) -> str | None:
    """Return the method that others are compared with.

    It is `best-uniform`, chosen on calibration data. Training has no such cell: it is the uniform method with the best
    score on search-validation, the mean over seeds; None where there is no uniform method.

    Args:
        mode: of all records.
        groups: method -> its records, all ok; in training of the same seeds, or the mean is of other ones.
    """
    if mode == "ptq":
        return BAR
    uniform = {method: group for method, group in groups.items() if method.startswith("uniform-") and group}
    scored = {
        method: fmean(record.validation_score for record in group if record.validation_score is not None)
        for method, group in uniform.items()
        if all(record.validation_score is not None for record in group)
    }
    return max(scored, key=lambda method: (scored[method], method), default=None)


def gap_to_full_precision(record: Record) -> float | None:
    """Return the score less full precision's, below 0 where quantization lost something; None without either."""
    if record.score is None or record.full_precision_score is None:
        return None
    return record.score - record.full_precision_score


def share_closed(gain: float, gap_of_bar: float | None) -> float | None:
    """Return the percent of the bar's gap to full precision that a gain closes; None where that gap is below CLOSEST.

    >>> share_closed(1.5, -2.0), share_closed(-1.0, -2.0), share_closed(0.0625, -0.0625)
    (75.0, -50.0, None)
    """
    return None if gap_of_bar is None or gap_of_bar > -CLOSEST else 100 * gain / -gap_of_bar


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return one mapping per record, with the keys FIELDS; `strategy` is a mapping or None."""
    return [record.model_dump(mode="json", include=set(FIELDS)) for record in records]


def to_json(records: Iterable[Record]) -> str:
    """Return a JSON list of objects with the keys FIELDS."""
    listed = [{name: row[name] for name in FIELDS} for row in rows(records)]
    return json.dumps(listed, indent=1, allow_nan=False)


def to_csv(records: Iterable[Record]) -> str:
    """Return a header and one line per record; empty for None, the strategy as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows(records):
        strategy = row["strategy"] and json.dumps(row["strategy"], separators=(",", ":"))
        writer.writerow({**row, "strategy": strategy})
    return text.getvalue()


@dataclass(frozen=True)
class Line:
    """One method of a comparison.

    Args:
        label: the method's name, with a mark where several variants of it are compared.
        score: the mean over the seeds that ended well; None where none did.
        gain: score minus the bar's; None where either is missing, and for the bar itself.
        closed: percent of the bar's gap to full precision that the gain closes; None without a gain, or where that gap
            is below CLOSEST.
        seconds: mean time of search or training.
        seeds: how many records are behind the means.
        status: the worst of its records': failed, skipped, ok.
        faults: status and reason of each record that did not end well.
    """

    label: str
    method: str
    score: float | None
    gain: float | None
    closed: float | None
    seconds: float | None
    seeds: int
    status: Status
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """All methods on one model at one bit-width: scores that may be ranked together.

    Args:
        bar: the method that gains are over; None where there is none.
        full_precision: lowest and highest score of the checkpoint among the records; they should be equal. None where
            no method ended well.
    """

    suite: str
    suite_version: int
    task: str
    protocol: str
    mode: str
    model: str
    bits: str
    metric: MetricFacts | None
    bar: str | None
    full_precision: tuple[float, float] | None
    lines: tuple[Line, ...]


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _without_seed(record: Record) -> str:
    return key_of({name: value for name, value in record.definition.items() if name != "seed"})


def _label(record: Record, block: Sequence[Record]) -> str:
    # Records of older runs may carry the same method with other options or versions; their mean would mean nothing.
    variants = {_without_seed(other) for other in block if other.method == record.method}
    return record.method if len(variants) == 1 else f"{record.method} ({_without_seed(record)[:6]})"


def _line(label: str, records: Sequence[Record], bars: Sequence[Record], bar_method: str | None) -> Line:
    ended_well = [record for record in records if record.status == "ok"]
    score, bar = _mean(record.score for record in ended_well), _mean(record.score for record in bars)
    gain = None if score is None or bar is None or records[0].method == bar_method else score - bar
    return Line(
        label=label,
        method=records[0].method,
        score=score,
        gain=gain,
        closed=None if gain is None else share_closed(gain, _mean(map(gap_to_full_precision, bars))),
        seconds=_mean(record.search_seconds for record in ended_well),
        seeds=len(ended_well),
        status=min((record.status for record in records), key=("failed", "skipped", "ok").index),
        faults=tuple(
            f"{record.status}{'' if record.seed is None else f' at seed {record.seed}'}: {record.reason}"
            for record in records
            if record.status != "ok"
        ),
    )


def compare(records: Iterable[Record]) -> list[Comparison]:
    """Return one comparison per suite, task, protocol, mode, model and bit-width, in reading order."""

    def place(record: Record) -> tuple[str, int, str, str, str, str, str]:
        where = (record.suite, record.suite_version, record.task, record.protocol)
        return (*where, record.mode, record.model, record.bits)

    comparisons = []
    for where, group in groupby(in_reading_order(records), place):
        block = list(group)
        ended_well = [record for record in block if record.status == "ok"]
        bar, bars = _bar(block)
        labels = {record.key: _label(record, block) for record in block}
        lines = tuple(
            _line(label, [record for record in block if labels[record.key] == label], bars, bar)
            for label in dict.fromkeys(labels.values())
        )
        metric = next((record.metric for record in block if record.metric is not None), None)
        measured = [score for record in ended_well if (score := record.full_precision_score) is not None]
        full_precision = (min(measured), max(measured)) if measured else None
        comparisons.append(Comparison(*where, metric=metric, bar=bar, full_precision=full_precision, lines=lines))
    return comparisons


def _bar(block: Sequence[Record]) -> tuple[str | None, list[Record]]:
    """Return the bar and its records; of a method with several variants none is the bar, and no other stands in."""
    mode = block[0].mode
    groups: dict[str, list[Record]] = {}
    for record in block:
        if record.status == "ok":
            groups.setdefault(record.method, []).append(record)
    if mode == "qat":
        # A seed that failed or is still to do must not decide which algorithm is the bar, as on the leaderboard.
        asked = {record.seed for record in block}
        groups = {method: group for method, group in groups.items() if {record.seed for record in group} == asked}
    bar = bar_of(mode, groups)
    if bar is None:
        return None, []
    candidates = [bar] if mode == "ptq" else [method for method in groups if method.startswith("uniform-")]
    doubled = any(len({_without_seed(record) for record in groups.get(method, [])}) > 1 for method in candidates)
    return (None, []) if doubled else (bar, groups.get(bar, []))
