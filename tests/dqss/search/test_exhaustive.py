from itertools import product

import pytest
import torch
from torch import Tensor, nn

from dqss.calibrate import calibrate
from dqss.graph import prepare
from dqss.ptq import pose
from dqss.quantizers import QUANTIZERS
from dqss.search import exhaustive
from dqss.search.base import SearchProblem, no_report
from dqss.search.exhaustive import Exhaustive, batch_losses, picks_at
from dqss.spec import PROTOCOLS, Bits


def by_force(problem: SearchProblem) -> list[float]:
    pairs = list(product(range(len(problem.weight_quantizers)), range(len(problem.activation_quantizers))))
    return [problem.loss(picks) for picks in product(pairs, repeat=len(problem.layers))]


def problem_of(network: nn.Module, batches: list, loss: str | None = None) -> SearchProblem:
    prepared = prepare(network, PROTOCOLS["all-layers"], Bits(3, 3))
    tables = ({name: QUANTIZERS.create(name) for name in names} for names in (("minmax", "mse"), ("mse", "minmax")))
    return pose(prepared, calibrate(prepared, batches, no_report), batches, *tables, loss)


class Knotted(nn.Module):
    """What a walk must mind: a layer used twice, a shortcut over it, a size read early and used late, a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 3, 3, padding=1)
        self.again = nn.Conv1d(3, 3, 1)
        self.offset = nn.Parameter(torch.randn(3, 1))
        self.last = nn.Linear(12, 2)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        count = x.size(0)
        offset = self.offset
        x = torch.relu(self.first(x + y))
        z = torch.relu(self.again(x))
        z = self.again(z + offset) + x
        return self.last(z.view(count, -1)), z


def all_losses(problem: SearchProblem) -> list[float]:
    """The walk's losses over all batches."""
    shares = torch.tensor([len(target) for target in problem.calibration.targets]).double()
    return (shares @ batch_losses(problem, no_report) / shares.sum()).tolist()


# As much stacking as fits, a middling amount, none.
@pytest.mark.parametrize("stacked", [2**22, 2**8, 1])
def test_every_loss_is_that_of_running_the_strategy(problem, stacked, monkeypatch):
    monkeypatch.setattr(exhaustive, "STACKED_ELEMENTS", stacked)
    told = all_losses(problem)
    expected = by_force(problem)
    # Some candidates agree on so small a network.
    assert len(set(expected)) > 80
    assert told == pytest.approx(expected, rel=1e-4)
    assert [problem.loss(picks_at(index, problem)) for index in (0, 77, 215)] == [expected[i] for i in (0, 77, 215)]


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_a_knotted_network_is_walked_right(loss):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        problem = problem_of(Knotted(), [[torch.randn(n, 2, 4), torch.randn(n, 2, 4)] for n in (3, 2)], loss)
    expected = by_force(problem)
    assert len(set(expected)) > 32
    assert all_losses(problem) == pytest.approx(expected, rel=1e-4)


def test_it_finds_the_optimum_and_counts_a_pass_for_each_strategy(problem):
    found = Exhaustive().search(problem.fresh(0), no_report)
    expected = by_force(problem)
    assert found.calibration_loss == min(expected)
    assert found.strategy == problem.strategy(picks_at(expected.index(min(expected)), problem))
    counted = problem.fresh(0)
    Exhaustive().search(counted, no_report)
    assert counted.cost.forward_passes == (6**3 + 1) * 10


def test_a_change_in_place_of_what_strategies_share_is_refused(monkeypatch):
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(x)
            x.add_(self.one(x))
            return self.two(x)

    problem = problem_of(InPlace(), [torch.randn(4, 3, generator=torch.Generator().manual_seed(0))])
    # Stacked, each has values of its own.
    assert all_losses(problem) == pytest.approx(by_force(problem), rel=1e-4)
    monkeypatch.setattr(exhaustive, "STACKED_ELEMENTS", 1)
    with pytest.raises(ValueError, match=r"the value 'tanh' is changed in place.*ReLU\(inplace=False\)"):
        batch_losses(problem, no_report)


def test_a_space_above_the_limit_is_refused(problem):
    with pytest.raises(ValueError, match=r"limit: the space has 216 strategies, and 215 are allowed"):
        Exhaustive(limit=215).search(problem, no_report)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match=r"limit: 0 is not allowed\. Give at least 1"):
        Exhaustive(limit=0)
