import numpy
import pytest

from benchmarks.datasets import MissingDataError
from benchmarks.highres import HIGH_RESOLUTION
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Split
from benchmarks.tasks.photos import PhotosX2
from benchmarks.tasks.super_resolution import Bicubic, bicubic_scores
from dqss.search.base import no_report

Image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("name", HIGH_RESOLUTION)
def test_every_set_is_a_task_of_its_scale(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    task = TASKS.create(name)
    assert task.name == name
    assert name.endswith(f"-x{task.scale}")
    with pytest.raises(MissingDataError, match=HIGH_RESOLUTION[name].name):
        task.check(Split.TEST)
    for split in (Split.TRAIN, Split.CALIBRATION, Split.VALIDATION):
        task.check(split)


def test_the_test_is_of_the_folder_and_all_else_of_the_shipped_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    (tmp_path / "Set5").mkdir()
    generator = numpy.random.default_rng(0)
    for i in range(5):
        smooth = numpy.kron(generator.integers(0, 256, (5, 6, 3), "u1"), numpy.ones((8, 8, 1), "u1"))
        Image.fromarray(smooth).save(tmp_path / "Set5" / f"{'edcba'[i]}.png")
    task = TASKS.create("set5-x2")
    assert task.names() == list("abcde")
    assert len(task.ids(Split.TEST)) == 5
    scores = bicubic_scores(task, Split.TEST)
    assert scores.outcomes.shape == (5,)
    assert 10 < scores.primary < 60
    assert task.inputs(Split.CALIBRATION).equal(PhotosX2().inputs(Split.CALIBRATION))
    assert task.ids(Split.VALIDATION) == PhotosX2().ids(Split.VALIDATION)
    task.take_reference(Bicubic(2), no_report)
    assert task.reference.halo == 2
