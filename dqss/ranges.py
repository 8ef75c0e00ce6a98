"""The ranges that training begins with: those of a post-training strategy, found before the first step.

Few bits forgive no bad range: where the network of the first step answers at random, its gradients are noise, and what
training ends with is a constant answer (docs/adr/0006-training.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dqss.calibrate import Calibration
from dqss.candidates import activation_candidate, weight_candidate
from dqss.graph import Prepared
from dqss.inputs import Batch
from dqss.ptq import RANGES, pose
from dqss.registry import UnknownNameError, did_you_mean
from dqss.search import SEARCHES
from dqss.search.base import Report
from dqss.strategy import Strategy

STARTS = ("best-uniform", "dqss")
"""Searches that may find them: the same two algorithms for all layers, or those of each layer."""


@dataclass(frozen=True)
class Start:
    """What training begins with.

    Args:
        strategy: of algorithms in `dqss.ptq.RANGES`; each layer begins at the ranges of its own.
        forward_passes: images sent forward by the search; a backward pass counts as two.
    """

    strategy: Strategy
    forward_passes: int


def find_start(
    prepared: Prepared,
    calibration: Calibration,
    batches: Sequence[Batch],
    search: str,
    seed: int,
    loss: str | None,
    report: Report,
) -> Start:
    """Search among the post-training algorithms on the calibration set, without labels.

    Args:
        prepared: the model in full precision with its layers and specs.
        calibration: of it.
        batches: calibration inputs.
        search: one of STARTS.
        seed: of the search.
        loss: as of `dqss.quantize_ptq`.
        report: called as the search goes on.

    Raises:
        UnknownNameError: no such start.
    """
    check_start(search)
    weights = {name: weight_candidate(name) for name in RANGES}
    activations = {name: activation_candidate(name) for name in RANGES}
    problem = pose(prepared, calibration, batches, weights, activations, loss).fresh(seed)
    strategy = SEARCHES.create(search).search(problem, report).strategy
    return Start(strategy, problem.cost.forward_passes)


def check_start(search: str) -> None:
    """Raise UnknownNameError where training cannot begin with what a search finds."""
    if search not in STARTS:
        raise UnknownNameError(f"start: '{search}' is not allowed. {did_you_mean(search, STARTS)}")
