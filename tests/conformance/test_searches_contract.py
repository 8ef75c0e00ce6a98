"""What every search keeps to, whatever its procedure."""

import dataclasses

import pytest
import torch
from torch import nn

from benchmarks.methods import METHODS
from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.inputs import call
from dqss.ptq import pose, quantize
from dqss.quantizers import QUANTIZERS
from dqss.search import DETERMINISTIC
from dqss.search.base import Found, SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits


def problem_of(weights: list[str], activations: list[str]) -> SearchProblem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)
        )
        batches = [torch.randn(count, 1, 6, 6) for count in (5, 3)]
    prepared = prepare(network, PROTOCOLS["academic"], Bits(3, 3))
    calibration = calibrate(prepared, batches, no_report)
    tables = ({name: QUANTIZERS.create(name) for name in names} for names in (weights, activations))
    return pose(prepared.at(Bits(2, 3)), calibration, batches, *tables, None)


@pytest.fixture(scope="module")
def problem() -> SearchProblem:
    return problem_of(["minmax", "percentile", "mse"], ["mse", "minmax"])


# A contract is not a benchmark: few steps will do.
OPTIONS = {"dqss": {"steps": 20}, "random": {"images": 200}, "tpe": {"trials": 15}}


class Run:
    """One run of a search, and what it left."""

    def __init__(self, name: str, problem: SearchProblem, seed: int) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.problem = problem.fresh(seed)
        self.found: Found = METHODS.create(name, OPTIONS.get(name, {})).search(
            self.problem, lambda *stage: self.stages.append(stage)
        )


@pytest.fixture(scope="module", params=list(METHODS))
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(name, problem) -> Run:
    return Run(name, problem, seed=1)


def test_the_loss_is_that_of_the_strategy_quantized_anew(run, problem):
    model = quantize(problem.prepared, problem.calibration, run.found.strategy)
    losses = [
        problem.output_loss(call(model, batch), target).item() * len(target)
        for batch, target in zip(problem.batches, problem.calibration.targets, strict=True)
    ]
    assert run.found.calibration_loss == pytest.approx(sum(losses) / 8, rel=1e-5)


def test_every_layer_has_a_choice_among_the_candidates_at_its_bits(run, problem):
    strategy = run.found.strategy
    assert list(strategy.layers) == list(problem.prepared.layers)
    for name, choice in strategy.layers.items():
        assert choice.weight in problem.weight_quantizers
        assert choice.activation in problem.activation_quantizers
        assert choice.bits == problem.prepared.specs[name].bits
    assert (strategy.bits, strategy.protocol) == (problem.prepared.bits, problem.prepared.protocol)


def test_its_cost_is_counted(run, problem):
    assert run.problem.cost.forward_passes >= 8
    assert problem.cost.forward_passes == 0


def test_it_reports_its_progress_to_the_end(run):
    done = [done for stage, done, _ in run.stages if stage == run.stages[-1][0]]
    _, last, total = run.stages[-1]
    assert last == total
    assert done == sorted(done)


def test_the_same_seed_gives_the_same_result_whatever_ran_before(name, run, problem):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        problem.loss(problem.uniform(1, 1))
        again = Run(name, problem_of(list(problem.weight_quantizers), list(problem.activation_quantizers)), seed=1)
    problem.cost.forward_passes = 0
    assert again.found == run.found
    assert again.problem.cost == run.problem.cost


def test_the_global_random_numbers_stay_as_they_were(name, problem):
    before = torch.get_rng_state()
    Run(name, problem, seed=2)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("seedless", sorted(DETERMINISTIC))
def test_a_search_that_needs_no_seed_finds_the_same_with_another(seedless, problem):
    assert Run(seedless, problem, seed=1).found == Run(seedless, problem, seed=2).found


def test_the_full_precision_model_stays_as_it_was(run, problem):
    for batch, target in zip(problem.batches, problem.calibration.targets, strict=True):
        assert call(problem.prepared.model, batch).equal(target)


def test_a_single_candidate_of_each_kind_is_chosen(name):
    found = Run(name, problem_of(["minmax"], ["percentile"]), seed=0).found
    assert {(choice.weight, choice.activation) for choice in found.strategy.layers.values()} == {
        ("minmax", "percentile")
    }


def test_what_it_tells_of_a_relaxation_is_whole(run, problem):
    found = run.found
    assert (found.relaxed_loss is None) == (found.alpha is None)
    if found.alpha is not None:
        assert list(found.alpha) == list(problem.layers)
        for weight, activation in found.alpha.values():
            assert len(weight) == len(problem.weight_quantizers)
            assert len(activation) == len(problem.activation_quantizers)
            assert sum(weight) == pytest.approx(1, rel=1e-5)
            assert sum(activation) == pytest.approx(1, rel=1e-5)


def test_options_are_the_fields_of_a_frozen_dataclass(name):
    kind = METHODS.load(name)
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert kind() == kind()
