import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import storage
from benchmarks.owner import Owner
from benchmarks.storage import StorageError, delete_orphans, set_aside, write_atomically

ROOT = Path(storage.__file__).parents[1]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interruption_while_writing_leaves_the_old_content_and_nothing_else(step, tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file.json"
    write_atomically(path, "old\n")

    def interrupt(*_):
        raise KeyboardInterrupt

    owner = storage.os if step == "fsync" else storage.Path
    monkeypatch.setattr(owner, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new\n")
    monkeypatch.undo()
    assert path.read_text() == "old\n"
    assert os.listdir(path.parent) == ["file.json"]
    write_atomically(path, "newer, ü\n")
    assert path.read_text(encoding="utf-8") == "newer, ü\n"
    write_atomically(path, b"\xff\x00")
    assert path.read_bytes() == b"\xff\x00"
    assert os.listdir(path.parent) == ["file.json"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device. Free some space on that disk, or name another folder"),
        (errno.EDQUOT, "Disk quota exceeded. Your quota there is used up"),
        (errno.EROFS, "Read-only file system. It is mounted read-only"),
        (errno.EIO, "Input/output error. Mend that, or name another folder"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line_with_what_to_do(number, advice, tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.os, "fsync", refuse)
    with pytest.raises(StorageError) as caught:
        write_atomically(tmp_path / "file.json", "new\n")
    assert str(caught.value).startswith(f"cannot write to the folder '{tmp_path}': {advice}")
    assert str(caught.value).endswith("what was finished before is whole, and the same command goes on from there.")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are POSIX")
def test_a_limit_on_the_size_of_files_leaves_the_old_content_and_nothing_else(tmp_path):
    """The system itself refuses, in the middle of the file."""
    path = tmp_path / "file.json"
    write_atomically(path, "old\n")
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from benchmarks.storage import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_atomically(Path(sys.argv[1]), 'x' * 10_000)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert "StorageError: cannot write to the folder" in ended.stderr
    assert "File too large. Raise the limit on the size of files (ulimit -f)" in ended.stderr
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot write to the folder '.*out': (File exists|Not a directory)"):
        write_atomically(tmp_path / "out" / "file.json", "new\n")


def a_writer(*, killed: bool) -> Owner:
    """Return a process that has ended, or one that still runs."""
    if not killed:
        return Owner.of_this_process()
    program = "from benchmarks.owner import Owner; print(Owner.of_this_process())"
    made = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return Owner.parse(made.stdout.strip())


def test_parts_of_killed_writers_alone_are_deleted(tmp_path):
    gone, here = a_writer(killed=True), a_writer(killed=False)
    assert (gone.is_gone, here.is_gone) == (True, False)
    elsewhere = Owner("0" * 12, gone.pid, gone.born)
    later = Owner(here.place, here.pid, here.born + 1)
    parts = {owner: tmp_path / f"file.json.{owner}.part" for owner in (gone, here, elsewhere, later)}
    for part in (*parts.values(), tmp_path / "theirs.part", tmp_path / "file.json.123.part"):
        part.write_text("half")
    delete_orphans(sorted(tmp_path.iterdir()))
    # A process that was born at another time is another one.
    assert {path.name for path in tmp_path.iterdir()} == {
        parts[here].name,
        parts[elsewhere].name,
        "theirs.part",
        "file.json.123.part",
    }


def test_a_process_that_its_parent_has_not_buried_is_gone():
    program = "from benchmarks.owner import Owner; print(Owner.of_this_process(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        owner = Owner.parse(process.stdout.read().strip())
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_gone


def test_what_is_set_aside_never_replaces_what_was_before(tmp_path):
    path = tmp_path / "file.json"
    for content in ("first", "second", "third"):
        path.write_text(content)
        set_aside(path)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "file.json.bad": "first",
        "file.json.bad-2": "second",
        "file.json.bad-3": "third",
    }
    with pytest.raises(FileNotFoundError):
        set_aside(path)
