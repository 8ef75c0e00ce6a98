import gzip
import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import datasets
from benchmarks.datasets import DATASETS, EMBEDDED, Dataset, MissingDataError

FASHION = DATASETS["fashion-mnist"]


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Return a copy of the folder that the package ships, which a test may spoil."""
    copy = tmp_path / "package"
    shutil.copytree(EMBEDDED, copy)
    monkeypatch.setattr(datasets, "EMBEDDED", copy)
    return copy / "fashion-mnist"


def fill(folder: Path, dataset: Dataset = FASHION) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in dataset.files:
        (folder / name).write_bytes(b"")
    return folder


def test_the_module_needs_no_torch():
    program = "import sys, benchmarks.datasets, benchmarks.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("name", DATASETS)
def test_the_list_of_hashes_is_of_the_files_that_are_shipped(name):
    folder = EMBEDDED / name
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.gz")}
    assert datasets.embedded_sums(name) == expected
    assert len(expected) == 5


@pytest.mark.parametrize("name", DATASETS)
def test_licence_and_description_lie_beside_the_shipped_files_which_stay_under_10_megabytes(name):
    folder = EMBEDDED / name
    assert "Permission is hereby granted" in (folder / "LICENSE").read_text()
    text = (folder / "README.md").read_text()
    assert all(path.name in text for path in folder.iterdir() if path.name != "README.md")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000_000


def test_the_digest_is_that_of_the_list_of_hashes():
    digest = hashlib.sha256((EMBEDDED / "fashion-mnist" / "SHA256SUMS").read_bytes()).hexdigest()
    assert datasets.embedded_digest("fashion-mnist") == digest


def test_shipped_files_that_are_whole_pass():
    datasets.check_embedded("fashion-mnist")


def test_a_changed_shipped_file_is_named(package):
    with (package / "train10k-labels-idx1-ubyte.gz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(MissingDataError, match=r"train10k-labels-idx1-ubyte\.gz was changed\. Install"):
        datasets.check_embedded("fashion-mnist")


@pytest.mark.parametrize("name", ["SHA256SUMS", "t10k-images-idx3-ubyte.gz"])
def test_a_lost_shipped_file_is_named(package, name):
    (package / name).unlink()
    with pytest.raises(MissingDataError, match=f"{name} is missing"):
        datasets.check_embedded("fashion-mnist")


@pytest.mark.parametrize("function", [datasets.embedded_digest, datasets.check_embedded])
def test_a_data_set_of_which_nothing_is_shipped_is_missing(function):
    with pytest.raises(MissingDataError, match="imagenet"):
        function("imagenet")


def test_data_home_is_the_variable_else_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DQSS_DATA", raising=False)
    assert datasets.data_home() == tmp_path / "dqss-bench"
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "data"))
    assert datasets.data_home() == tmp_path / "data"


def test_locate_prefers_the_users_folder_and_wants_every_file(monkeypatch, tmp_path):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    dataset = replace(FASHION, system_folder=tmp_path / "system")
    assert datasets.locate(dataset) is None
    fill(tmp_path / "system")
    assert datasets.locate(dataset) == tmp_path / "system"
    own = fill(tmp_path / "fashion-mnist")
    assert datasets.locate(dataset) == own
    (own / "t10k-labels-idx1-ubyte.gz").unlink()
    assert datasets.locate(dataset) == tmp_path / "system"


def test_the_content_hash_does_not_depend_on_the_compression(tmp_path):
    content = bytes(range(256)) * 100
    for level in (1, 9):
        (tmp_path / f"{level}.gz").write_bytes(gzip.compress(content, level, mtime=0))
        assert datasets.content_sha256(tmp_path / f"{level}.gz") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "content", [b"", b"<html>", gzip.compress(b"x" * 1000, mtime=0)[:-9], gzip.compress(b"x")[:-8] + b"12345678"]
)
def test_a_broken_gzip_file_has_no_content_hash_but_for_the_empty_one(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    found = datasets.content_sha256(tmp_path / "x.gz")
    assert found is None or (content == b"" and found == hashlib.sha256(b"").hexdigest())


def test_the_list_has_a_row_for_the_shipped_part_and_one_for_the_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(FASHION, system_folder=tmp_path / "system"))
    shipped, whole = datasets.describe()[:2]
    assert (shipped.name, shipped.folder) == ("fashion-mnist (shipped)", EMBEDDED / "fashion-mnist")
    assert 8_000_000 < shipped.size_bytes < 10_000_000
    assert (whole.name, whole.folder) == ("fashion-mnist", None)
    assert whole.searched == (tmp_path / "fashion-mnist", tmp_path / "system")
    assert whole.get == "dqss-bench data fetch fashion-mnist"
    assert whole.licence == shipped.licence == "MIT (Zalando SE)"
    fill(tmp_path / "system")
    assert datasets.describe()[1].folder == tmp_path / "system"


def test_the_list_says_that_a_changed_shipped_part_is_not_there(package):
    (package / "SHA256SUMS").unlink()
    assert datasets.describe()[0].folder is None


def test_no_advice_for_a_folder_that_tasks_search(monkeypatch, tmp_path):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path))
    assert datasets.advice("fashion-mnist", tmp_path / "fashion-mnist") is None
    assert datasets.advice("fashion-mnist", FASHION.system_folder) is None


def test_the_advice_for_a_folder_of_the_data_sets_name_works(monkeypatch, tmp_path):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "elsewhere"))
    folder = fill(tmp_path / "data" / "fashion-mnist")
    assert datasets.advice("fashion-mnist", folder) == f"Set DQSS_DATA={tmp_path / 'data'} so that tasks find it."
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "data"))
    assert datasets.locate(FASHION) == folder


def test_the_advice_for_a_folder_of_another_name_works(monkeypatch, tmp_path):
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "elsewhere"))
    folder = fill(tmp_path / "my data")
    advice = datasets.advice("fashion-mnist", folder)
    assert advice is not None
    command = advice.split("`")[1]
    assert f"set DQSS_DATA={folder} " in advice
    subprocess.run(command, shell=True, check=True)
    monkeypatch.setenv("DQSS_DATA", str(folder))
    assert datasets.locate(FASHION) == folder / "fashion-mnist"
