"""How far each search ends from the optimum, on a table of all strategies' losses.

A search gets the table's own problem. Where it asks for a strategy's loss it is looked up, batch by batch, so that it
sees and pays what it would have by running the network; only gradients are computed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean
from typing import Any

import numpy

from benchmarks.loss_table import AGAIN, LossTable, LossTableError, posed
from benchmarks.methods import METHODS
from dqss.quantizers import QUANTIZERS
from dqss.search import DETERMINISTIC
from dqss.search.base import Picks, SearchProblem, no_report
from dqss.search.exhaustive import picks_at, position_of
from dqss.strategy import Strategy

# `uniform` is no search, and `exhaustive` is what the table has done.
SCORED = [name for name in METHODS if name not in {"uniform", "exhaustive"}]

# Between this machine's arithmetic and that which made the table: a value may round to the neighbouring level.
TOLERANCE = 0.01


@dataclass(frozen=True)
class TabledProblem(SearchProblem):
    """A search problem whose discrete losses are looked up; the cost is counted as if they had been run.

    Args:
        losses: (batches, S), as in a LossTable.
    """

    losses: numpy.ndarray[Any, numpy.dtype[numpy.float32]] = field(kw_only=True)

    def strategy_loss(self, picks: Picks, position: int) -> float:
        self.cost.forward_passes += len(self.calibration.targets[position])
        return float(self.losses[position, position_of(picks, self)])


@dataclass(frozen=True)
class Score:
    """One search's results, one for each seed.

    Args:
        losses: of the strategies found, over all images.
        regrets: loss / optimum - 1.
        better: the share of all strategies that have a lower loss.
        images: forwarded; a backward pass counts as two.
    """

    search: str
    seeds: tuple[int, ...]
    losses: tuple[float, ...]
    regrets: tuple[float, ...]
    better: tuple[float, ...]
    images: tuple[int, ...]


def tabled_problem(table: LossTable) -> TabledProblem:
    """Return the table's problem.

    Raises:
        LossTableError: checkpoint or quantizers are not those that the table was made with.
    """
    facts = table.facts
    for name, version in {**facts.weight, **facts.activation}.items():
        if name not in QUANTIZERS or QUANTIZERS.entry(name).version != version:
            raise LossTableError(f"the table is of version {version} of '{name}', which is not this program's. {AGAIN}")
    problem, checkpoint = posed(
        facts.task,
        facts.model,
        facts.bits,
        facts.protocol,
        list(facts.weight),
        list(facts.activation),
        facts.images,
        facts.batch,
    )
    if checkpoint != facts.checkpoint:
        raise LossTableError(f"the table is of another checkpoint of {facts.model}. {AGAIN}")
    made = TabledProblem(**{each.name: getattr(problem, each.name) for each in fields(problem)}, losses=table.losses)
    best = picks_at(facts.best, made)
    told, run = made.loss(best), problem.loss(best)
    if not math.isclose(told, run, rel_tol=TOLERANCE):
        raise LossTableError(f"the table's best strategy has a loss of {run:.6f} here, not {told:.6f}. {AGAIN}")
    return made


def score(search: str, table: LossTable, problem: TabledProblem, seeds: Sequence[int]) -> Score:
    """Run a search with its defaults for each seed, one of them where no seed changes its result."""
    whole = table.whole
    seeds = seeds[:1] if search in DETERMINISTIC else seeds
    losses, images = [], []
    for seed in seeds:
        fresh = problem.fresh(seed)
        found = METHODS.create(search).search(fresh, no_report)
        losses.append(float(whole[position_of(picks_in(found.strategy, problem), problem)]))
        images.append(fresh.cost.forward_passes)
    return Score(
        search,
        tuple(seeds),
        tuple(losses),
        tuple(loss / float(whole.min()) - 1 for loss in losses),
        tuple(float((whole < loss).mean()) for loss in losses),
        tuple(images),
    )


def picks_in(strategy: Strategy, problem: SearchProblem) -> Picks:
    """Return the candidates' positions that a strategy stands for."""
    weights, activations = list(problem.weight_quantizers), list(problem.activation_quantizers)
    choices = [strategy.layers[name] for name in problem.layers]
    return tuple((weights.index(choice.weight), activations.index(choice.activation)) for choice in choices)


def described(table: LossTable) -> str:
    """Return the table in a sentence or two."""
    facts = table.facts
    return (
        f"{facts.model} on {facts.task} at {facts.bits}, {facts.protocol}: all {table.losses.shape[1]:,} strategies of "
        f"{', '.join(facts.weight)} for weights and {', '.join(facts.activation)} for activations, on {facts.images} "
        f"calibration images. Least loss {facts.best_loss:.5f}."
    )


def rows(scores: Sequence[Score]) -> list[list[str]]:
    """Return the scores as texts: means over seeds, with the worst seed's regret beside its mean."""
    return [
        [
            each.search,
            str(len(each.seeds)),
            f"{fmean(each.losses):.5f}",
            f"{100 * fmean(each.regrets):.2f}",
            f"{100 * max(each.regrets):.2f}",
            f"{100 * fmean(each.better):.4f}",
            f"{fmean(each.images):,.0f}",
        ]
        for each in scores
    ]


COLUMNS = ("search", "seeds>", "loss>", "regret %>", "worst %>", "better %>", "images>")


def to_json(table: LossTable, scores: Sequence[Score]) -> str:
    """Return the facts of the table and the scores of every seed as JSON."""
    return json.dumps({"table": table.facts.model_dump(), "scores": [asdict(each) for each in scores]}, indent=1)
