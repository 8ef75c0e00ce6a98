"""Where a campaign lets faults strike: a suite of toys, its output folder, its runs, and what must hold at the end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

import benchmarks
from benchmarks.suite import cells_of, load_suite
from tests.faults.toy import CONTROL, hits_of, is_whole

SUITE = """\
suite: {name}
version: 1
task: fashion-mnist
models: [resnet8]
bits: [W8A8, W4A4]
protocol: all-layers
seeds: {seeds}
ptq:
  quantizers: {{weight: [minmax, mse], activation: [minmax, mse]}}
  methods: [random: {{images: 100}}, dqss: {{steps: 3}}]
"""
CELLS_PER_SEED = 4
ROOT = Path(benchmarks.__file__).parents[1]
TOY = ["-m", "tests.faults.toy"]
LAUNCHER = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
FORMS: Mapping[str, tuple[list[str], list[str]]] = {
    "alone": (TOY, []),
    "processes": (TOY, ["--processes", "2"]),
    "accelerate": ([*LAUNCHER, *TOY], []),
}
LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MLFLOW_TRACKING_URI", "DQSS_CHECKPOINTS"}
LONGEST_RUN = 1800.0
MOST_RUNS = 8
ENDS_WITHIN = 120.0
"""Seconds within which whatever outlived a kill has to be gone."""


Tracked = tuple[str | None, str | None, float | None]
"""Of a run in MLflow: its mark of completion, the seal of its record, its score."""


class Stuck(Exception):  # noqa: N818
    """A run that does not end as it should; the message says where its output is."""


@dataclass
class Run:
    """A run of the suite that has been started."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_on(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(LONGEST_RUN)
        except subprocess.TimeoutExpired:
            raise Stuck(f"it has not ended after {LONGEST_RUN:g} s; see {self.log}") from None

    def workers(self) -> list[psutil.Process]:
        """Return the processes that the one that was started has started to share the cells."""
        found = []
        with suppress(psutil.Error):
            for each in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):
                    if "run" in each.cmdline():
                        found.append(each)
        return found


@dataclass
class Verdict:
    """What a fault class came to.

    Args:
        lost: cells without a record in the end, or without a run in MLflow.
        doubled: cells that ran though their record was there, or twice at once, or that MLflow has twice.
        wrong: records that say anything but what their cell found.
        untidy: files and processes left over, files of others that are gone.
        again: cells that ran a second time because they, or whoever waited for them, were killed.
    """

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    untidy: int = 0
    again: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong or self.untidy)


class Ground:
    """A suite of toys, run again and again.

    Args:
        folder: for all that belongs to it.
        name: of the suite.
        cells: how many at least.
        out: the output folder; None for one in `folder`.
    """

    def __init__(self, folder: Path, name: str, cells: int, seed: int, out: Path | None = None) -> None:
        self.folder, self.name = folder, name
        self.control = folder / "control"
        self.control.mkdir(parents=True)
        self.hand = random.Random(f"{seed} {name}")
        self.out = folder / "out" if out is None else out
        self.database = self.out / "mlflow.db"
        self.suite = folder / f"{name}.yaml"
        seeds = list(range(-(-cells // CELLS_PER_SEED)))
        self.suite.write_text(SUITE.format(name=name, seeds=seeds))
        self.keys = [cell.key for cell in cells_of(load_suite(self.suite))]
        self.environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED} | {
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(folder),
            CONTROL: str(self.control),
        }
        self.is_limited = False
        self.runs = 0
        self.damages: Counter[str] = Counter()
        self.kept: dict[Path, bytes] = {}
        """What has to be there in the end, as it is: damaged files under their new names, and those of others."""
        self._whole: dict[str, tuple[int, str]] = {}

    @property
    def records(self) -> Path:
        return self.out / self.name

    def path(self, key: str) -> Path:
        return self.records / f"{key}.json"

    def start(self, form: str, *options: str) -> Run:
        """Start the program."""
        before, behind = FORMS[form]
        command = [sys.executable, *before, "run", str(self.suite), "--out", str(self.out), *behind, *options]
        self.runs += 1
        log = self.control / f"run-{self.runs}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                env=self.environment,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=_give_up_root if self.is_limited else None,
            )
        return Run(process, log)

    def finish(self, form: str = "alone") -> None:
        """Run the same command until all is done and in MLflow."""
        for _ in range(MOST_RUNS):
            run = self.start(form)
            code = run.wait()
            told = run.log.read_text(errors="replace")
            if "Traceback" in told:
                raise Stuck(f"a traceback; see {run.log}")
            if code == 0 and "MLflow at" not in told:
                return
        raise Stuck(f"it did not end with 0 in {MOST_RUNS} runs; see {run.log}")

    def journal(self) -> list[list[str]]:
        """Return the lines of the journal: what, key, process, time, detail."""
        with suppress(FileNotFoundError):
            return [line.split(" ") for line in (self.control / "journal").read_text().splitlines()]
        return []

    def lines(self) -> int:
        return len(self.journal())

    def wait_for(self, is_so: Callable[[], bool], run: Run) -> bool:
        """Wait for something to happen during a run; return whether it did."""
        begun = time.monotonic()
        while run.is_on and time.monotonic() - begun < LONGEST_RUN:
            if is_so():
                return True
            time.sleep(0.05)
        return False

    def wait_for_a_moment(self, run: Run, most: int = 6) -> bool:
        """Wait until a few cells have begun or ended, and then a little; return whether the run is still on."""
        target = self.lines() + self.hand.randint(1, most)
        is_on = self.wait_for(lambda: self.lines() >= target, run)
        time.sleep(self.hand.uniform(0, 0.4))
        return is_on and run.is_on

    def remember(self) -> None:
        """Remember which records are whole: they have to stay what they are."""
        for key in self.keys:
            if key not in self._whole and is_whole(self.path(key)):
                self._whole[key] = self._facts(key)

    def forget(self, key: str) -> None:
        """Expect a cell to run again, since its record is damaged."""
        self.damages[key] += 1
        self._whole.pop(key, None)

    def _facts(self, key: str) -> tuple[int, str]:
        path = self.path(key)
        return path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest()

    def alive(self, word: str = "") -> list[psutil.Process]:
        """Return the processes of this ground's runs, whoever started them, in whose command line a word is."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(CONTROL) == str(self.control) and word in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def end(self) -> list[str]:
        """Wait for what outlived a kill; end what is still there after a while, and return what that was."""
        begun = time.monotonic()
        while (left := self.alive()) and time.monotonic() - begun < ENDS_WITHIN:
            time.sleep(0.5)
        told = []
        for process in left:
            with suppress(psutil.Error):
                told.append(" ".join(process.cmdline())[:200])
                process.kill()
        return told

    def verdicts(self, class_of: Mapping[str, str], otherwise: str, kills: bool) -> dict[str, Verdict]:
        """Return fault class -> what it came to.

        Args:
            class_of: key -> class, of the cells that a fault was aimed at.
            otherwise: the class of all other cells.
            kills: whether a cell may have run again because something was killed.
        """
        found = {name: Verdict() for name in (*class_of.values(), otherwise)}
        for left in self.end():
            found[otherwise].untidy += 1
            found[otherwise].notes.append(f"still running: {left}")
        ran = _runs_by_key(self.journal())
        tracked = self._tracked()
        for key in self.keys:
            verdict = found[class_of.get(key, otherwise)]
            self._judge_record(key, verdict)
            self._judge_journal(key, ran.get(key, []), kills, verdict)
            self._judge_tracking(key, tracked.get(key, []), verdict)
        if set(ran) - set(self.keys) or set(tracked) - set(self.keys):
            found[otherwise].wrong += 1
            found[otherwise].notes.append("cells of no suite")
        for note in self._left_over():
            found[otherwise].untidy += 1
            found[otherwise].notes.append(note)
        return found

    def _judge_record(self, key: str, verdict: Verdict) -> None:
        path = self.path(key)
        if not is_whole(path):
            verdict.lost += 1
            verdict.notes.append(f"no record: {key[:12]}")
            return
        told = json.loads(path.read_bytes())
        if (told["key"], told["score"], told["status"]) != (key, float(hits_of(key)), "ok"):
            verdict.wrong += 1
            verdict.notes.append(f"wrong: {key[:12]} score {told['score']}")
        if key in self._whole and self._whole[key] != self._facts(key):
            verdict.doubled += 1
            verdict.notes.append(f"written again: {key[:12]}")

    def _judge_journal(self, key: str, ran: Sequence[_Try], kills: bool, verdict: Verdict) -> None:
        whole = [one for one in ran if one.ended is not None]
        if (
            any(one.is_again for one in ran)
            or any(earlier.ended is not None and later.begun < earlier.ended for earlier, later in pairwise(whole))
            or (len(whole) > 1 + self.damages[key] and not kills)
        ):
            verdict.doubled += 1
            verdict.notes.append(f"ran twice: {key[:12]} {ran}")
        elif len(whole) > 1 + self.damages[key]:
            verdict.again += len(whole) - 1 - self.damages[key]

    def _judge_tracking(self, key: str, tracked: Sequence[Tracked], verdict: Verdict) -> None:
        if len(tracked) != 1:
            verdict.lost += not tracked
            verdict.doubled += len(tracked) > 1
            verdict.notes.append(f"MLflow has {len(tracked)} of {key[:12]}: {tracked}")
        elif is_whole(self.path(key)):
            complete, digest, score = tracked[0]
            seal = self.path(key).open("rb").readline()
            if complete != "true" or (digest or "-").encode() not in seal or score != float(hits_of(key)):
                verdict.wrong += 1
                verdict.notes.append(f"MLflow has otherwise {key[:12]}: {tracked[0]}")

    def _tracked(self) -> dict[str, list[Tracked]]:
        """Return key -> each run of it in MLflow that is not deleted."""

        def tag(name: str) -> str:
            return f"(SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = '{name}')"

        score = "(SELECT value FROM metrics WHERE metrics.run_uuid = runs.run_uuid AND key = 'score')"
        found: dict[str, list[Tracked]] = {}
        with closing(sqlite3.connect(self.database)) as database:
            for key, *rest in database.execute(
                f"SELECT {tag('dqss.key')}, {tag('dqss.complete')}, {tag('dqss.record')}, {score} "
                "FROM runs JOIN experiments USING (experiment_id) "
                "WHERE experiments.name = ? AND runs.lifecycle_stage = 'active'",
                (f"dqss-bench/{self.name}",),
            ):
                if key is not None:
                    found.setdefault(key, []).append((rest[0], rest[1], rest[2]))
        return found

    def _left_over(self) -> Iterator[str]:
        known = {self.path(key) for key in self.keys} | {self.records / "tracked" / key for key in self.keys}
        for path, content in self.kept.items():
            if not path.is_symlink() and not path.is_dir() and (not path.exists() or path.read_bytes() != content):
                yield f"gone or changed: {path.relative_to(self.out)}"
        for path in sorted(self.records.rglob("*")):
            if path.is_file() and path not in known and path not in self.kept and "logs" not in path.parts:
                yield f"left over: {path.relative_to(self.out)}"
        if (self.records / "claims").exists() and not any(
            self.records / "claims" in path.parents for path in self.kept
        ):
            yield "left over: claims"


@dataclass(frozen=True)
class _Try:
    begun: float
    ended: float | None
    is_again: bool


def _runs_by_key(journal: Sequence[Sequence[str]]) -> dict[str, list[_Try]]:
    """Return key -> how often it ran, in order; a try without an end was ended by a fault."""
    found: dict[str, list[_Try]] = {}
    begun: dict[tuple[str, str], tuple[float, bool]] = {}
    for what, key, process, when, *detail in journal:
        if what == "begin":
            if (process, key) in begun:
                found.setdefault(key, []).append(_Try(begun[process, key][0], None, begun[process, key][1]))
            begun[process, key] = float(when), detail == ["again"]
        else:
            first, is_again = begun.pop((process, key))
            found.setdefault(key, []).append(_Try(first, float(when), is_again))
    for (_, key), (first, is_again) in begun.items():
        found.setdefault(key, []).append(_Try(first, None, is_again))
    return {key: sorted(tries, key=lambda one: one.begun) for key, tries in found.items()}


def _give_up_root() -> None:
    """Be bound by the permissions of files, in the program that is started next."""
    import ctypes

    drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
    libc = ctypes.CDLL(None)
    for capability in (dac_override, dac_read_search):
        libc.prctl(drop_from_bounding_set, capability, 0, 0, 0)
