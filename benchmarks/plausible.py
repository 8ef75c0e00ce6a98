"""Whether the numbers of a record can be, told from the record, its definition and the shipped checkpoints.

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from benchmarks.definitions import Definition, DefinitionError, definition_of
from benchmarks.highres import HIGH_RESOLUTION
from benchmarks.outcomes import fault_of, image_scores
from benchmarks.packaged import SHARED
from benchmarks.records import LayerChoice, MetricFacts, Record
from benchmarks.shapes import shapes_of
from dqss.spec import Bits


@dataclass(frozen=True)
class Range:
    """What a task's scores can be.

    Args:
        kind: of its outcomes.
        low: the least score.
        high: the greatest.
        chance: what a full-precision network has at least: that of guessing.
    """

    metric: MetricFacts
    kind: str
    low: float
    high: float
    chance: float


def _top_1(classes: int) -> Range:
    metric = MetricFacts(name="top-1", unit="%", difference_unit="points")
    return Range(metric, "bits", 0.0, 100.0, 100 / classes)


AGREEMENT = Range(
    MetricFacts(name="top-1 agreement", unit="%", difference_unit="points"), "bits", 0.0, 100.0, chance=100.0
)
# Of 255 levels, a grey image of level 128 is at most 128 off: -20 log10(128 / 255) dB.
PSNR = Range(MetricFacts(name="PSNR", unit="dB", difference_unit="dB"), "float32", -0.1, 100.0, chance=5.98)
RANGES = {
    "fashion-mnist": _top_1(10),
    "imagenet": _top_1(1000),
    "imagenet-fidelity": AGREEMENT,
    **dict.fromkeys((*SHARED, *HIGH_RESOLUTION), PSNR),
}
"""Task -> range; tests hold them against the tasks themselves."""

SPLITS = ("train", "fine-tuning", "calibration", "search-validation", "test")
POSITIVE = (
    "search_seconds",
    "evaluation_seconds",
    "calibration_seconds",
    "reconstruction_seconds",
    "peak_memory_mb",
    "size_bytes",
    "bops",
    "processes",
    "threads",
)
NEEDED = ("full_precision_score", "search_seconds", "size_bytes", "bops", "strategy", "outcomes", "calibration_loss")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+%@()/,:-]{0,119}", re.ASCII)
LOSS_ROUNDING = 1e-5
CLOCKS_APART = timedelta(days=1)
IN_A_ROW = re.compile(r"([0-9]{1,9})-([0-9]{1,9})", re.ASCII)


def faults_of(record: Record, now: datetime) -> Iterator[str]:
    """Yield what cannot be in a record, a sentence without its full stop each; most telling first.

    Args:
        record: as it was read, with all of its fields.
        now: records from later than tomorrow are none.
    """
    try:
        definition = definition_of(record)
    except DefinitionError as error:
        yield str(error)
        return
    yield from _names(record)
    yield from _circumstances(record, now)
    if (fault := fault_of(record)) is not None:
        yield fault.rstrip(".")
    elif record.status == "ok":
        yield from _scores(record)
        yield from _choices(record, definition)
        yield from _cost(record, definition)


def _names(record: Record) -> Iterator[str]:
    layers: list[Mapping[str, object]] = [record.strategy or {}, record.start or {}, record.layers or {}]
    names = [
        *(record.suite, record.task, record.model, record.protocol, record.method),
        *(name for one in layers for name in one),
        *(text for c in _layer_choices(record) for text in (c.weight, c.activation)),
        *record.measures,
        *record.curves,
        *(text for facts in (record.versions, record.hardware) for item in facts.items() for text in item),
    ]
    yield from (f"'{name}' is no name" for name in names if not NAME.fullmatch(name))


def _layer_choices(record: Record) -> list[LayerChoice]:
    return [choice for one in (record.strategy, record.start) for choice in (one or {}).values()]


def _circumstances(record: Record, now: datetime) -> Iterator[str]:
    if record.traceback is not None:
        yield "traceback: it tells of the submitter's machine. `submit pack` leaves it out"
    try:
        started = datetime.fromisoformat(record.started)
        late = started - now > CLOCKS_APART
    except (ValueError, TypeError, OverflowError):
        yield f"started: '{record.started}' is no time with its zone in ISO 8601"
    else:
        if late:
            yield f"started: {record.started} is not yet"
    for name in POSITIVE:
        value = getattr(record, name)
        if value is not None and value <= 0:
            yield f"{name}: {value:g} is not above 0"
    if record.forward_passes is not None and record.forward_passes < 0:
        yield f"forward_passes: {record.forward_passes} is below 0"


def _scores(record: Record) -> Iterator[str]:
    missing = [name for name in NEEDED if getattr(record, name) is None]
    if record.mode == "qat":
        # Training compares nothing on calibration data; the bar is chosen by the score on search-validation images.
        missing = [name for name in missing if name != "calibration_loss"]
        missing += ["validation_score"] if record.validation_score is None else []
    if missing:
        yield f"it is ok and has no {', '.join(missing)}"
        return
    assert record.metric is not None
    known = RANGES.get(record.task)
    expected = known or next((each for each in RANGES.values() if each.metric == record.metric), None)
    if expected is None or expected.metric != record.metric:
        yield f"metric: '{record.metric.name}' in '{record.metric.unit}' is not the metric of task {record.task}"
        return
    for name in ("score", "full_precision_score", "validation_score"):
        value = getattr(record, name)
        if value is not None and not expected.low <= value <= expected.high:
            yield f"{name}: {value:g} is not within {expected.low:g} to {expected.high:g} {record.metric.unit}"
    full_precision = record.full_precision_score
    if known is not None and full_precision is not None and full_precision < known.chance:
        yield f"full_precision_score: {full_precision:g} is below {known.chance:g}, which guessing has"
    yield from _outcomes(record, expected)


def _outcomes(record: Record, expected: Range) -> Iterator[str]:
    assert record.outcomes is not None
    if record.outcomes.kind != expected.kind:
        yield f"outcomes: {record.outcomes.kind}, where the metric has {expected.kind}"
        return
    scores = image_scores(record)
    assert scores is not None
    if not bool(((scores >= expected.low) & (scores <= expected.high)).all()):
        yield f"outcomes: some are not within {expected.low:g} to {expected.high:g}"
    for split, ids in record.ids.items():
        if split not in SPLITS:
            yield f"ids: no split '{split}'"
        elif (count := _count(ids)) is None:
            yield f"ids.{split}: no ids, or one twice"
        elif split == "test" and count != record.outcomes.count:
            yield f"outcomes: {record.outcomes.count}, of {count} test images"
    if not {"test", "calibration"} <= record.ids.keys():
        yield "ids: of the test or the calibration split they are missing"


def _count(ids: list[int] | str) -> int | None:
    """Return how many distinct ids there are; None where one stands twice or is none."""
    if isinstance(ids, str):
        row = IN_A_ROW.fullmatch(ids)
        return None if row is None or int(row[2]) < int(row[1]) else int(row[2]) - int(row[1]) + 1
    return len(ids) if ids and len(set(ids)) == len(ids) and min(ids) >= 0 else None


def _choices(record: Record, definition: Definition) -> Iterator[str]:
    """Yield what a strategy cannot have chosen."""
    strategy = record.strategy or {}
    if not strategy:
        yield "strategy: no layers"
    weights = {quantizer.name for quantizer in definition.quantizers.weight}
    activations = {quantizer.name for quantizer in definition.quantizers.activation}
    ends = definition.protocol.first_last_bits
    allowed = {record.bits} if ends is None else {record.bits, str(Bits(ends, ends))}
    for name, choice in strategy.items():
        if choice.weight not in weights or choice.activation not in activations:
            yield f"strategy.{name}: {choice.weight} and {choice.activation} are not among its candidates"
        if choice.bits not in allowed:
            yield f"strategy.{name}: {choice.bits}, where its definition has {' and '.join(sorted(allowed))}"
    if record.method.startswith("uniform-") and len({(c.weight, c.activation) for c in strategy.values()}) > 1:
        yield "strategy: of a uniform method, and yet not alike for all layers"
    if (record.calibration_loss or 0.0) < -LOSS_ROUNDING:
        yield f"calibration_loss: {record.calibration_loss:g} is below 0"
    for name, facts in (record.layers or {}).items():
        for alpha in (facts.alpha_weight, facts.alpha_activation):
            if alpha is not None and not (min(alpha, default=-1) >= 0 and abs(sum(alpha) - 1) < 1e-3):
                yield f"layers.{name}: its alpha are no shares of a whole"


def _cost(record: Record, definition: Definition) -> Iterator[str]:
    """Yield where size and bit operations are not those of the shipped network; others are not known here."""
    shapes = shapes_of(record.model, record.task, definition.model.checkpoint)
    strategy = record.strategy or {}
    if shapes is None or record.bops is None:
        return
    if strategy.keys() != shapes.layers.keys():
        other = sorted(strategy.keys() ^ shapes.layers.keys())[0]
        yield f"strategy: its layers are not those of {record.model}, as '{other}' shows"
        return
    expected = shapes.size_bytes(strategy, definition.protocol_definition)
    if expected != record.size_bytes:
        yield f"size_bytes: {record.size_bytes}, and {expected} by the shapes of {record.model}"
    if record.bops < shapes.least_bops(strategy) or record.bops % shapes.unit_of_bops(strategy):
        yield f"bops: {record.bops} cannot be of {record.model} at {record.bits}"
