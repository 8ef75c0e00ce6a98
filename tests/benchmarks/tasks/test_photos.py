import pytest

from benchmarks.datasets import embedded_digest
from benchmarks.packaged import check_data, data_digest
from benchmarks.suite import Inventory
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split

NAMES = ["astronaut", "brick", "camera", "chelsea", "china", "coffee", "flower", "grass", "gravel", "rocket"]


@pytest.mark.parametrize("scale", [2, 4])
def test_the_task_tests_the_ten_shipped_photographs_in_the_order_of_their_names(scale):
    task = TASKS.create(f"photos-x{scale}")
    assert (task.name, task.scale) == (f"photos-x{scale}", scale)
    assert task.names() == NAMES
    assert task.ids(Split.TEST) == list(range(10))
    for low, high in task.pairs(Split.TEST):
        assert [side * scale for side in low.shape[2:]] == list(high.shape[2:])
        assert 16 <= high.min() < high.max() <= 235


@pytest.mark.parametrize("name", ["photos-x2", "photos-x4"])
def test_its_data_are_the_shipped_ones(name):
    check_data(name)
    assert data_digest(name) == embedded_digest("photos")
    assert Inventory().data(name).sha256 == embedded_digest("photos")
