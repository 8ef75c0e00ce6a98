import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.tasks.base import Split, generator_of
from benchmarks.tasks.classification import CROP_MARGIN, EVALUATION_BATCH, Classification, augment


class Made(Classification):
    """Images of one pixel, whose value is their id, and their labels."""

    name = "made"
    version = 1
    in_channels = 1
    classes = 4
    mean = 0.25
    std = 0.5

    def __init__(self, labels: list[int]) -> None:
        self.labels = labels

    def check(self, split: Split) -> None:
        pass

    def ids(self, split: Split) -> list[int]:
        return list(range(len(self.labels)))

    def data(self, split: Split) -> tuple[Tensor, Tensor]:
        return torch.arange(len(self.labels), dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(self.labels)

    def training_data(self) -> dict[str, Any]:
        return {}


class Answers(nn.Module):
    """Answers image i with answers[i], and notes how many images came at once."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.answers = torch.tensor(answers)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        ids = ((x * 0.5 + 0.25) * 255).round().long().flatten()
        return nn.functional.one_hot(self.answers[ids], 4).float()


def shifted(image: list[list[int]], flip: bool, down: int, right: int) -> list[list[int]]:
    """Return the image, flipped left to right if asked, then cropped from `down`, `right` of it, zeros outside."""
    rows = [row[::-1] for row in image] if flip else image
    height, width = len(rows), len(rows[0])

    def pixel(y: int, x: int) -> int:
        return rows[y][x] if 0 <= y < height and 0 <= x < width else 0

    return [[pixel(y + down, x + right) for x in range(width)] for y in range(height)]


def test_augment_only_flips_and_shifts_each_image_and_every_way_occurs():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (600, 2, 6, 5), generator=generator, dtype=torch.uint8)
    before = images.clone()
    augmented = augment(images, generator)
    assert torch.equal(images, before)
    assert (augmented.dtype, augmented.shape) == (images.dtype, images.shape)
    shifts = range(-CROP_MARGIN, CROP_MARGIN + 1)
    ways = [(flip, down, right) for flip in (False, True) for down in shifts for right in shifts]
    seen: Counter[tuple[bool, int, int]] = Counter()
    for image, result in zip(images.tolist(), augmented.tolist(), strict=True):
        fitting = [way for way in ways if [shifted(channel, *way) for channel in image] == result]
        assert len(fitting) == 1
        seen[fitting[0]] += 1
    assert set(seen) == set(ways)
    # 600 fair coins: a number of flips outside 240..360 has a probability below one in a million.
    assert 240 < sum(count for (flip, _, _), count in seen.items() if flip) < 360


def test_augment_is_the_same_for_the_same_seed():
    images = torch.arange(200, dtype=torch.uint8).view(2, 1, 10, 10)
    first, second = (augment(images, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("count", [1, 18, EVALUATION_BATCH, EVALUATION_BATCH + 3])
def test_evaluate_counts_the_right_answers_and_keeps_each(count):
    labels = [i % 4 for i in range(count)]
    answers = [label if i % 3 else (label + 1) % 4 for i, label in enumerate(labels)]
    model = Answers(answers)
    calls: list[tuple[str, int, int]] = []
    scores = Made(labels).evaluate(model, Split.TEST, lambda *call: calls.append(call))
    right = [answer == label for answer, label in zip(answers, labels, strict=True)]
    assert scores.outcomes.tolist() == right
    assert scores.primary == 100 * sum(right) / count
    assert sum(model.batches) == count
    assert max(model.batches) <= EVALUATION_BATCH
    assert calls[-1] == ("evaluation", count, count)


def test_evaluate_records_no_gradients():
    model = Answers([0, 1])
    model.bias = nn.Parameter(torch.zeros(1))
    scores = Made([0, 1]).evaluate(model, Split.TEST, lambda *call: None)
    assert not scores.outcomes.requires_grad
    assert model.bias.grad is None


def test_inputs_are_scaled_to_one_and_normalised():
    inputs = Made([0] * 256).inputs(Split.CALIBRATION)
    assert inputs.dtype == torch.float32
    expected = torch.tensor([(i / 255 - 0.25) / 0.5 for i in range(256)])
    torch.testing.assert_close(inputs.flatten(), expected)


def test_an_epoch_has_every_training_image_once_with_its_label_in_an_order_of_the_seed(monkeypatch):
    monkeypatch.setattr("benchmarks.tasks.classification.augment", lambda images, generator: images)
    task = Made([(7 * i) % 4 for i in range(50)])

    def epoch(seed: int) -> list[tuple[int, int]]:
        pairs = []
        for inputs, targets in task.training_batches(Split.TRAIN, 16, torch.Generator().manual_seed(seed)):
            assert len(inputs) <= 16
            ids = ((inputs * 0.5 + 0.25) * 255).round().long().flatten()
            pairs += list(zip(ids.tolist(), targets.tolist(), strict=True))
        return pairs

    assert sorted(epoch(0)) == list(enumerate(task.labels))
    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)


def test_the_training_loss_is_cross_entropy_with_smoothed_labels():
    logits = [[1.0, 0.0, -1.0, 2.0], [0.5, 0.5, 0.0, 0.0]]
    labels = [3, 0]
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        total = sum(math.exp(value) for value in row)
        smooth = [0.05 / 4 + (0.95 if i == label else 0.0) for i in range(4)]
        expected -= sum(p * math.log(math.exp(value) / total) for p, value in zip(smooth, row, strict=True)) / 2
    loss = Made([]).training_loss(torch.tensor(logits), torch.tensor(labels))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_network_is_built_for_the_tasks_channels_and_classes():
    class Network(nn.Module):
        def __init__(self, in_channels: int, classes: int) -> None:
            super().__init__()
            self.shape = in_channels, classes

    assert Made([]).build(Network).shape == (1, 4)


def test_fine_tuning_leaves_out_a_last_batch_that_is_not_full_and_draws_anew_in_each_epoch(monkeypatch):
    monkeypatch.setattr("benchmarks.tasks.classification.augment", lambda images, generator: images)
    task = Made(list(range(50)))

    def epoch(seed: int, number: int) -> list[list[int]]:
        batches = task.training_batches(Split.FINE_TUNING, 16, generator_of(seed, number))
        return [targets.tolist() for _, targets in batches]

    first = epoch(0, 0)
    assert [len(batch) for batch in first] == [16, 16, 16]
    assert len({label for batch in first for label in batch}) == 48
    assert epoch(0, 0) == first
    others = [epoch(0, 1), epoch(1, 0), epoch(1, 1)]
    assert first not in others
    assert len({str(order) for order in others}) == 3
