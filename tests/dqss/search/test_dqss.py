import itertools
import math
from itertools import product

import pytest
import torch
from torch import Generator

from dqss.registry import UnknownNameError
from dqss.search.base import no_report
from dqss.search.dqss import Alpha, Dqss, discretize, mean_entropy, shuffled, softmax_at
from dqss.search.race import race
from dqss.search.relax import RELAXATIONS

PLANTED = ((0, 2), (1, 1), (2, 0))
"""The best strategy of the problem `planted`."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps: 0 is not allowed\. Give at least 1\."),
        ({"probes": 0}, r"probes: 0 is not allowed\. Give at least 1\."),
        ({"refinement": -1}, r"refinement: -1 is not allowed\. Give 0 or more\."),
        ({"blend": -0.1}, r"blend: -0\.1 is not allowed\. Give a number between 0 and 1\."),
        ({"blend": 1.1}, r"blend: 1\.1 is not allowed\. Give a number between 0 and 1\."),
        ({"blend": math.nan}, r"blend: nan is not allowed\."),
        ({"ramp": 0.0}, r"ramp: 0\.0 is not allowed\. Give a number above 0, at most 1\."),
        ({"ramp": 1.5}, r"ramp: 1\.5 is not allowed\."),
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


def picks_of(problem, strategy):
    """Return the positions of a strategy's candidates."""
    weights, activations = list(problem.weight_quantizers), list(problem.activation_quantizers)
    return tuple((weights.index(c.weight), activations.index(c.activation)) for c in strategy.layers.values())


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
    # From even odds one step has been made.
    assert entropy[0] == pytest.approx(math.log(3), abs=0.1)
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
    discretized = planted.fresh(0)
    uniform = [planted.uniform(*pair) for pair in product(range(3), repeat=2)]
    race(discretized.part(2), [picks_of(planted, found.strategy), *uniform], no_report)
    # Seven batches of eight images there and back; then all 32 for the relaxed loss, for that of alpha's strategy and
    # for refinement to begin, and for the winner of the race as far as it goes.
    least = 7 * 8 * 3 + 3 * 32 + discretized.cost.forward_passes
    assert least < problem.cost.forward_passes <= least + 32


def test_the_only_step_is_at_the_warm_temperature(planted):
    even = Dqss(steps=1, relaxation="softmax", warm=5.0, cold=5.0, learning_rate=0.5)
    found = even.search(planted.fresh(0), no_report)
    # Adam's first step is the learning rate, up or down, whatever the gradient: 0.5 up against 0.5 down at 5.
    for mixing in itertools.chain.from_iterable(found.alpha.values()):
        ratios = [math.log(weight / mixing[0]) for weight in mixing]
        assert all(min(abs(ratio - far) for far in (-0.2, 0, 0.2)) < 1e-3 for ratio in ratios)


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.2), (0.2, 0.6), (0.4, 1), (1, 1)])
def test_the_blend_grows_to_one_within_the_ramp(progress, expected):
    assert Dqss(blend=0.2, ramp=0.4).blend_at(progress) == pytest.approx(expected)


def test_a_first_step_without_candidates_has_no_loss_and_moves_nothing(planted):
    found = Dqss(steps=1, blend=0.0, refinement=0).search(planted.fresh(0), no_report)
    assert found.curves["loss"] == [0]
    assert all(max(mixing) == min(mixing) for mixing in itertools.chain.from_iterable(found.alpha.values()))


def test_a_search_that_leads_nowhere_ends_with_the_best_uniform_pair(planted):
    losses = {pair: planted.loss(planted.uniform(*pair)) for pair in product(range(3), repeat=2)}
    best = min(losses, key=losses.__getitem__)
    found = Dqss(steps=1, blend=0.0, refinement=0).search(planted.fresh(0), no_report)
    # Without candidates in its only step alpha stays at even odds, whose argmax is the first candidate everywhere.
    assert found.discretized_loss == losses[0, 0] > losses[best]
    assert found.strategy == planted.strategy(planted.uniform(*best))
    assert found.calibration_loss == losses[best]


def test_a_step_whose_loss_is_not_a_number_leaves_alpha_as_it_is(planted):
    problem = planted.fresh(0)
    losses = iter([1.0, math.nan, *[1.0] * 1000])
    whole = problem.output_loss
    object.__setattr__(problem, "output_loss", lambda output, target: next(losses) * whole(output, target))
    found = Dqss(steps=20, refinement=0).search(problem, no_report)
    assert math.isnan(found.curves["loss"][1])
    assert all(map(math.isfinite, itertools.chain.from_iterable(itertools.chain.from_iterable(found.alpha.values()))))
