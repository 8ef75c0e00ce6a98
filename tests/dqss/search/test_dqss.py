import itertools
import math
from itertools import product

import pytest
import torch
from torch import Generator

from dqss.registry import UnknownNameError
from dqss.search.base import no_report
from dqss.search.best_uniform import pair_losses
from dqss.search.dqss import Alpha, Dqss, discretize, favouring, mean_entropy, shuffled, softmax_at
from dqss.search.relax import RELAXATIONS

PLANTED = ((0, 2), (1, 1), (2, 0))
"""The best strategy of the problem `planted`."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps: 0 is not allowed\. Give at least 1\."),
        ({"probes": 0}, r"probes: 0 is not allowed\. Give at least 1\."),
        ({"refinement": -1}, r"refinement: -1 is not allowed\. Give 0 or more\."),
        ({"favour": 0.0}, r"favour: 0\.0 is not allowed\. Give a number between 0 and 1\."),
        ({"favour": 1.0}, r"favour: 1\.0 is not allowed\. Give a number between 0 and 1\."),
        ({"learning_rate": 0.0}, r"learning_rate: 0\.0 is not allowed\. Give a number above 0\."),
        ({"learning_rate": math.nan}, r"learning_rate: nan is not allowed\."),
        ({"cold": 0.0}, r"cold: 0\.0 is not allowed\. Give a number above 0, at most warm \(1\.0\)\."),
        ({"cold": 2.0}, r"cold: 2\.0 is not allowed\. .* at most warm \(1\.0\)\."),
        ({"warm": 0.01}, r"cold: 0\.1 is not allowed\. .* at most warm \(0\.01\)\."),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        Dqss(**options)


def test_an_unknown_relaxation_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"relaxation: 'gumble' is not allowed\. Did you mean 'gumbel'\?"):
        Dqss(relaxation="gumble")


def in_epochs(order, size):
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.mark.parametrize(("batches", "steps"), [(4, 12), (4, 10), (5, 3), (1, 3), (3, 3)])
def test_every_batch_comes_once_an_epoch(batches, steps):
    order = shuffled(batches, steps, Generator().manual_seed(0))
    assert len(order) == steps
    for epoch in in_epochs(order, batches):
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= set(range(batches))


def test_each_epoch_has_an_order_of_its_own():
    order = shuffled(8, 32, Generator().manual_seed(0))
    assert len({tuple(epoch) for epoch in in_epochs(order, 8)}) == 4


def test_softmax_at_a_temperature_by_hand():
    alpha = Alpha(torch.tensor([[0.0, math.log(2)]], requires_grad=True), torch.tensor([[0.0, 0.0, 0.0]]))
    mixing = softmax_at(alpha, 0.5)
    assert mixing.weight[0].tolist() == pytest.approx([0.2, 0.8])
    assert mixing.activation[0].tolist() == pytest.approx([1 / 3] * 3)
    assert not mixing.weight.requires_grad


def test_entropy_by_hand():
    even, discrete = torch.tensor([[0.25] * 4]), torch.tensor([[0.0, 1.0]])
    assert mean_entropy(Alpha(even, discrete)) == pytest.approx(math.log(4) / 2)
    assert mean_entropy(Alpha(discrete, discrete)) == 0


def test_the_largest_logits_are_chosen():
    alpha = Alpha(torch.tensor([[0.0, 3.0, 1.0], [2.0, -1.0, 1.0]]), torch.tensor([[-1.0, -2.0], [0.0, 0.5]]))
    assert discretize(alpha) == ((1, 0), (0, 1))


def test_the_planted_strategy_alone_is_exact(planted):
    assert planted.loss(PLANTED) == 0
    for layer in range(3):
        for pair in product(range(3), repeat=2):
            picks = (*PLANTED[:layer], pair, *PLANTED[layer + 1 :])
            assert (planted.loss(picks) == 0) == (picks == PLANTED)


@pytest.mark.parametrize("relaxation", list(RELAXATIONS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_the_planted_strategy(planted, relaxation, seed):
    found = Dqss(steps=80, relaxation=relaxation, refinement=0).search(planted.fresh(seed), no_report)
    assert found.strategy == planted.strategy(PLANTED)
    assert found.calibration_loss == 0


@pytest.mark.parametrize("relaxation", list(RELAXATIONS))
def test_the_mixture_ends_near_the_strategy(planted, relaxation):
    problem = planted.fresh(0)
    found = Dqss(steps=120, relaxation=relaxation, refinement=0).search(problem, no_report)
    entropy = found.curves["entropy"]
    # One candidate of three is favoured with 0.9; one step has been made.
    assert entropy[0] == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.05), abs=0.1)
    assert entropy[-1] < 0.02
    worst = max(planted.loss(planted.uniform(w, a)) for w, a in product(range(3), repeat=2))
    assert abs(found.relaxed_loss - found.calibration_loss) < 0.01 * worst
    for name, picks in zip(problem.layers, PLANTED, strict=True):
        for weights, pick in zip(found.alpha[name], picks, strict=True):
            assert sum(weights) == pytest.approx(1, rel=1e-5)
            assert max(weights) == weights[pick] > 0.9


def test_it_writes_a_value_per_step_and_counts_its_passes(planted):
    problem = planted.fresh(0)
    found = Dqss(steps=7, refinement=0).search(problem, no_report)
    assert {name: len(curve) for name, curve in found.curves.items()} == {"loss": 7, "entropy": 7, "refined": 1}
    probing = planted.fresh(0)
    pair_losses(probing, no_report)
    assert probing.cost.forward_passes < 9 * 32
    # Nine pairs probed on four batches of eight images, seven batches there and back, then all images for the relaxed
    # loss, that of alpha's strategy, that of the pair until it is known to be worse, and for refinement to begin.
    least = probing.cost.forward_passes + 7 * 8 * 3 + 32 + 32 + 8 + 32
    assert least <= problem.cost.forward_passes <= least + 24


def test_the_only_step_is_at_the_warm_temperature(planted):
    even = Dqss(steps=1, favour=1 / 3, relaxation="softmax", warm=5.0, cold=5.0, learning_rate=0.5)
    found = even.search(planted.fresh(0), no_report)
    # Adam's first step is the learning rate, up or down, whatever the gradient: 0.5 up against 0.5 down at 5.
    for mixing in itertools.chain.from_iterable(found.alpha.values()):
        ratios = [math.log(weight / mixing[0]) for weight in mixing]
        assert all(min(abs(ratio - far) for far in (-0.2, 0, 0.2)) < 1e-3 for ratio in ratios)


def test_favoured_logits_by_hand():
    logits = favouring(1, (2, 4), 0.7)
    for row in logits.softmax(1).tolist():
        assert row == pytest.approx([0.1, 0.7, 0.1, 0.1])
    assert logits.requires_grad
    assert favouring(0, (3, 1), 0.7).tolist() == [[0], [0], [0]]


def test_a_search_that_leads_nowhere_ends_with_the_best_uniform_pair(planted):
    losses = {pair: planted.loss(planted.uniform(*pair)) for pair in product(range(3), repeat=2)}
    best = min(losses, key=losses.__getitem__)
    found = Dqss(steps=1, learning_rate=1e-9, refinement=0).search(planted.fresh(0), no_report)
    assert found.strategy == planted.strategy(planted.uniform(*best))
    assert found.calibration_loss == losses[best]
