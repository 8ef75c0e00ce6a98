"""Injects faults into runs of toys and counts what got lost, doubled or wrong.

    python -m tests.faults.campaign --faults 200 --seed 0

After each burst of faults the same command runs again until it ends with 0. The exit code is 1 where anything was lost,
doubled, wrong or left over.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.ground import Ground, Run, Stuck, Verdict
from tests.faults.shaky_server import BREAKS, ShakyServer

CHILD, WORKER, PARENT = "SIGKILL of a cell's process", "SIGKILL of a worker", "SIGKILL of the launching parent"
LAUNCHER, TRACKER = "SIGKILL of accelerate launch", "SIGKILL of the tracking process"
LIMIT, MEMORY, NAN = "out of memory (RLIMIT_AS)", "out of memory (MemoryError)", "NaN"
FULL, READ_ONLY = "full disk", "read-only folder"
LINE, SERVER = "MLflow server slow, cut off or gone", "MLflow server: SIGKILL"
CORRUPT, TRUNCATED, FOREIGN = "corrupt record", "truncated record", "foreign file"
DUPLICATE, TIMES, CLOCK = "duplicate run", "times of files set", "clock jump"

SHARES = {
    CORRUPT: 24,
    TRUNCATED: 24,
    LIMIT: 14,
    MEMORY: 10,
    NAN: 14,
    CHILD: 16,
    FOREIGN: 18,
    WORKER: 14,
    TRACKER: 6,
    PARENT: 7,
    LAUNCHER: 5,
    FULL: 6,
    READ_ONLY: 6,
    LINE: 12,
    SERVER: 2,
    DUPLICATE: 6,
    TIMES: 20,
    CLOCK: 8,
}
"""Of about two hundred faults."""
CHEAP = (CORRUPT, TRUNCATED, LIMIT, MEMORY, NAN, CHILD, FOREIGN)
"""Of which a run takes many, whatever their number."""

LONG = 100
"""Faults from which on a campaign has all classes; a shorter one leaves out those of which each takes a run."""


def counts_for(faults: int) -> dict[str, int]:
    """Return how many of each class make up so many faults."""
    taken = SHARES if faults >= LONG else {name: SHARES[name] for name in (*CHEAP, WORKER)}
    counts = {name: taken.get(name, 0) * faults // sum(taken.values()) for name in SHARES}
    while sum(counts.values()) < faults:
        name = min(CHEAP, key=lambda name: counts[name] / SHARES[name])
        counts[name] += 1
    return counts


@dataclass
class Bout:
    """What one ground came to."""

    faults: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Campaign:
    """Where it takes place and how much of it.

    Args:
        database: an empty MLflow database, since making one takes long.
    """

    folder: Path
    seed: int
    counts: Mapping[str, int]
    database: Path

    def ground(self, name: str, cells: int, out: Path | None = None) -> Ground:
        ground = Ground(self.folder / name, name, cells, self.seed, out)
        ground.out.mkdir(parents=True, exist_ok=True)
        if out is None:
            shutil.copy(self.database, ground.database)
        else:
            ground.database = ground.folder / "mlflow.db"
            shutil.copy(self.database, ground.database)
            ground.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{ground.database}"
        return ground


def in_cells(campaign: Campaign, bout: Bout) -> None:
    """Cells run out of memory, diverge and are killed; then records are damaged and strangers leave their files."""
    counts = campaign.counts
    inside = {LIMIT: ["limit"], MEMORY: ["memory"], NAN: ["loss", "nan"], CHILD: ["kill"]}
    number = sum(counts[name] for name in (*inside, CORRUPT, TRUNCATED, FOREIGN))
    ground = campaign.ground("in-cells", number + 4)
    keys, class_of = ground.hand.sample(ground.keys, len(ground.keys)), {}
    for name, kinds in inside.items():
        # Some of the kills come from outside, below.
        for each in range(counts[name]):
            key = keys.pop()
            (ground.control / f"{kinds[each % len(kinds)]}-{key}").touch()
            class_of[key] = name
            bout.faults[name] += 1
    form = "processes" if counts[WORKER] else "alone"
    run = ground.start(form)
    run.wait()
    ground.remember()
    for _ in range(counts[CORRUPT]):
        _damage(ground, key := keys.pop(), _corrupted)
        class_of[key] = CORRUPT
        bout.faults[CORRUPT] += 1
    for _ in range(counts[TRUNCATED]):
        _damage(ground, key := keys.pop(), _truncated)
        class_of[key] = TRUNCATED
        bout.faults[TRUNCATED] += 1
    for each in range(counts[FOREIGN]):
        STRANGERS[each % len(STRANGERS)](ground, key := keys.pop())
        class_of[key] = FOREIGN
        bout.faults[FOREIGN] += 1
    ground.finish(form)
    left = [path.name for path in ground.control.iterdir() if "-" in path.name and not path.name.startswith("run-")]
    if left:
        raise Stuck(f"faults that did not strike: {left}")
    bout.verdicts = ground.verdicts(class_of, FOREIGN, kills=False)


def _damage(ground: Ground, key: str, damage: Callable[[Ground, bytes], bytes]) -> None:
    path = ground.path(key)
    if not path.is_file():
        raise Stuck(f"{path} is not there to be damaged")
    content = damage(ground, path.read_bytes())
    path.write_bytes(content)
    ground.kept[path.with_name(f"{path.name}.bad")] = content
    ground.forget(key)


def _corrupted(ground: Ground, content: bytes) -> bytes:
    changed = bytearray(content)
    match ground.hand.randrange(4):
        case 0:
            changed[ground.hand.randrange(len(changed))] ^= 1 << ground.hand.randrange(8)
        case 1:
            place = ground.hand.randrange(len(changed) - 16)
            changed[place : place + 16] = bytes(16)
        case 2:
            return content.replace(b'"status": "ok"', b'"status":  "ok"').replace(b'"score": ', b'"score": 1')
        case _:
            return bytes(len(content))
    return bytes(changed)


def _truncated(ground: Ground, content: bytes) -> bytes:
    return content[: ground.hand.choice([0, 1, len(content) - 1, ground.hand.randrange(len(content))])]


def _stranger_in_its_place(ground: Ground, key: str) -> None:
    _damage(ground, key, lambda _, content: b'{"accuracy": 99.9}\n')


def _stranger_beside(ground: Ground, key: str) -> None:
    for name, content in {f"{key[::-1]}.json": b"{}", f"{key}.json.part": b"half", "notes.txt": b"mine"}.items():
        (ground.records / name).write_bytes(content)
        ground.kept[ground.records / name] = content


def _stranger_folder(ground: Ground, key: str) -> None:
    path = ground.path(key)
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"mine")
    ground.kept[path.with_name(f"{path.name}.bad") / "inside"] = b"mine"
    ground.forget(key)


def _stranger_link(ground: Ground, key: str) -> None:
    path = ground.path(key)
    path.unlink()
    path.symlink_to("nowhere")
    ground.forget(key)


def _stranger_claim(ground: Ground, key: str) -> None:
    ground.path(key).unlink()
    (ground.records / "claims").mkdir(exist_ok=True)
    (ground.records / "claims" / key).write_bytes(b"\0garbage")
    ground.forget(key)


def _stranger_marker(ground: Ground, key: str) -> None:
    (ground.records / "tracked" / key).write_bytes(b"\0garbage")


STRANGERS = (
    _stranger_in_its_place,
    _stranger_beside,
    _stranger_folder,
    _stranger_marker,
    _stranger_link,
    _stranger_claim,
)


def workers(campaign: Campaign, bout: Bout) -> None:
    """Workers, their cells' processes and the tracking process are killed while the others go on."""
    left = Counter({name: campaign.counts[name] for name in (WORKER, TRACKER)})
    outside = min(4, left[WORKER])
    left[CHILD] += outside
    while left.total():
        ground = campaign.ground(f"workers-{bout.faults.total()}", 8 + 6 * left.total())
        victims = list(left.elements())
        ground.hand.shuffle(victims)
        while victims and not _is_done(ground):
            run = ground.start("processes")
            while victims and ground.wait_for_a_moment(run, 5):
                victim = victims.pop()
                ground.remember()
                struck = _kill(ground, run, victim)
                if struck:
                    bout.faults[victim] += 1
                    left[victim] -= 1
                else:
                    victims.insert(0, victim)
            run.wait()
        ground.finish("processes")
        _merge(bout, ground.verdicts({}, WORKER, kills=True))


def _kill(ground: Ground, run: Run, victim: str) -> bool:
    """Kill one process of a kind, whichever; return whether there was one."""
    if victim == WORKER:
        found = run.workers()
    else:
        found = ground.alive("benchmarks.tracking.serve" if victim == TRACKER else "--multiprocessing-fork")
    with suppress(psutil.Error):
        if found:
            ground.hand.choice(found).kill()
            return True
    return False


def _is_done(ground: Ground) -> bool:
    return all(ground.path(key).exists() for key in ground.keys)


def parents(campaign: Campaign, bout: Bout) -> None:
    """`run --processes 2` is killed, and started again at once, while its workers may still be there."""
    _starters(campaign, bout, PARENT, "processes")


def launchers(campaign: Campaign, bout: Bout) -> None:
    """`accelerate launch` is killed, and started again at once."""
    _starters(campaign, bout, LAUNCHER, "accelerate")


def _starters(campaign: Campaign, bout: Bout, name: str, form: str) -> None:
    number = campaign.counts[name]
    while bout.faults[name] < number:
        ground = campaign.ground(f"{BOUT_OF[name]}-{bout.faults[name]}", 16 + 10 * (number - bout.faults[name]))
        while bout.faults[name] < number and not _is_done(ground):
            run = ground.start(form)
            if ground.hand.random() < 0.2:
                time.sleep(ground.hand.uniform(0, 4))
            else:
                ground.wait_for_a_moment(run, 8)
            if run.is_on:
                ground.remember()
                run.kill()
                bout.faults[name] += 1
            else:
                run.wait()
        ground.finish(form)
        _merge(bout, ground.verdicts({}, name, kills=True))


def full_disk(campaign: Campaign, bout: Bout) -> None:
    """The disk of the output folder is full from some moment on; later there is space again."""
    disk = campaign.folder / "full-disk-mount"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        bout.skipped[FULL] = "this user may not mount a file system"
        return
    try:
        number = campaign.counts[FULL]
        ground, filler = campaign.ground("full-disk", 8 + 8 * number, disk / "out"), disk / "filler"
        while bout.faults[FULL] < number:
            run = ground.start("processes" if bout.faults[FULL] % 3 == 2 else "alone")
            if not ground.wait_for_a_moment(run, 8):
                raise Stuck(f"the run has ended before the disk was full; see {run.log}")
            ground.remember()
            _fill(filler, spare=ground.hand.choice([0, 4096, 3 * 4096]))
            bout.faults[FULL] += 1
            _expect_complaint(run, "No space left on device")
            filler.unlink()
        ground.finish()
        _merge(bout, ground.verdicts({}, FULL, kills=True))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(filler: Path, spare: int) -> None:
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(max(0, file.tell() - spare))


def _expect_complaint(run: Run, what: str) -> None:
    code, told = run.wait(), run.log.read_text(errors="replace")
    complaints = [line for line in told.splitlines() if line.startswith("dqss-bench: cannot write to the folder")]
    if code != 2 or not complaints or "Traceback" in told or not all(what in line for line in complaints):
        raise Stuck(f"it ended with {code}, and not with one message of '{what}'; see {run.log}")


def read_only(campaign: Campaign, bout: Bout) -> None:
    """The folder of the records may not be written to from some moment on, or from the beginning."""
    number = campaign.counts[READ_ONLY]
    ground = campaign.ground("read-only", 8 + 8 * number)
    ground.is_limited = os.geteuid() == 0
    while bout.faults[READ_ONLY] < number:
        is_before = bout.faults[READ_ONLY] % 3 == 2
        if is_before:
            ground.records.chmod(0o555)
            run = ground.start("alone")
        else:
            run = ground.start("processes" if bout.faults[READ_ONLY] % 3 == 1 else "alone")
            if not ground.wait_for_a_moment(run, 8):
                raise Stuck(f"the run has ended before the folder was read-only; see {run.log}")
            ground.records.chmod(0o555)
        ground.remember()
        bout.faults[READ_ONLY] += 1
        _expect_complaint(run, "Permission denied")
        ground.records.chmod(0o755)
    ground.finish()
    _merge(bout, ground.verdicts({}, READ_ONLY, kills=True))


def server(campaign: Campaign, bout: Bout) -> None:
    """The MLflow server is slow, cut off, gone and killed, while cells run and after them."""
    lines, kills = campaign.counts[LINE], campaign.counts[SERVER]
    ground = campaign.ground("server", 24 + 8 * kills)
    shaky = ShakyServer(ground.folder / "server", campaign.database)
    ground.database = shaky.database
    ground.environment["MLFLOW_TRACKING_URI"] = shaky.uri
    try:
        # At first it is not there at all.
        shaky.is_gone = True
        run = ground.start("alone", "--max-cells", "8")
        run.wait()
        bout.faults[LINE] += 1
        shaky.is_gone = False
        shaky.start()
        shaky.plan([BREAKS[each % len(BREAKS)] for each in range(lines - 1)], campaign.seed)
        for _ in range(kills):
            run = ground.start("alone", "--max-cells", "8")
            ground.wait_for(lambda: _held(ground) > ground.hand.randint(0, 6), run)
            shaky.kill()
            bout.faults[SERVER] += 1
            run.wait()
            shaky.start()
        run = ground.start("processes")
        run.wait()
        for _ in range(6):
            if not shaky.left:
                break
            # Markers are forgotten, so that MLflow is asked again of each record.
            for marker in ground.hand.sample(sorted((ground.records / "tracked").iterdir()), 4):
                marker.unlink()
            ground.start("alone").wait()
        bout.faults[LINE] += shaky.struck
        shaky.plan([], 0)
        ground.finish()
        _merge(bout, ground.verdicts({}, LINE, kills=False))
    finally:
        shaky.kill()


def _held(ground: Ground) -> int:
    with suppress(FileNotFoundError):
        return len(list((ground.records / "tracked").iterdir()))
    return 0


def duplicates(campaign: Campaign, bout: Bout) -> None:
    """The same command is given several times, at once and a little later."""
    number = campaign.counts[DUPLICATE]
    while bout.faults[DUPLICATE] < number:
        ground = campaign.ground(f"duplicates-{bout.faults[DUPLICATE]}", 48)
        runs = [ground.start("alone")]
        for form in ["alone", "processes", "alone"][: number - bout.faults[DUPLICATE]]:
            time.sleep(ground.hand.choice([0.0, ground.hand.uniform(0, 5)]))
            runs.append(ground.start(form))
            bout.faults[DUPLICATE] += 1
        for run in runs:
            if code := run.wait():
                raise Stuck(f"one of several runs ended with {code}; see {run.log}")
        ground.finish()
        _merge(bout, ground.verdicts({}, DUPLICATE, kills=False))


def clocks(campaign: Campaign, bout: Bout) -> None:
    """Clocks are set, by days and years, for all processes; files seem to be of another time."""
    library = _faketime()
    if library is None:
        bout.skipped[CLOCK] = "libfaketime is not installed (pip install libfaketime)"
    planned = [TIMES] * campaign.counts[TIMES] + [CLOCK] * (campaign.counts[CLOCK] if library else 0)
    while planned:
        ground = campaign.ground(f"clocks-{bout.faults.total()}", 16 + 3 * len(planned))
        offset = ground.folder / "offset"
        if library is not None:
            offset.write_text("+0")
            ground.environment |= {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(offset),
                "FAKETIME_NO_CACHE": "1",
                "NO_FAKE_STAT": "1",
                # As of Linux: setting the clock moves CLOCK_REALTIME alone.
                "DONT_FAKE_MONOTONIC": "1",
            }
        ground.hand.shuffle(planned)
        runs = [ground.start("processes"), ground.start("alone")]
        while planned and any(run.is_on for run in runs) and not _is_done(ground):
            run = next((run for run in runs if run.is_on), runs[0])
            if not ground.wait_for_a_moment(run, 3):
                continue
            ground.remember()
            days = ground.hand.choice([-1, 1]) * ground.hand.choice([0.01, 1, 400, 4000])
            if planned[-1] == CLOCK:
                offset.write_text(f"{days:+g}d")
            elif not _set_times(ground, days):
                continue
            bout.faults[planned.pop()] += 1
        for run in runs:
            if code := run.wait():
                raise Stuck(f"it ended with {code}; see {run.log}")
        ground.finish()
        _merge(bout, ground.verdicts({}, CLOCK if library else TIMES, kills=False))


def _set_times(ground: Ground, days: float) -> bool:
    """Set the times of a claim where there is one, else of any file; return whether that was possible."""
    claims = list((ground.records / "claims").glob("*"))
    others = [path for path in ground.records.rglob("*") if path.is_file()]
    with suppress(FileNotFoundError):
        path = ground.hand.choice(sorted(claims if claims and ground.hand.random() < 0.7 else others))
        then = time.time() + days * 86400
        os.utime(path, (then, then))
        return True
    return False


def _faketime() -> Path | None:
    found = importlib.util.find_spec("libfaketime")
    if found is not None and found.submodule_search_locations:
        for library in Path(next(iter(found.submodule_search_locations))).rglob("libfaketime.so.1"):
            return library
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def _merge(bout: Bout, verdicts: Mapping[str, Verdict]) -> None:
    for name, verdict in verdicts.items():
        into = bout.verdicts.setdefault(name, Verdict())
        for what in ("lost", "doubled", "wrong", "untidy", "again"):
            setattr(into, what, getattr(into, what) + getattr(verdict, what))
        into.notes += verdict.notes


BOUTS: Mapping[str, tuple[Callable[[Campaign, Bout], None], tuple[str, ...]]] = {
    "server": (server, (LINE, SERVER)),
    "workers": (workers, (WORKER, TRACKER)),
    "in-cells": (in_cells, CHEAP),
    "parents": (parents, (PARENT,)),
    "launchers": (launchers, (LAUNCHER,)),
    "duplicates": (duplicates, (DUPLICATE,)),
    "clocks": (clocks, (TIMES, CLOCK)),
    "full-disk": (full_disk, (FULL,)),
    "read-only": (read_only, (READ_ONLY,)),
}


BOUT_OF = {fault: name for name, (_, faults) in BOUTS.items() for fault in faults}


def fight(campaign: Campaign, name: str) -> Bout:
    """Run one bout to its end."""
    bout, begun = Bout(), time.monotonic()
    inject, classes = BOUTS[name]
    for earlier in campaign.folder.glob(f"{name}*"):
        shutil.rmtree(earlier)
    try:
        inject(campaign, bout)
    except (Stuck, OSError, psutil.Error) as error:
        bout.verdicts.setdefault(classes[0], Verdict()).untidy += 1
        bout.verdicts[classes[0]].notes.append(f"{type(error).__name__}: {error}")
    bout.seconds = time.monotonic() - begun
    return bout


def empty_database(folder: Path) -> Path:
    """Make an MLflow database, in a process of its own: mlflow takes seconds and memory."""
    path = folder / "empty.db"
    if path.exists():
        return path
    code = f"from mlflow import MlflowClient; MlflowClient('sqlite:///{path}').search_experiments(max_results=1)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
    return path


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="bouts at the same time")
    parser.add_argument("--only", nargs="*", choices=BOUTS, default=list(BOUTS))
    parser.add_argument("--folder", type=Path, help="kept; default: one that is deleted where all is well")
    args = parser.parse_args()
    folder: Path = args.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(folder.resolve(), args.seed, counts_for(args.faults), empty_database(folder.resolve()))
    chosen = [name for name in BOUTS if name in args.only and any(campaign.counts[each] for each in BOUTS[name][1])]
    faults, verdicts, begun, is_bad = Counter[str](), dict[str, list[object]](), time.monotonic(), False
    print(
        f"{'class':<38} {'faults':>6} {'lost':>5} {'doubled':>7} {'wrong':>5} {'untidy':>6} {'again':>5} {'s':>6}",
        flush=True,
    )
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = {pool.submit(fight, campaign, name): name for name in chosen}
        for ended in as_completed(waiting):
            bout = ended.result()
            faults += bout.faults
            for name in dict.fromkeys((*bout.faults, *bout.verdicts)):
                verdict = bout.verdicts.get(name, Verdict())
                is_bad = is_bad or verdict.is_bad
                row = [verdict.lost, verdict.doubled, verdict.wrong, verdict.untidy, verdict.again]
                verdicts.setdefault(name, []).append([bout.faults[name], *row, round(bout.seconds)])
                widths = zip(row, (5, 7, 5, 6, 5), strict=True)
                counted = " ".join(f"{value:>{width}}" for value, width in widths)
                print(f"{name:<38} {bout.faults[name]:>6} {counted} {bout.seconds:>6.0f}", flush=True)
                for note in verdict.notes[:10]:
                    print(f"    {note}", flush=True)
            for name, reason in bout.skipped.items():
                print(f"{name:<38} skipped: {reason}", flush=True)
    print(
        f"{faults.total()} faults in {time.monotonic() - begun:.0f} s; seconds are of the bout that a class is part of"
    )
    (folder / "table.json").write_text(json.dumps(verdicts, indent=1))
    if not is_bad and args.folder is None:
        shutil.rmtree(folder)
    elif is_bad:
        print(f"kept: {folder}")
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
