"""How numbers, sentences and commands are written on every page."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from benchmarks.records import MetricFacts, Record
from leaderboard.boards import Board
from leaderboard.statistics import Interval, Verdict

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
FIXED = tuple(f",.{digits}f" for digits in range(8))
VERDICTS: dict[Verdict | None, str] = {
    "win": "win",
    "tie": "tie",
    "loss": "loss",
    "open": "no interval",
    None: "not complete",
}


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with fixed digits; an en dash for None.

    >>> number(16384, 0), number(91.5), number(-0.001)
    ('16,384', '91.50', '0.00')
    """
    if value is None:
        return NOTHING
    text = format(value, FIXED[digits] if digits < len(FIXED) else f",.{digits}f")
    if text[0] == "-":
        return text[1:] if float(text.replace(",", "")) == 0 else MINUS + text[1:]
    return text


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits and no exponent, which tables would not sort or save as one.

    >>> significant(0.0000137336), significant(0.15228), significant(1234.5), significant(0.0)
    ('0.0000137', '0.152', '1,234', '0')
    """
    if value is None or value == 0:
        return NOTHING if value is None else "0"
    return number(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def signed(value: float | None, digits: int = 2) -> str:
    """Return a difference, its sign always shown unless it is zero as written.

    >>> signed(1.204), signed(-0.001)
    ('+1.20', '0.00')
    """
    text = number(value, digits)
    if value is None or text.startswith(MINUS) or float(text.replace(",", "")) == 0:
        return text
    return f"+{text}"


def interval(value: Interval | None) -> str:
    """Return both ends of an interval.

    >>> interval(Interval(0.5, 1.25))
    '+0.50 to +1.25'
    """
    return "no interval" if value is None else f"{signed(value.low)} to {signed(value.high)}"


def p_value(value: float | None) -> str:
    """Return a p-value with as many digits as it is read with.

    >>> p_value(0.0312), p_value(0.0004), p_value(1.0)
    ('0.031', '< 0.001', '1.000')
    """
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float | None) -> str:
    """Return a time with about three digits.

    >>> seconds(0.0421), seconds(7.25), seconds(128.4)
    ('0.04', '7.2', '128')
    """
    if value is None:
        return NOTHING
    return number(value, 2 if value < 1 else 1 if value < 100 else 0)


def kilobytes(value: float | None) -> str:
    """Return a number of bytes in kilobytes of 1,000.

    >>> kilobytes(78_432), kilobytes(1_234_567)
    ('78.4', '1,234.6')
    """
    return NOTHING if value is None else number(value / 1000, 1)


def giga(value: float | None) -> str:
    """Return a large count in billions.

    >>> giga(1_234_000_000), giga(12_340_000)
    ('1.23', '0.0123')
    """
    return NOTHING if value is None else f"{value / 1e9:.3g}"


def listed(names: Sequence[object]) -> str:
    """Return names as in a sentence.

    >>> listed(["a", "b", "c"]), listed([0])
    ('a, b and c', '0')
    """
    texts = [str(name) for name in names]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun.

    >>> counted(1, "seed"), counted(10000, "image"), counted(2, "loss", "losses")
    ('1 seed', '10,000 images', '2 losses')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def command(record: Record) -> str:
    """Return the shell command that repeats a record's cell, into a new folder: a finished cell is not run twice."""
    only = f"model={record.model},bits={record.bits},method={record.method},mode={record.mode}"
    words = [*_program(record), "run", record.suite, "--only", only]
    if record.seed is not None:
        words += ["--seeds", str(record.seed)]
    if record.parallel == "data":
        words += ["--parallel", "data"]
    return shlex.join([*words, "--out", "again"])


def definition(value: dict[str, Any]) -> str:
    """Return a cell's definition as people read it.

    >>> print(definition({"seed": 0, "model": {"name": "resnet8"}}))
    {
     "model": {
      "name": "resnet8"
     },
     "seed": 0
    }
    """
    lines = (f" {json.dumps(name, ensure_ascii=False)}: {_part(json.dumps(value[name]))}" for name in sorted(value))
    return "{\n" + ",\n".join(lines) + "\n}" if value else "{}"


@lru_cache(maxsize=1024)
def _part(text: str) -> str:
    """Return JSON as it stands in a definition; most parts are those of many definitions."""
    return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False).replace("\n", "\n ")


def _program(record: Record) -> list[str]:
    if record.parallel != "data":
        return ["dqss-bench"]
    launcher = ["accelerate", "launch", "--multi_gpu", "--num_processes", str(record.processes), "-m", "benchmarks"]
    if record.hardware.get("device") != "cpu":
        return launcher
    # DeepSpeed has its own way to be told so.
    zero = record.definition.get("training", {}).get("zero")
    return ["DS_ACCELERATOR=cpu" if zero else "ACCELERATE_USE_CPU=true", *launcher]


def bar_name(mode: str) -> str:
    """Return what a mode's bar is called.

    >>> bar_name("ptq"), bar_name("qat")
    ('best uniform pair', 'best uniform algorithm')
    """
    return "best uniform pair" if mode == "ptq" else "best uniform algorithm"


def bar_words(board: Board) -> str:
    """Return a board's bar as in a sentence; in training it has a name of its own on each board."""
    named = "" if board.mode == "ptq" or board.bar is None else f" ({board.bar.removeprefix('uniform-')})"
    return f"the {bar_name(board.mode)}{named}"


def score_words(metric: MetricFacts | None) -> str:
    """Return what a comparison's score is called over a column or along an axis, with its unit.

    >>> score_words(MetricFacts(name="top-1", unit="%", difference_unit="points"))
    'Top-1 (%)'
    """
    return "Score" if metric is None else f"{metric.name[:1].upper()}{metric.name[1:]} ({metric.unit})"


def budget_words(record: Record) -> str:
    """Return what a record's method could train, as its definition tells; empty where it trains nothing."""
    match record.definition.get("training"):
        case {"epochs": int(epochs), "batch_size": batch, "distillation": share, **unusual}:
            text = f"{counted(epochs, 'epoch')} in batches of {batch}"
            more = [f"{share} of the loss by distillation"] if share else []
            return ", ".join([text, *more, *(f"{name} {value}" for name, value in unusual.items())])
        case _:
            return ""


def protocol_words(record: Record) -> str:
    """Return what a record's protocol fixes, as its definition tells; empty where it tells nothing."""
    match record.definition.get("protocol"):
        case {"first_last_bits": ends, "weight": {**weight}, "activation": {**activation}, "tail": tail}:
            schemes = f"weights {_scheme(weight)}; activations {_scheme(activation)}"
            last = "all from the enlarging one on" if tail == "enlarging" else "last layer"
            return f"{schemes}; first and {last} {'like all others' if ends is None else f'at {ends} bits'}"
        case _:
            return ""


def _scheme(scheme: dict[Any, Any]) -> str:
    return f"{'symmetric' if scheme.get('symmetric') else 'affine'} {scheme.get('granularity')}"
