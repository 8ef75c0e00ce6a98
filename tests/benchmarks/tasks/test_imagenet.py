import pytest
import torch
from torch import nn

from benchmarks import imagefolder
from benchmarks.datasets import MissingDataError
from benchmarks.imagefolder import FOLDERS, ImageFolder
from benchmarks.suite import Inventory
from benchmarks.tasks import TASKS
from benchmarks.tasks import imagenet as module
from benchmarks.tasks.base import Split
from benchmarks.tasks.imagenet import Imagenet
from dqss.search.base import no_report

Image = pytest.importorskip("PIL.Image")
# Red, green and blue are the classes; the names sort in another order than they are made in.
COLOURS = {"n02": (0, 255, 0), "n01": (255, 0, 0), "n03": (0, 0, 255)}


@pytest.fixture
def task(tmp_path, monkeypatch) -> Imagenet:
    """Three classes in the layout of ImageNet: five training and two validation images each, and a stray file."""
    for split, count in (("train", 5), ("val", 2)):
        for wnid, colour in COLOURS.items():
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (260 + i, 300), colour).save(folder / f"{wnid}_{i}.JPEG")
            (folder / "notes.txt").write_text("")
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    monkeypatch.setitem(FOLDERS, "imagenet", ImageFolder("imagenet", classes=3))
    monkeypatch.setattr(module, "CALIBRATION_SIZE", 4)
    monkeypatch.setattr(module, "VALIDATION_SIZE", 6)
    return Imagenet()


class Colour(nn.Module):
    """Names the strongest of red, green, blue."""

    def forward(self, x):
        return x.mean((2, 3))


def test_classes_are_numbered_by_the_sorted_names_of_their_folders(task):
    scores = task.evaluate(Colour(), Split.TEST, no_report)
    assert scores.outcomes.tolist() == [True] * 6
    assert scores.primary == 100
    assert [label for _, _, label in task.images(Split.TEST)] == [0, 0, 1, 1, 2, 2]


def test_calibration_and_validation_are_disjoint_training_images(task):
    calibration, validation = task.ids(Split.CALIBRATION), task.ids(Split.VALIDATION)
    assert (len(calibration), len(validation)) == (4, 6)
    assert not set(calibration) & set(validation)
    paths = [path for split in (Split.CALIBRATION, Split.VALIDATION) for _, path, _ in task.images(split)]
    assert {path.parent.parent.name for path in paths} == {"train"}
    inputs = task.inputs(Split.CALIBRATION)
    assert inputs.shape == (4, 3, 224, 224)
    assert torch.equal(inputs.mean((2, 3)).argmax(1), torch.tensor([i // 5 for i in calibration]))


def test_missing_folders_are_told_with_where_they_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    missing = Inventory().data("imagenet").missing
    assert f"{tmp_path}/imagenet/train has 0 folders of classes, not 1000" in missing
    assert "set DQSS_DATA" in missing


def test_the_hash_changes_with_an_image(task, tmp_path):
    before = Inventory().data("imagenet").sha256
    assert Inventory().data("imagenet").sha256 == before
    Image.new("RGB", (99, 99)).save(tmp_path / "imagenet" / "val" / "n01" / "n01_1.JPEG")
    assert Inventory().data("imagenet").sha256 != before


def test_training_is_refused(task):
    for split in (Split.TRAIN, Split.FINE_TUNING):
        with pytest.raises(MissingDataError, match="trains nothing"):
            task.check(split)
        with pytest.raises(MissingDataError, match="trains nothing"):
            next(task.training_batches(split, 8, torch.Generator()))


def test_the_task_stands_in_the_table():
    assert TASKS.load("imagenet") is Imagenet
    assert imagefolder.FOLDERS["imagenet"].classes == 1000
