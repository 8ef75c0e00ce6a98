from itertools import product

import pytest
import torch
from torch import Generator

from dqss.search.base import no_report
from dqss.search.refine import Swap, batch_losses, mean_of, promising, refine, slopes_at

PLANTED = ((0, 2), (1, 1), (2, 0))
"""The best strategy of the problem `planted`."""


def test_it_never_ends_above_its_start_and_says_the_loss_it_ends_with(problem):
    for seed, start in enumerate(product(product(range(3), range(2)), repeat=3)):
        if seed % 20 == 0:
            refined = refine(problem, start, 500, Generator().manual_seed(seed), no_report)
            assert refined.losses[0] == pytest.approx(problem.loss(start), rel=1e-6)
            assert refined.losses == sorted(refined.losses, reverse=True)
            assert refined.losses[-1] == pytest.approx(problem.loss(refined.picks), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_it_mends_one_wrong_choice(planted, seed):
    for layer, kind, candidate in product(range(3), range(2), range(3)):
        start = Swap(layer, kind, candidate).applied_to(PLANTED)
        refined = refine(planted, start, 5000, Generator().manual_seed(seed), no_report)
        assert refined.losses[-1] <= refined.losses[0]
        if refined.tried:
            assert refined.picks == PLANTED


def test_where_no_swap_is_better_none_is_kept(planted):
    refined = refine(planted, PLANTED, 5000, Generator().manual_seed(0), no_report)
    assert (refined.picks, refined.losses) == (PLANTED, [0.0])


def test_its_budget_ends_it_after_the_swap_under_way(problem):
    start = problem.uniform(1, 1)
    for passes in (0, 1, 40, 90):
        fresh = problem.fresh(0)
        refined = refine(fresh, start, passes, Generator().manual_seed(0), no_report)
        # Ten images to begin with, thirty for a round of predictions, ten at most for the swap under way.
        assert fresh.cost.forward_passes <= max(10, passes + 30 + 10)
        assert refined.tried <= passes
    assert refine(problem.fresh(0), start, 0, Generator().manual_seed(0), no_report).picks == start


def test_what_it_spends_is_told_to_the_end(problem):
    told = []
    refine(problem, problem.uniform(1, 1), 60, Generator().manual_seed(0), lambda *stage: told.append(stage))
    assert {(stage, total) for stage, _, total in told} == {("refinement", 60)}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1] == 60


def test_the_same_draws_give_the_same_end(problem):
    ends = [refine(problem.fresh(0), problem.uniform(0, 1), 300, Generator().manual_seed(5), no_report) for _ in "ab"]
    assert ends[0] == ends[1]


def test_slopes_are_those_of_the_loss_along_each_mixing_weight(problem):
    """By central differences in the last layer, where the loss is smooth in them."""
    picks = ((2, 0), (0, 1), (1, 1))
    slopes = slopes_at(problem, picks, [0, 2])
    assert slopes[0].shape == (3, 3)
    assert slopes[1].shape == (3, 2)

    def loss(weights: torch.Tensor) -> float:
        problem.choose(picks)
        problem.layers["head"].mix(weights, torch.tensor([0.0, 1.0]))
        with torch.no_grad():
            return (problem.batch_loss(0).item() + problem.batch_loss(2).item()) / 2

    step = 1e-3
    for candidate in range(3):
        nudge = step * torch.eye(3)[candidate]
        chosen = torch.tensor([0.0, 1.0, 0.0])
        slope = (loss(chosen + nudge) - loss(chosen - nudge)) / (2 * step)
        assert slopes[0][2, candidate].item() == pytest.approx(slope, rel=2e-2, abs=1e-3)


def test_promising_swaps_come_by_their_predicted_change(problem):
    picks = problem.uniform(1, 0)
    slopes = slopes_at(problem, picks, [0, 1])
    swaps = promising(problem, picks, [0, 1])
    changes = [(slopes[s.kind][s.layer, s.candidate] - slopes[s.kind][s.layer, (1, 0)[s.kind]]).item() for s in swaps]
    assert changes == sorted(changes)
    assert all(change < 0 for change in changes)


def test_a_swap_changes_one_candidate_of_one_layer():
    picks = ((0, 0), (1, 2), (2, 1))
    assert Swap(1, 0, 3).applied_to(picks) == ((0, 0), (3, 2), (2, 1))
    assert Swap(2, 1, 0).applied_to(picks) == ((0, 0), (1, 2), (2, 0))


def test_means_over_batches_weigh_images_alike(problem):
    # Batches of four, four and two images.
    picks = problem.uniform(0, 0)
    losses = batch_losses(problem, picks, range(3))
    assert mean_of(problem, losses) == pytest.approx((4 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 10)
    assert mean_of(problem, {0: 2.0, 2: 9.0}) == pytest.approx((8 + 18) / 6)
