"""What a user gets: the wheel holds all that a run needs, and the README's commands are those that are tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
LARGEST_FILE = 10_000_000
# Folders whose files travel, beside the code itself.
CARRIED = {
    "suites": "benchmarks/suites",
    "benchmarks/data": "benchmarks/data",
    "benchmarks/checkpoints": "benchmarks/checkpoints",
    "leaderboard/templates": "leaderboard/templates",
    "leaderboard/static": "leaderboard/static",
    "leaderboard/results": "leaderboard/results",
}


def files_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # The build backend itself, without a build environment: it needs no network.
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, int]:
    """Name -> size in bytes of each file in the wheel."""
    with ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


@pytest.mark.parametrize("package", ["dqss", "benchmarks", "leaderboard"])
def test_wheel_holds_every_module_and_the_mark_of_a_typed_package(contents: dict[str, int], package: str) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in files_below(ROOT / package) if path.suffix == ".py"}
    assert modules | {f"{package}/py.typed"} <= contents.keys()


@pytest.mark.parametrize("folder", CARRIED)
def test_wheel_holds_every_file_of_the_folder(contents: dict[str, int], folder: str) -> None:
    source = ROOT / folder
    expected = {f"{CARRIED[folder]}/{path.relative_to(source).as_posix()}" for path in files_below(source)}
    if folder != "leaderboard/results":  # empty until there are official records
        assert expected
    assert expected <= contents.keys()


def test_wheel_holds_only_the_packages_and_their_metadata(contents: dict[str, int]) -> None:
    tops = {name.split("/")[0] for name in contents}
    (metadata,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops == {"dqss", "benchmarks", "leaderboard", metadata}
    assert f"{metadata}/licenses/LICENSE" in contents


def test_no_file_in_the_wheel_is_larger_than_ten_megabytes(contents: dict[str, int]) -> None:
    assert {name: size for name, size in contents.items() if size > LARGEST_FILE} == {}


def test_unpacked_wheel_finds_a_suite_by_its_name_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with ZipFile(wheel) as archive:
        archive.extractall(installed)
    program = "from benchmarks.suite import find_suite; print(find_suite('classification'))"
    # -P: the working folder stays out of the way; PYTHONPATH comes before the installed package.
    found = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()) == installed / "benchmarks" / "suites" / "classification.yaml"


def test_ci_runs_the_readme_command_for_the_tests_word_for_word() -> None:
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert command.endswith("/bin/tox")
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_constraints_pin_one_exact_public_version_of_each_package() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    names = [pin.partition("==")[0].lower() for pin in pins]
    assert len(names) == len(set(names))
    assert [pin for pin in pins if "==" not in pin or "+" in pin] == []
