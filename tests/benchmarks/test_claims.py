import errno
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import claims
from benchmarks.claims import STALE_SECONDS, Claims, Holder, in_turn
from benchmarks.storage import StorageError

ROOT = Path(claims.__file__).parents[1]
KEY = "a" * 64


class Clock:
    """Time as the one who waits sees it."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(claims.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def claim_elsewhere(folder: Path, key: str = KEY) -> Path:
    """Make a claim as a process of another machine makes it."""
    folder.mkdir(exist_ok=True)
    path = folder / key
    path.write_text(json.dumps({"host": "node7", "owner": f"{'0' * 12}-17-4711", "token": "t"}))
    return path


def test_a_cell_is_claimed_by_one_until_it_is_released(tmp_path):
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    claim = one.claim(KEY)
    assert claim.is_held
    assert (one.claim(KEY), other.claim(KEY)) == (None, None)
    assert str(other.holder(KEY)).startswith(f"process {os.getpid()} on ")
    assert other.claim("b" * 64) is not None
    with claim:
        pass
    assert not claim.is_held
    assert other.claim(KEY) is not None


def test_the_folder_goes_when_nothing_is_claimed(tmp_path):
    folder = tmp_path / "claims"
    one = Claims(folder)
    claim = one.claim(KEY)
    one.close()
    assert folder.is_dir()
    claim.release()
    one.close()
    assert not folder.exists()
    assert one.claim(KEY) is not None


def test_a_run_that_ends_meanwhile_takes_the_folder_from_under_nobody(tmp_path, monkeypatch):
    folder, make, made = tmp_path / "claims", Path.mkdir, []

    def mkdir(self, *args, **options):
        make(self, *args, **options)
        made.append(self)
        if len(made) == 1:
            Claims(folder).close()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert Claims(folder).claim(KEY).is_held


def test_who_cannot_make_a_claim_leaves_that_of_another(tmp_path, monkeypatch):
    """As where too many files are open, which the system says before it looks whether there is one."""
    theirs = claim_elsewhere(tmp_path / "claims")
    opened = Path.open

    def refused(self, mode="r", **options):
        if mode == "xb":
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(self, mode, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(StorageError, match="Too many open files"):
        Claims(theirs.parent).claim(KEY)
    assert theirs.exists()


RACE = """\
import sys
import time
from pathlib import Path
from benchmarks.claims import Claims

folder, start, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
claims = Claims(folder)
print("ready", flush=True)
while not start.exists():
    time.sleep(0.001)
won = [i for i in range(count) if claims.claim(f"{i:064}") is not None]
print(*won, flush=True)
# They are held until all have tried.
sys.stdin.read()
"""


def race(folder: Path, start: Path, count: int) -> list[int]:
    """Let three processes claim the same cells at once; return what they won, sorted."""
    command = [sys.executable, "-c", RACE, str(folder), str(start), str(count)]
    racers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    start.touch()
    won = [racer.stdout.readline().split() for racer in racers]
    for racer in racers:
        racer.communicate("")
    return sorted(int(i) for each in won for i in each)


def test_of_processes_that_claim_a_cell_at_once_one_gets_it(tmp_path):
    assert race(tmp_path / "claims", tmp_path / "start", 200) == list(range(200))
    # All have ended without a release, as killed ones do: the next ones race for what is left behind.
    assert race(tmp_path / "claims", tmp_path / "again", 200) == list(range(200))


def test_the_claim_of_a_process_that_ended_is_taken_over_at_once(tmp_path):
    folder = tmp_path / "claims"
    program = (
        f"from pathlib import Path; from benchmarks.claims import Claims; Claims(Path({str(folder)!r})).claim({KEY!r})"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert os.listdir(folder) == [KEY]
    claim = Claims(folder).claim(KEY)
    assert claim.is_held
    assert os.listdir(folder) == [KEY]
    claim.release()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    theirs = claim_elsewhere(folder, "b" * 64)
    Claims(folder).close()
    assert os.listdir(folder) == [theirs.name]


def test_a_claim_of_another_machine_is_taken_over_when_it_has_not_changed_for_long(tmp_path, clock):
    path = claim_elsewhere(tmp_path / "claims")
    waiting = Claims(tmp_path / "claims")
    assert str(waiting.holder(KEY)) == "process 17 on node7"
    assert waiting.claim(KEY) is None
    clock.now += STALE_SECONDS
    assert waiting.claim(KEY) is None
    os.utime(path)
    clock.now += 1
    # It has been renewed meanwhile.
    assert waiting.claim(KEY) is None
    clock.now += STALE_SECONDS + 1
    assert waiting.claim(KEY).is_held


@pytest.mark.parametrize("moved", [-(10**9), -3600, 3600, 10**9])
def test_a_clock_that_is_set_makes_no_claim_look_old(moved, tmp_path, clock):
    path = claim_elsewhere(tmp_path / "claims")
    waiting = Claims(tmp_path / "claims")
    for _ in range(3):
        now = path.stat().st_mtime + moved
        os.utime(path, (now, now))
        assert waiting.claim(KEY) is None
        clock.now += STALE_SECONDS
    assert waiting.claim(KEY) is None


def test_a_claim_that_says_nothing_is_taken_over_when_it_is_old(tmp_path, clock):
    """Its holder was killed between making the file and writing it, or is about to write it."""
    (tmp_path / KEY).touch()
    waiting = Claims(tmp_path)
    assert waiting.claim(KEY) is None
    assert waiting.holder(KEY) is None
    clock.now += STALE_SECONDS + 1
    assert waiting.claim(KEY).is_held


def test_who_was_taken_over_neither_renews_nor_releases_the_claim_of_the_other(tmp_path, clock):
    slept = Claims(tmp_path).claim(KEY)
    waiting = Claims(tmp_path)
    assert waiting.claim(KEY) is None
    clock.now += STALE_SECONDS + 1
    taken = waiting.claim(KEY)
    assert (slept.is_held, taken.is_held) == (False, True)
    before = (tmp_path / KEY).stat()
    slept.renew()
    slept.release()
    assert (tmp_path / KEY).stat() == before


def test_a_new_claim_in_the_place_of_a_stale_one_is_put_back(tmp_path, clock):
    """Two find the same stale claim; the second comes to delete it when the first has put its own there."""
    claim_elsewhere(tmp_path)
    first, second = Claims(tmp_path), Claims(tmp_path)
    assert (first.claim(KEY), second.claim(KEY)) == (None, None)
    clock.now += STALE_SECONDS + 1
    stale = second._stale(tmp_path / KEY)
    taken = first.claim(KEY)
    second._remove(tmp_path / KEY, stale)
    assert taken.is_held
    assert os.listdir(tmp_path) == [KEY]


def test_a_claim_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
    path = tmp_path / KEY
    with Claims(tmp_path).claim(KEY):
        os.utime(path, (0, 0))
        for _ in range(1000):
            if path.stat().st_mtime > 0:
                break
            threading.Event().wait(0.01)
        assert path.stat().st_mtime > 0
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_told_and_leaves_no_claim(tmp_path):
    (tmp_path / "claims").write_text("a file")
    with pytest.raises(StorageError, match="cannot write to the folder"):
        Claims(tmp_path / "claims").claim(KEY)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"host": "a"}'])
def test_what_is_no_claim_names_no_holder(content):
    assert Holder.parse(content) is None


@dataclass(frozen=True)
class Thing:
    key: str


THINGS = [Thing(key) for key in "abcd"]


def test_cells_that_others_run_come_at_the_end_and_not_where_they_are_done_then(tmp_path, monkeypatch):
    others = Claims(tmp_path)
    held = {key: others.claim(key) for key in "bc"}
    done, waited, ran = set(), [], []

    def sleep(_):
        # While this one waits, the others end one cell, and give up another.
        if held:
            key, claim = held.popitem()
            done.update({"c"} & {key})
            claim.release()

    monkeypatch.setattr(claims.time, "sleep", sleep)
    is_left = lambda thing: thing.key not in done  # noqa: E731
    for thing in in_turn(THINGS, Claims(tmp_path), is_left, str, waited.append):
        ran.append(thing.key)
        assert os.listdir(tmp_path).count(thing.key) == 1
    assert ran == ["a", "d", "b"]
    assert waited == [THINGS[1:3]]
    assert os.listdir(tmp_path) == []


def test_who_follows_runs_what_the_one_who_leads_says(tmp_path):
    words = iter(["done", "left", "claimed", "done", "left"])
    given = list(in_turn(THINGS, None, pytest.fail, lambda _: next(words), pytest.fail))
    assert given == [THINGS[1], THINGS[2]]
    assert list(words) == []
