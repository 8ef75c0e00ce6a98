"""The workflows of GitHub Actions: well-formed, and with no more rights than they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Step(Part):
    name: str | None = None
    uses: str | None = Field(None, pattern=r"^[\w-]+/[\w-]+@v\d+$")
    with_: dict[str, str | int | bool] | None = Field(None, alias="with")
    run: str | None = None
    shell: Literal["bash"] | None = None
    env: dict[str, str] | None = None


class Job(Part):
    runs_on: str = Field(alias="runs-on")
    timeout_minutes: int = Field(alias="timeout-minutes")
    steps: list[Step]


class Trigger(Part):
    paths: list[str]


class On(Part):
    pull_request: Trigger


class Workflow(Part):
    name: str
    on: On
    permissions: dict[Literal["contents"], Literal["read"]]
    jobs: dict[str, Job]


def read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    # YAML 1.1 reads a plain `on` as true; GitHub does not.
    return {"on" if key is True else key: value for key, value in content.items()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_known_keys_and_reads_alone(path):
    workflow = Workflow.model_validate(read(path))
    for job in workflow.jobs.values():
        for step in job.steps:
            assert (step.uses is None) != (step.run is None)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_text_of_a_stranger_becomes_part_of_a_script(path):
    for job in Workflow.model_validate(read(path)).jobs.values():
        for step in job.steps:
            assert "${{" not in (step.run or "")
            told = [*(step.env or {}).values(), *map(str, (step.with_ or {}).values())]
            for expression in re.findall(r"\$\{\{(.*?)\}\}", " ".join(told)):
                # Hashes of commits are GitHub's own.
                assert expression.strip().endswith(".sha")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_bash_can_read_every_script(path):
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash")
    for job in Workflow.model_validate(read(path)).jobs.values():
        for step in job.steps:
            if step.run:
                subprocess.run([bash, "-n"], input=step.run, text=True, check=True)


def test_there_is_a_workflow_for_submissions():
    assert "submission.yml" in [path.name for path in WORKFLOWS]
