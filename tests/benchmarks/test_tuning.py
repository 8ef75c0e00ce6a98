from dataclasses import replace

import optuna
import pytest
import torch
from torch import nn

from benchmarks.tuning import Tpe, fingerprint
from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.ptq import pose
from dqss.quantizers import QUANTIZERS
from dqss.search.base import SearchProblem, no_report
from dqss.spec import PROTOCOLS, Bits

IMAGES = 6


@pytest.fixture
def problem() -> SearchProblem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))
        batches = [torch.randn(count, 4) for count in (4, 2)]
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits(3, 3))
    candidates = {name: QUANTIZERS.create(name) for name in ("minmax", "percentile", "mse", "kl")}
    return pose(prepared, calibrate(prepared, batches, no_report), batches, candidates, candidates, None)


def with_loss(problem, loss):
    """The problem with another loss."""
    fresh = problem.fresh(problem.seed)
    object.__setattr__(fresh, "loss", loss)
    return fresh


def test_it_keeps_the_best_of_its_trials_and_counts_them_all(problem):
    found = Tpe(trials=12).search(problem, no_report)
    assert found.calibration_loss == min(found.curves["loss"])
    assert len(found.curves["loss"]) == 12
    assert problem.cost.forward_passes == 12 * IMAGES


def test_it_learns_where_good_strategies_lie(problem):
    """Each of six coordinates adds its distance to the optimum; after 20 trials draws have moved towards it."""
    separable = with_loss(problem, lambda picks: float(sum(weight + 3 - activation for weight, activation in picks)))
    losses = Tpe(trials=80).search(separable, no_report).curves["loss"]
    # Six even draws from 0 to 3 have a mean of 9 and a deviation of 2.7.
    assert sum(losses[-20:]) / 20 < 5


def test_a_killed_search_goes_on_to_the_result_of_an_unbroken_one(problem, tmp_path):
    unbroken = problem.fresh(5)
    expected = Tpe(trials=25, storage=str(tmp_path / "one")).search(unbroken, no_report)
    calls = 0

    def failing(picks):
        nonlocal calls
        calls += 1
        if calls == 15:
            raise KeyboardInterrupt
        return problem.loss(picks)

    tpe = Tpe(trials=25, storage=str(tmp_path / "two"))
    with pytest.raises(KeyboardInterrupt):
        tpe.search(with_loss(problem.fresh(5), failing), no_report)
    resumed = problem.fresh(5)
    assert tpe.search(resumed, no_report) == expected
    assert resumed.cost == unbroken.cost
    # In memory the same is drawn, and a finished study is only read.
    assert Tpe(trials=25).search(problem.fresh(5), no_report) == expected
    assert tpe.search(with_loss(problem.fresh(5), None), no_report) == expected


def test_problems_that_differ_have_studies_of_their_own(problem):
    moved = replace(problem.calibration, targets=[target + 1 for target in problem.calibration.targets])
    fewer = {name: problem.weight_quantizers[name] for name in ("minmax", "mse")}
    others = [problem.fresh(1), replace(problem, calibration=moved), replace(problem, weight_quantizers=fewer)]
    prints = {fingerprint(posed) for posed in (problem, *others)}
    assert len(prints) == 4
    assert fingerprint(problem.fresh(problem.seed)) in prints


def test_optuna_says_nothing_and_its_verbosity_is_left_as_it_was(problem, capfd):
    before = optuna.logging.get_verbosity()
    Tpe(trials=2).search(problem, no_report)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_fewer_than_one_trial_is_refused():
    with pytest.raises(ValueError, match=r"trials: 0 is not allowed\. Give at least 1"):
        Tpe(trials=0)
