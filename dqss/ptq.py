"""Post-training quantization: prepare, calibrate all candidates, search, apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dqss.calibrate import Calibration, calibrate
from dqss.candidates import activation_candidate, weight_candidate
from dqss.graph import Layer, Prepared, prepare, with_layers
from dqss.inputs import Batch
from dqss.layers import CandidateLayer, QuantizedLayer
from dqss.matching import output_loss
from dqss.quantizers.base import Quantizer
from dqss.registry import UnknownNameError, did_you_mean
from dqss.search import SEARCHES
from dqss.search.base import Found, Report, Search, SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits, Protocol
from dqss.strategy import Strategy
from dqss.weights import QuantizedWeight, WeightCandidate, quantized_weight, reconstruct

RANGES = ("minmax", "percentile", "percentile-99.99", "mse", "lp", "kl", "kl-tight", "aciq-laplace")
"""The candidates of suites/classification.yaml."""


@dataclass(frozen=True)
class PtqReport:
    """What the search saw and used.

    Args:
        found: the search's own result: losses, alpha, curves.
        forward_passes: images sent forward by the search; a backward pass counts as two.
        notes: what could not be done for this model, and what stays in full precision; in whole sentences.
    """

    found: Found
    forward_passes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PtqResult:
    """A quantized model, the strategy that made it and the report of the search."""

    model: nn.Module
    strategy: Strategy
    report: PtqReport


def quantize_ptq(
    model: nn.Module,
    calibration_batches: Iterable[Batch],
    bits: str = "W4A4",
    search: str | Search = "dqss",
    seed: int = 0,
    protocol: str | Protocol = "all-layers",
    weight_quantizers: Sequence[str] = RANGES,
    activation_quantizers: Sequence[str] = RANGES,
    loss: str | None = None,
    report: Report = no_report,
) -> PtqResult:
    """Find a strategy for a model on unlabelled calibration data and return the model quantized by it.

    Args:
        model: any module; it is not changed. Where torch.fx cannot trace it, batch normalisation is not folded, and the
            report's notes say so.
        calibration_batches: model inputs without labels, on the model's device; per batch a tensor, a sequence of the
            positional inputs, or a mapping of the inputs by name. They are read once and kept.
        bits: for example "W4A8".
        search: a name in `dqss.search.SEARCHES`, or a Search with options of its own; `uniform` takes the first weight
            quantizer and the best activation quantizer with it.
        seed: of the search; the same inputs with the same seed give the same result.
        protocol: a name of PROTOCOLS, or a Protocol.
        weight_quantizers: names of `dqss-bench list quantizers`, the candidates for weights; each also with `+bias`.
        activation_quantizers: the candidates for activations; those that are not for weights alone.
        loss: `mse` or `kl` between the quantized and the full-precision outputs; None: `kl` where they are class
            scores, (B, K), else `mse`.
        report: called with (stage, done, total) as work goes on.

    Raises:
        UnknownNameError: no such search, protocol, quantizer or loss.
        ValueError: bad bits, no batches or some that the model does not take, no layer, or values that are not finite.
    """
    batches = listed(calibration_batches)
    weights = {name: weight_candidate(name) for name in weight_quantizers}
    activations = {name: activation_candidate(name) for name in activation_quantizers}
    searcher = SEARCHES.create(search) if isinstance(search, str) else search
    prepared = prepare(model, protocol_of(protocol), Bits.parse(bits), batches)
    calibration = calibrate(prepared, batches, report)
    reconstruct(weights.values(), prepared, calibration, report)
    problem = pose(prepared, calibration, batches, weights, activations, loss)
    problem = problem.fresh(seed)
    found = searcher.search(problem, report)
    quantized = quantize(prepared, calibration, found.strategy)
    return PtqResult(quantized, found.strategy, PtqReport(found, problem.cost.forward_passes, prepared.notes))


def apply_strategy(model: nn.Module, strategy: Strategy, calibration_batches: Iterable[Batch]) -> nn.Module:
    """Return the model quantized by a strategy; on the batches it was found with, exactly the search's result.

    Raises:
        ValueError: the strategy's layers are not the model's, or as for `quantize_ptq`.
    """
    batches = listed(calibration_batches)
    prepared = prepare(model, strategy.protocol, strategy.bits, batches)
    calibration = calibrate(prepared, batches, no_report)
    return quantize(prepared, calibration, strategy)


def listed(batches: Iterable[Batch]) -> list[Batch]:
    """Return the batches as a list.

    Raises:
        ValueError: one tensor, which would be taken apart into single images.
    """
    if isinstance(batches, Tensor):
        raise ValueError(
            "calibration_batches: one tensor is not allowed. Give a list of batches, for example x.split(64)."
        )
    return list(batches)


def pose(
    prepared: Prepared,
    calibration: Calibration,
    batches: Sequence[Batch],
    weight_quantizers: Mapping[str, WeightCandidate],
    activation_quantizers: Mapping[str, Quantizer],
    loss: str | None,
) -> SearchProblem:
    """Return the search problem of a calibrated model; it may serve many searches through `SearchProblem.fresh`.

    Args:
        loss: as for `quantize_ptq`.

    Raises:
        UnknownNameError: no such loss.
        ValueError: no quantizers.
    """
    if not weight_quantizers or not activation_quantizers:
        raise ValueError("quantizers: empty. Name at least one for weights and one for activations.")

    def candidates(name: str, layer: Layer) -> CandidateLayer:
        made = [quantized_weight(candidate, name, prepared, calibration) for candidate in weight_quantizers.values()]
        summary, spec = calibration.activations[name], prepared.specs[name].activation
        activations = [q.qparams(summary, spec) for q in activation_quantizers.values()]
        return CandidateLayer(layer, torch.stack([q.weight for q in made]), activations, _biases(layer, made))

    supernet = with_layers(prepared, candidates)
    layers = {name: supernet.get_submodule(name) for name in prepared.layers}
    return SearchProblem(
        prepared=prepared,
        calibration=calibration,
        batches=batches,
        weight_quantizers=weight_quantizers,
        activation_quantizers=activation_quantizers,
        model=supernet,
        layers={name: layer for name, layer in layers.items() if isinstance(layer, CandidateLayer)},
        output_loss=output_loss(loss, calibration.targets[0]),
    )


def quantize(prepared: Prepared, calibration: Calibration, strategy: Strategy) -> nn.Module:
    """Return the prepared model with each layer quantized as the strategy says.

    Raises:
        ValueError: the strategy's layers, bits or protocol are not those of `prepared`.
    """
    if (strategy.bits, strategy.protocol) != (prepared.bits, prepared.protocol):
        raise ValueError(
            f"strategy: it is for {strategy.bits} under {strategy.protocol}, the model is prepared for {prepared.bits} "
            f"under {prepared.protocol}. Prepare the model as the strategy says."
        )
    if set(strategy.layers) != set(prepared.layers):
        odd = sorted(set(strategy.layers) ^ set(prepared.layers))
        raise ValueError(
            f"strategy: its layers are not the model's (differing: {', '.join(odd)}). Search on this model."
        )

    def quantized(name: str, layer: Layer) -> QuantizedLayer:
        choice = strategy.layers[name]
        made = quantized_weight(weight_candidate(choice.weight), name, prepared, calibration)
        grid = activation_candidate(choice.activation).qparams(
            calibration.activations[name], prepared.specs[name].activation
        )
        return QuantizedLayer(layer, made.weight, grid, made.bias)

    return with_layers(prepared, quantized)


def _biases(layer: Layer, made: Sequence[QuantizedWeight]) -> Tensor | None:
    """Return (M, C_out), the bias of each candidate; None where none has one of its own."""
    changed = next((quantized.bias for quantized in made if quantized.bias is not None), None)
    if changed is None:
        return None
    own = torch.zeros_like(changed) if layer.bias is None else layer.bias.detach()
    return torch.stack([own if quantized.bias is None else quantized.bias for quantized in made])


def protocol_of(protocol: str | Protocol) -> Protocol:
    """Return the protocol of that name, or the one given.

    Raises:
        UnknownNameError: no such protocol.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownNameError(f"no protocol '{protocol}'. {did_you_mean(protocol, PROTOCOLS)}")
    return PROTOCOLS[protocol]
