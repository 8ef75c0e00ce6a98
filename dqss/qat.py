"""Quantization-aware training: prepare, calibrate once, find where to begin, give each layer its candidates, train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from dqss.calibrate import Calibration, calibrate
from dqss.engine import Alone, Engine
from dqss.graph import Prepared, prepare
from dqss.inputs import Batch, call
from dqss.learned.base import Learned
from dqss.matching import output_loss
from dqss.ptq import listed, protocol_of
from dqss.ranges import check_start, find_start
from dqss.registry import UnknownNameError, did_you_mean
from dqss.schedule import Rates, Schedule
from dqss.search.base import Picks, Report, no_report
from dqss.snapshots import Snapshots, fingerprint_of
from dqss.spec import Bits, Protocol
from dqss.strategy import Choice, Strategy
from dqss.supernet import activation_algorithms, settled, supernet_of, weight_algorithms
from dqss.training import Trained, TrainingBatches, first, train

TrainingLoss = Callable[[Tensor, Tensor], Tensor]
"""From the model's output and the targets to a scalar."""

ALGORITHMS = ("ste-minmax", "dorefa", "pact", "sawb", "lsq", "lsq-plus", "dsq", "ewgs")
"""Those of LEARNED whose levels are evenly spaced, so that integers can be deployed."""

SEARCH_NAMES = ("dqss", "uniform")

RATES = Rates()


@dataclass(frozen=True)
class QatReport:
    """What the training saw and used.

    Args:
        curves: `loss` and, of alpha in nats, `entropy`, each with one value per step.
        alpha: layer name -> mixing weights of (weight, activation) candidates by which the strategy was derived; None
            where there was nothing to search.
        candidates: names of the (weight, activation) candidates, in the order of alpha.
        steps: how many were taken.
        start: the post-training strategy by whose ranges the quantizers began.
        seconds: that the steps took, without what went before them.
        notes: what could not be done for this model, what stays in full precision, and whether a snapshot was passed
            over; in whole sentences.
    """

    curves: dict[str, list[float]]
    alpha: dict[str, tuple[list[float], list[float]]] | None
    candidates: tuple[tuple[str, ...], tuple[str, ...]]
    steps: int
    start: Strategy
    seconds: float = field(compare=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class QatResult:
    """A trained quantized model, the strategy that it has and the report of the training.

    The strategy names algorithms; the trained weights and grids are in the model alone, whose layers hold latent
    weights and quantize them whenever they run.
    """

    model: nn.Module
    strategy: Strategy
    report: QatReport


def train_qat(
    model: nn.Module,
    training_batches: TrainingBatches,
    loss: TrainingLoss,
    calibration_batches: Iterable[Batch],
    schedule: Schedule,
    bits: str = "W4A4",
    search: str = "dqss",
    start: str = "dqss",
    seed: int = 0,
    protocol: str | Protocol = "all-layers",
    weight_quantizers: Sequence[str] = ALGORITHMS,
    activation_quantizers: Sequence[str] = ALGORITHMS,
    rates: Rates = RATES,
    distillation: float = 0.0,
    report: Report = no_report,
    engine: Engine | None = None,
    snapshots: Snapshots | None = None,
) -> QatResult:
    """Train a model quantized, by a strategy that is searched meanwhile or by one algorithm pair for all layers.

    Batch normalisation is folded into the layers before it, as for `quantize_ptq`, before the first step: there are no
    batch statistics any more, and what is trained is what is deployed. Everything runs in eval mode: normalisation that
    cannot be folded keeps its statistics, and dropout drops nothing.

    Args:
        model: in full precision, trained; it is not changed, and all parameters of its copy are trained.
        training_batches: from the epoch, 0 first, to its batches (inputs, targets), on the model's device; for example
            `lambda epoch: loader`. Their order and augmentation are the caller's to seed.
        loss: of the model's output and the targets, a scalar; for example torch.nn.functional.cross_entropy.
        calibration_batches: model inputs without labels, as for `quantize_ptq`; the quantizers begin where these say.
        schedule: how many steps, and what each does; a uniform strategy takes as many.
        bits: for example "W4A8".
        search: `dqss`, or `uniform` for the one pair that is named.
        start: the post-training search, one of `dqss.ranges.STARTS`, by whose strategy each layer's quantizers begin at
            their ranges.
        seed: of the search; with the same inputs and training batches the same seed gives the same result.
        protocol: a name of PROTOCOLS, or a Protocol; weights are symmetric.
        weight_quantizers: names in `dqss.learned.LEARNED`, the candidates for weights. In the place of one that has no
            form for weights its `weight_from` is taken, and named in the strategy; candidates that are the same then
            are one.
        activation_quantizers: the candidates for activations, likewise with `activation_from`.
        rates: learning rates.
        distillation: the share, 0 to 1, of another loss: that between the output and the full-precision model's, by
            which `quantize_ptq` searches.
        report: called with (stage, done, total) as work goes on.
        engine: runs the steps; None is one process with whole batches. Where it cuts batches into equal parts, the loss
            is to be a mean over the batch. Every process of an engine calls this function with the same arguments and
            gets the same result.
        snapshots: where the training is kept while it lasts. Stopped and called again with the same arguments, it goes
            on from the last snapshot; the batches before that are drawn again, and dropped. One that is damaged or of
            another training is passed over, as the report then notes.

    Raises:
        UnknownNameError: no such search, start, protocol or quantizer.
        ValueError: bad bits or distillation, no batches or some that the model does not take, no layer, a protocol with
            affine weights, several candidates for a uniform strategy, no step for alpha, a batch that the engine cannot
            cut, or values that are not finite.
    """
    weights, activations = weight_algorithms(weight_quantizers), activation_algorithms(activation_quantizers)
    check(search, weights, activations, schedule, distillation, training_batches)
    check_start(start)
    batches = listed(calibration_batches)
    prepared = prepare(model, symmetric(protocol_of(protocol)), Bits.parse(bits), batches)
    calibration = calibrate(prepared, batches, report)
    begun = find_start(prepared, calibration, batches, start, seed, None, report)
    return train_prepared(
        prepared,
        calibration,
        begun.strategy,
        training_batches,
        loss,
        schedule,
        seed,
        weights,
        activations,
        rates,
        distillation,
        report,
        engine,
        snapshots,
    )


def train_prepared(
    prepared: Prepared,
    calibration: Calibration,
    start: Strategy,
    training_batches: TrainingBatches,
    loss: TrainingLoss,
    schedule: Schedule,
    seed: int,
    weights: Mapping[str, Learned],
    activations: Mapping[str, Learned],
    rates: Rates,
    distillation: float,
    report: Report,
    engine: Engine | None = None,
    snapshots: Snapshots | None = None,
) -> QatResult:
    """Train from what calibration saw, which several trainings may share; arguments are as for `train_qat`.

    Args:
        prepared: with a protocol whose weights are symmetric; it is not changed.
        calibration: of it.
        start: a post-training strategy, by whose ranges each layer's quantizers begin.
        weights: name -> candidate for weights.
        activations: name -> candidate for activations.
    """
    supernet = supernet_of(prepared, calibration, start, weights, activations)
    towards = output_loss(None, calibration.targets[0])

    def step_loss(model: nn.Module, inputs: Batch, targets: Tensor) -> Tensor:
        output = call(model, inputs)
        value = scalar(loss(output, targets))
        if distillation == 0:
            return value
        with torch.no_grad():
            exact = call(prepared.model, inputs)
        return (1 - distillation) * value + distillation * towards(output, exact)

    engine, candidates = engine or Alone(), (tuple(weights), tuple(activations))
    facts = {
        "schedule": schedule,
        "rates": rates,
        "seed": seed,
        "distillation": distillation,
        "weights": dict(weights),
        "activations": dict(activations),
        "specs": prepared.specs,
        "start": start,
        "engine": engine.name,
    }
    fingerprint = fingerprint_of(facts, prepared.model.state_dict()) if snapshots is not None else ""
    examples, generator = first(schedule.steps, training_batches), Generator().manual_seed(seed)
    trained = train(supernet, examples, step_loss, schedule, rates, generator, report, engine, snapshots, fingerprint)
    strategy = strategy_of(prepared, candidates, trained.picks)
    return QatResult(settled(supernet), strategy, report_of(prepared, candidates, start, trained))


def check(
    search: str,
    weights: Mapping[str, Learned],
    activations: Mapping[str, Learned],
    schedule: Schedule,
    distillation: float,
    training_batches: object,
) -> None:
    """Raise ValueError where arguments of `train_qat` cannot be, alone or together."""
    if search not in SEARCH_NAMES:
        raise UnknownNameError(f"search: '{search}' is not allowed. {did_you_mean(search, SEARCH_NAMES)}")
    if not weights or not activations:
        raise ValueError("quantizers: empty. Name at least one for weights and one for activations.")
    several = len(weights) > 1 or len(activations) > 1
    if search == "uniform" and several:
        raise ValueError(
            f"search: 'uniform' is not allowed with {len(weights)} weight quantizers and {len(activations)} activation "
            "quantizers. Name one of each, or search by 'dqss'."
        )
    if several and schedule.begin == schedule.end:
        raise ValueError(
            f"steps: {schedule.steps} is not allowed, since search ({schedule.search}) of them is no whole step. "
            "Give more steps, or more of them to the search."
        )
    if not 0 <= distillation <= 1:
        raise ValueError(f"distillation: {distillation} is not allowed. Give a number between 0 and 1.")
    if not callable(training_batches):
        raise ValueError(
            f"training_batches: a {type(training_batches).__name__} is not allowed. Give a function from the epoch to "
            "its batches, for example `lambda epoch: loader`."
        )


def symmetric(protocol: Protocol) -> Protocol:
    """Return the protocol; raise ValueError where its weights are affine, which no learned quantizer is made for."""
    if not protocol.weight.symmetric:
        raise ValueError("protocol: affine weights are not allowed in training. Give one whose weights are symmetric.")
    return protocol


def scalar(loss: object) -> Tensor:
    """Return the loss; raise ValueError where it is not one number."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(f"loss: its value is {found}. Give a function that returns a scalar tensor.")
    return loss.reshape(())


def strategy_of(prepared: Prepared, candidates: tuple[tuple[str, ...], tuple[str, ...]], picks: Picks) -> Strategy:
    """Return the strategy that the candidates' positions stand for."""
    weights, activations = candidates
    choices = {
        name: Choice(weights[weight], activations[activation], prepared.specs[name].bits)
        for name, (weight, activation) in zip(prepared.layers, picks, strict=True)
    }
    return Strategy(choices, prepared.bits, prepared.protocol)


def report_of(
    prepared: Prepared, candidates: tuple[tuple[str, ...], tuple[str, ...]], start: Strategy, trained: Trained
) -> QatReport:
    """Return the report."""
    alpha = {
        name: (weight.tolist(), activation.tolist())
        for name, weight, activation in zip(prepared.layers, *trained.alpha, strict=True)
    }
    return QatReport(
        curves={"loss": trained.losses, "entropy": trained.entropies},
        alpha=None if max(map(len, candidates)) == 1 else alpha,
        candidates=candidates,
        steps=len(trained.losses),
        start=start,
        seconds=trained.seconds,
        notes=prepared.notes + trained.notes,
    )
