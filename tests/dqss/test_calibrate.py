import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dqss.calibrate import BINS, LARGEST, TensorSummary, calibrate
from dqss.functional import fake_quantize, qparams_from_range
from dqss.graph import prepare
from dqss.search.base import no_report
from dqss.spec import PROTOCOLS, Bits, Protocol, QuantSpec, Scheme

PROPERTY = settings(deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

values = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)


def prepared_of(model, protocol=PROTOCOLS["all-layers"]):
    return prepare(model, protocol, Bits(4, 4))


@PROPERTY
@given(st.lists(st.lists(values, max_size=12), min_size=1, max_size=5))
def test_counts_are_exact_however_the_values_are_split_in_batches(split):
    summary = TensorSummary()
    for batch in split:
        summary.update(torch.tensor(batch))
    seen = np.array([x for batch in split for x in batch])
    if len(seen) == 0:
        assert summary.counts.shape == (0, BINS)
        return
    assert summary.low.item() == seen.min()
    assert summary.high.item() == seen.max()
    limit = summary.limit.item()
    assert abs(seen).max() <= limit <= 2 * abs(seen).max()
    below = np.concatenate([[0], summary.counts[0].cumsum(0).numpy()])
    edges = np.linspace(-limit, limit, BINS + 1)
    # A value on an edge may be counted on either side of it.
    slack = 1e-7 * limit
    fewest = (seen[:, None] < edges - slack).sum(0)
    most = (seen[:, None] <= edges + slack).sum(0)
    assert (fewest <= below).all()
    assert (below <= most).all()


@PROPERTY
@given(st.lists(values.filter(bool), min_size=2, max_size=12))
def test_two_batches_leave_the_counts_of_one_where_the_limit_is_the_same(listed):
    largest = torch.tensor([max(listed, key=abs)])
    together, apart = TensorSummary(), TensorSummary()
    together.update(torch.cat([largest, torch.tensor(listed)]))
    apart.update(largest)
    for value in listed:
        apart.update(torch.tensor([value]))
    assert together.counts.equal(apart.counts)


def test_growth_merges_neighbouring_bins(summarise):
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    small = summarise(torch.tensor([-1.0, 1.0]), x)
    grown = summarise(torch.tensor([-1.0, 1.0]), x, torch.tensor([3.5]))
    assert grown.limit.tolist() == [4.0]
    quarters = small.counts.view(1, -1, 4).sum(2)
    expected = torch.zeros_like(grown.counts)
    expected[:, BINS // 2 - BINS // 8 : BINS // 2 + BINS // 8] = quarters
    expected[0, int((3.5 + 4) / 8 * BINS)] += 1
    assert grown.counts.equal(expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_are_summarised_as_if_each_were_alone(summarise, axis):
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1, 10, 0, 1e3])
    whole = summarise(x, x / 7, 2 * x, axis=axis)
    for channel in range(x.shape[axis]):
        part = x.select(axis, channel)
        alone = summarise(part, part / 7, 2 * part)
        assert whole.low[channel] == alone.low[0]
        assert whole.high[channel] == alone.high[0]
        assert whole.limit[channel] == alone.limit[0]
        assert whole.counts[channel].equal(alone.counts[0])


def test_a_summary_takes_as_much_memory_after_a_hundred_batches_as_after_one(summarise):
    batches = [torch.randn(3, 100, generator=torch.Generator().manual_seed(seed)) * 1.1**seed for seed in range(100)]
    few, many = summarise(batches[0], axis=0), summarise(*batches, axis=0)
    sizes = [
        {name: value.untyped_storage().nbytes() for name, value in vars(summary).items() if isinstance(value, Tensor)}
        for summary in (few, many)
    ]
    assert sizes[0] == sizes[1]
    assert sum(sizes[1].values()) < 3 * (BINS + 100) * 8
    # Nothing else grows either.
    assert {name for name, value in vars(many).items() if isinstance(value, dict | list) and value} == set()


def test_averages_follow_the_batches_extremes(summarise):
    summary = summarise(torch.tensor([[-1.0, 1.0], [0.0, 4.0]]), torch.tensor([[-3.0, 5.0], [2.0, 3.0]]), axis=0)
    assert torch.allclose(summary.average_low, torch.tensor([-1.02, 0.02]))
    assert torch.allclose(summary.average_high, torch.tensor([1.04, 3.99]))


@pytest.mark.parametrize("axis", [None, 0])
def test_moments_are_those_of_the_raw_values_to_the_bins_width(summarise, axis):
    x = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [30.0]])
    summary = summarise(x[:, :100], x[:, 100:], axis=axis)
    raw = (x if axis == 0 else x.reshape(1, -1)).double() / summary.limit.double()[:, None]
    width = 2 / BINS
    for position in (-1.0, -0.3, 0.0, 0.01, 0.5, 1.0):
        below = raw < position
        near = ((raw - position).abs() <= width).sum(1)
        count, total, square = summary.moments(torch.full((len(raw), 1), position, dtype=torch.float64))[..., 0]
        # Of the values within a bin of the position some are counted by part, each at most a bin from where it is.
        assert ((count - below.sum(1)).abs() <= near).all()
        assert ((total - (raw * below).sum(1)).abs() <= near + width * below.sum(1)).all()
        assert ((square - (raw**2 * below).sum(1)).abs() <= near + 2 * width * below.sum(1)).all()


def test_moments_of_one_bin_by_hand(summarise):
    # Three values in the bin from 0 to 1 / 2048, one in the last; a quarter of the way up the first bin.
    summary = summarise(torch.tensor([1e-4, 2e-4, 3e-4, 1.0]))
    width = 1 / 2048
    quarter = summary.moments(torch.tensor([[width / 4]], dtype=torch.float64)).flatten()
    # Spread evenly: 3 / 4 of a value, its mean an eighth of the width, its square a forty-eighth of the width's.
    assert quarter.tolist() == pytest.approx([3 / 4, 3 / 4 * width / 8, 3 / 4 * width**2 / 48])
    between = summary.moments_between(torch.tensor([[0.0, width / 4, 0.5]], dtype=torch.float64))
    assert between[0].flatten().tolist() == pytest.approx([0, 0.75, 2.25, 1])


def test_totals_by_hand_and_anew_after_another_batch(summarise):
    # In the middle of their bins, which are 1 / 2048 wide, but for the limit.
    summary = summarise(torch.tensor([1.0, 0.5 + 1 / 4096, -0.25 - 1 / 4096]))
    assert summary.totals[:, 0].tolist() == pytest.approx([3, 1.25, 1.3125], abs=1e-3)
    summary.update(torch.tensor([0.5 + 1 / 4096]))
    assert summary.totals[:, 0].tolist() == pytest.approx([4, 1.75, 1.5625], abs=1e-3)


@pytest.mark.parametrize("highest", [0, 1])
def test_lower_moments_alone_are_those_that_come_with_the_squares(summarise, highest):
    summary = summarise(torch.randn(2, 3000, generator=torch.Generator().manual_seed(0)), axis=0)
    positions = torch.linspace(-1.1, 1.1, 50, dtype=torch.float64).expand(2, 5, 50)
    assert summary.moments(positions, highest).equal(summary.moments(positions)[: highest + 1])


def test_occupied_bins_are_all_that_was_counted(summarise):
    x = torch.tensor([[0.5, -1.0, 0.5, 1.0], [0.0, 0.0, 0.0, 2.0]])
    middles, counts = summarise(x, axis=0).occupied
    assert counts.tolist() == [[1, 2, 1], [3, 1, 0]]
    assert torch.allclose(middles[0], torch.tensor([-1.0, 0.5, 1.0], dtype=torch.float64), atol=1 / BINS)
    assert torch.allclose(middles[1, :2], torch.tensor([0.0, 2.0], dtype=torch.float64), atol=2 / BINS)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 2 * LARGEST])
def test_values_that_are_not_finite_or_far_too_large_are_refused(summarise, bad):
    with pytest.raises(ValueError, match="NaN, infinity or a magnitude above"):
        summarise(torch.tensor([[1.0, bad], [0.0, 1.0]]), axis=0)


def test_a_refused_batch_leaves_the_summary_as_it_was(summarise):
    summary = summarise(torch.tensor([1.0, -2.0]))
    before = copy.deepcopy(summary)
    with pytest.raises(ValueError, match="NaN"):
        summary.update(torch.tensor([7.0, float("nan")]))
    assert summary.counts.equal(before.counts)
    assert (summary.low, summary.high, summary.limit) == (before.low, before.high, before.limit)


def test_an_empty_batch_changes_nothing(summarise):
    assert summarise(torch.zeros(0), torch.tensor([2.0]), torch.zeros(0, 3)).counts.sum() == 1


@pytest.mark.parametrize("magnitude", [1e-45, 1e-38, 1e-30, 1e30, LARGEST])
def test_every_magnitude_fills_the_whole_histogram(summarise, magnitude):
    x = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]) * magnitude
    summary = summarise(x)
    half = BINS // 2 if x[3] == 0 else 3 * BINS // 4
    assert summary.counts.sum() == 5
    assert summary.counts[0, [0, BINS // 2, half, BINS - 1]].bool().all()


def test_zeros_alone_are_counted_at_zero(summarise):
    summary = summarise(torch.zeros(3), torch.zeros(2))
    assert summary.limit.tolist() == [0]
    assert summary.counts[0, BINS // 2] == 5
    assert summary.counts.sum() == 5


def test_magnitudes_fold_the_histogram_at_zero(summarise):
    # Bins are 1 / 2048 wide.
    x = torch.tensor([-1.0, -0.25 - 1e-4, 0.25 + 1e-4, 0.0, 1.0])
    magnitudes = summarise(x).magnitudes[0]
    assert magnitudes.sum() == 5
    assert {i: magnitudes[i].item() for i in magnitudes.nonzero().flatten().tolist()} == {0: 1, 512: 2, 2047: 2}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("axis", [None, 0])
def test_squared_error_and_energy_are_those_of_the_raw_values_to_the_bins_width(summarise, symmetric, bits, axis):
    x = torch.randn(3, 500, generator=torch.Generator().manual_seed(bits)) * torch.tensor([[1.0], [20.0], [0.1]])
    summary = summarise(x[:, :50], x, axis=axis)
    qparams = qparams_from_range(0.7 * summary.low, 0.8 * summary.high, QuantSpec(bits, symmetric, axis))
    every = torch.cat([x[:, :50], x], dim=1).double()
    error = (fake_quantize(every.float(), qparams) - every).square().reshape(len(summary.low), -1)
    energy = every.square().reshape(len(summary.low), -1)
    # Each value is taken at its bin's centre, half a bin off at most.
    half_bin = summary.limit.double() / BINS
    count = error.shape[1]
    slack = count * half_bin**2 + 2 * half_bin * (count * error.sum(1)).sqrt()
    assert ((summary.squared_error(qparams) - error.sum(1)).abs() <= 2 * slack).all()
    assert torch.allclose(summary.energy, energy.sum(1), rtol=1e-2)


def test_calibration_sees_every_layer_and_the_original_models_outputs(tiny, batches):
    stages = []
    calibration = calibrate(prepared_of(tiny), batches, lambda *stage: stages.append(stage))
    tiny.eval()
    assert list(calibration.activations) == list(calibration.weights) == ["stem", "depthwise", "head"]
    assert [s.counts.sum().item() for s in calibration.activations.values()] == [10 * 50, 10 * 100, 10 * 4]
    for batch, target in zip(batches, calibration.targets, strict=True):
        assert torch.allclose(target, tiny(batch), atol=1e-5)
        assert not target.requires_grad
    assert stages == [("calibration", done, 3) for done in (1, 2, 3)]


def test_calibration_takes_what_a_layer_gets_and_its_folded_weight(tiny, batches):
    prepared = prepared_of(tiny, Protocol(weight=Scheme(symmetric=True, granularity="per-channel")))
    calibration = calibrate(prepared, batches, no_report)
    x = torch.cat(batches)
    assert calibration.activations["stem"].low.item() == x.min()
    assert calibration.activations["stem"].high.item() == x.max()
    weight = prepared.layers["stem"].weight.flatten(1)
    assert calibration.weights["stem"].low.equal(weight.amin(1))
    assert calibration.weights["stem"].high.equal(weight.amax(1))


def test_calibration_leaves_no_hook_behind_even_where_it_fails(tiny, batches):
    prepared = prepared_of(tiny)
    with pytest.raises(ValueError, match="inputs of layer 'stem': NaN"):
        calibrate(prepared, [batches[0], batches[1] / 0], no_report)
    assert not any(layer._forward_pre_hooks for layer in prepared.layers.values())


def test_calibration_refuses_weights_that_are_not_finite(tiny, batches):
    tiny.head.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="weights of layer 'head': NaN"):
        calibrate(prepared_of(tiny), batches, no_report)


def test_calibration_refuses_to_start_without_batches(tiny):
    with pytest.raises(ValueError, match=r"calibration_batches: empty\. Give at least one batch"):
        calibrate(prepared_of(tiny), [], no_report)


def test_calibration_refuses_an_empty_batch(tiny, batches):
    with pytest.raises(ValueError, match="calibration_batches: batch 2 of 2 is empty"):
        calibrate(prepared_of(tiny), [batches[0], batches[0][:0]], no_report)


def test_a_layer_called_twice_is_calibrated_on_both_inputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(self.layer(x) + 100)

    summary = calibrate(prepared_of(Twice()), [torch.zeros(3, 2)], no_report).activations["layer"]
    assert summary.counts.sum() == 12
    assert summary.low.item() == 0
    assert summary.high.item() > 99
