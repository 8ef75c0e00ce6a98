import shutil
import subprocess
import sys

import pytest

from benchmarks.checkpoints import MissingCheckpointError, find_checkpoint
from benchmarks.datasets import EMBEDDED, MissingDataError, describe
from benchmarks.highres import HIGH_RESOLUTION, SETS
from benchmarks.packaged import check_data, data_digest
from benchmarks.suite import Inventory

SET5 = SETS["set5"]
LAYOUTS = {
    "Set5": "{}.png",
    "Set5/HR": "{}.PNG",
    "Set5/original": "{}.bmp",
    "Set5/image_SRF_2": "img_00{}_SRF_2_HR.png",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    return tmp_path


def fill(folder, pattern="{}.png", count=5):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, count + 1):
        (folder / pattern.format(i)).write_bytes(bytes([i]))


def test_the_module_needs_no_torch():
    program = "import sys, benchmarks.highres; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("folder", LAYOUTS)
def test_every_usual_layout_is_found(home, folder):
    fill(home / folder, LAYOUTS[folder])
    # Low resolution, notes, what macOS leaves and folders may lie beside.
    fill(home / "Set5" / "LR", "{}_LR.png", count=3)
    fill(home / folder, "notes{}.txt")
    fill(home / folder, f"._{LAYOUTS[folder]}")
    (home / folder / "crops.png").mkdir()
    if "SRF" in folder:
        fill(home / folder, "img_00{}_SRF_2_LR.png")
    assert [path.read_bytes() for path in SET5.files()] == [bytes([i]) for i in range(1, 6)]
    assert SET5.describe().folder == home / folder


@pytest.mark.parametrize("folder", ["DIV2K/DIV2K_valid_HR", "DIV2K_valid_HR"])
def test_of_div2k_the_validation_photographs_are_read(home, folder):
    fill(home / "DIV2K" / "DIV2K_train_HR", "{:04d}.png", count=120)
    fill(home / folder, "08{:02d}.png", count=100)
    files = SETS["div2k"].files()
    assert len(files) == 100
    assert {path.parent for path in files} == {home / folder}


def test_b100_is_the_test_part_of_bsds300(home):
    fill(home / "BSDS300" / "images" / "train", "{}.jpg", count=200)
    fill(home / "BSDS300" / "images" / "test", "{}.jpg", count=100)
    assert {path.parent.name for path in SETS["b100"].files()} == {"test"}


def test_a_missing_set_says_where_it_was_looked_for_and_what_there_is(home):
    fill(home / "Set5", count=3)
    with pytest.raises(MissingDataError) as caught:
        SET5.check()
    for words in (str(home), "5 photographs in Set5", "HR/*", "Set5/* has 3", "DQSS_DATA"):
        assert words in str(caught.value)
    row = SET5.describe()
    assert row.folder is None
    assert row.get == str(caught.value)
    assert home / "Set5" / "HR" in row.searched


def test_the_list_of_data_sets_has_a_row_for_each(home):
    fill(home / "Set5")
    rows = {row.name: row for row in describe()}
    assert rows.keys() >= {"photos (shipped)", *SETS}
    assert rows["photos (shipped)"].folder == EMBEDDED / "photos"
    assert rows["photos (shipped)"].size_bytes < 14_000_000
    assert rows["set5"].folder == home / "Set5"
    assert rows["set14"].folder is None


def test_the_digest_is_that_of_names_and_contents_whatever_the_layout(home):
    fill(home / "Set5")
    first = SET5.digest()
    shutil.move(home / "Set5", home / "HR")
    shutil.move(home / "HR", home / "Set5" / "HR")
    assert SET5.digest() == first
    (home / "Set5" / "HR" / "3.png").write_bytes(b"another")
    assert SET5.digest() != first


def test_a_tasks_data_are_the_set_and_the_shipped_photographs(home, monkeypatch):
    with pytest.raises(MissingDataError, match="Set5 is not in"):
        check_data("set5-x2")
    fill(home / "Set5")
    check_data("set5-x2")
    assert data_digest("set5-x2") == data_digest("set5-x4") != SET5.digest()
    before = data_digest("set5-x2")
    monkeypatch.setattr("benchmarks.datasets.embedded_digest", lambda name: "another")
    assert data_digest("set5-x2") != before


def test_a_cell_without_the_set_has_a_reason_to_be_skipped(home):
    found = Inventory().data("urban100-x4")
    assert found.sha256 is None
    assert "Urban100 is not in" in found.missing


@pytest.mark.parametrize("task", HIGH_RESOLUTION)
def test_checkpoints_are_those_of_the_shipped_photographs(task, tmp_path, monkeypatch):
    scale = task.rpartition("-")[2]
    monkeypatch.setenv("DQSS_CHECKPOINTS", str(tmp_path))
    folder = tmp_path / f"photos-{scale}"
    folder.mkdir()
    for path in (EMBEDDED.parent / "checkpoints" / "fashion-mnist").glob("resnet8.*"):
        shutil.copy(path, folder)
    assert find_checkpoint("resnet8", task).weights.parent == folder
    with pytest.raises(MissingCheckpointError, match=f"pretrain none --task photos-{scale}"):
        find_checkpoint("none", task)
