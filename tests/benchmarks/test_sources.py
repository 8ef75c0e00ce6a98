"""Fetching a small data set: from this machine, from a Debian archive, and from a server on this machine."""

import gzip
import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import datasets, sources
from benchmarks.datasets import DATASETS, Dataset, FetchError
from dqss.registry import UnknownNameError

# Incompressible, so that a cut somewhere in the middle leaves some of each file.
CONTENTS = {
    f"{name}.gz": b"".join(hashlib.sha256(f"{name}{i}".encode()).digest() for i in range(5000)) for name in "ab"
}
FILES = {name: gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}


@dataclass
class Site:
    """What the server offers, and what it was asked for.

    Args:
        cut_after: path -> bytes after which its next response breaks off, once.
        requests: (path, Range header) of each request.
    """

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    cut_after: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    site = Site(dict(FILES))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, asked = self.path.removeprefix("/"), self.headers["Range"]
            site.requests.append((name, asked))
            if name not in site.files:
                self.send_error(404)
                return
            content = site.files[name]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + site.cut_after.pop(name, len(content))])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/"
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def dataset(monkeypatch, tmp_path) -> Dataset:
    """Return a data set that no source has, on a machine without apt."""
    monkeypatch.setenv("DQSS_DATA", str(tmp_path / "home"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return install(monkeypatch, tmp_path, "http://127.0.0.1:1/")


@pytest.fixture
def online(monkeypatch, tmp_path, dataset, site) -> Dataset:
    """Return a data set that only the server has."""
    return install(monkeypatch, tmp_path, site.url)


def install(monkeypatch, tmp_path: Path, url: str) -> Dataset:
    dataset = replace(
        DATASETS["fashion-mnist"],
        name="small",
        files={name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()},
        system_folder=tmp_path / "system",
        debian_package="dataset-small",
        url=url,
    )
    monkeypatch.setitem(DATASETS, "small", dataset)
    return dataset


def put(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def program(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "bin" / name
    path.write_text(f"#!{sys.executable}\nimport sys, pathlib, shutil, time\n{text}\n")
    path.chmod(0o755)


def fetch(dest: Path | None = None) -> Path:
    return datasets.fetch("small", dest, lambda stage, done, total: None)


def left_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(UnknownNameError, match=r"no data set 'fashion-mnits'\. Did you mean 'fashion-mnist'"):
        datasets.fetch("fashion-mnits", None, lambda stage, done, total: None)
    with pytest.raises(UnknownNameError, match=r"set5 cannot be fetched: bring it yourself"):
        datasets.fetch("set5", None, lambda stage, done, total: None)


def test_a_right_system_copy_is_used_where_it_is(dataset, tmp_path):
    folder = put(tmp_path / "system")
    assert fetch() == folder
    assert not (tmp_path / "home").exists()


def test_a_right_copy_in_the_users_folder_is_left_alone(online, site, tmp_path):
    folder = put(tmp_path / "home" / "small")
    assert fetch() == folder
    assert site.requests == []


def test_the_system_copy_is_copied_to_an_explicit_destination(dataset, tmp_path):
    put(tmp_path / "system")
    assert fetch(tmp_path / "deep" / "dest") == tmp_path / "deep" / "dest"
    assert left_in(tmp_path / "deep" / "dest") == FILES


def test_a_broken_system_copy_is_not_taken(online, tmp_path):
    put(tmp_path / "system", {**FILES, "a.gz": b"broken"})
    assert fetch() == tmp_path / "home" / "small"
    assert left_in(tmp_path / "home" / "small") == FILES


def test_a_broken_file_in_the_users_folder_is_replaced(online, site, tmp_path):
    put(tmp_path / "home" / "small", {**FILES, "a.gz": b"broken"})
    assert left_in(fetch()) == FILES
    assert site.requests == [("a.gz", None)]


def test_the_debian_archive_is_unpacked_and_nothing_is_installed(dataset, tmp_path):
    put(tmp_path / "archive")
    program(tmp_path, "apt-get", "assert sys.argv[1:] == ['-q', 'download', 'dataset-small']\nopen('x_all.deb', 'w')")
    unpacked = "/".join(dataset.system_folder.parts[1:])
    program(
        tmp_path,
        "dpkg-deb",
        f"assert sys.argv[1:3] == ['-x', 'x_all.deb']\n"
        f"shutil.copytree({str(tmp_path / 'archive')!r}, pathlib.Path(sys.argv[3], {unpacked!r}))",
    )
    assert left_in(fetch()) == FILES
    assert not dataset.system_folder.exists()


def test_a_debian_archive_of_another_content_is_refused(dataset, tmp_path):
    unpacked = "/".join(dataset.system_folder.parts[1:])
    put(tmp_path / "archive", {name: gzip.compress(b"another") for name in FILES})
    program(tmp_path, "apt-get", "open('x_all.deb', 'w')")
    program(
        tmp_path,
        "dpkg-deb",
        f"shutil.copytree({str(tmp_path / 'archive')!r}, pathlib.Path(sys.argv[3], {unpacked!r}))",
    )
    with pytest.raises(FetchError, match=r"Debian package's archive: a\.gz: a content of SHA-256 \w{64} instead of"):
        fetch()
    assert left_in(tmp_path / "home" / "small") == {}


def test_what_apt_says_is_told(dataset, tmp_path):
    program(tmp_path, "dpkg-deb", "")
    program(tmp_path, "apt-get", "sys.exit('E: Unable to locate package')")
    with pytest.raises(
        FetchError, match="`apt-get -q download dataset-small` ended with status 1: E: Unable to locate"
    ):
        fetch()


def test_an_apt_that_hangs_is_ended(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "APT_SECONDS", 0.2)
    program(tmp_path, "dpkg-deb", "")
    program(tmp_path, "apt-get", "time.sleep(600)")
    with pytest.raises(FetchError, match=r"did not end within 0\.2 s"):
        fetch()


def test_the_server_is_asked_for_what_is_missing_only(online, site, tmp_path):
    put(tmp_path / "dest", {"b.gz": FILES["b.gz"]})
    assert left_in(fetch(tmp_path / "dest")) == FILES
    assert site.requests == [("a.gz", None)]
    fetch(tmp_path / "dest")
    assert len(site.requests) == 1


def test_progress_ends_at_the_size_of_each_file(online):
    calls = []
    datasets.fetch("small", None, lambda *call: calls.append(call))
    last = {stage: (done, total) for stage, done, total in calls}
    assert last == {f"downloading {name}": (len(content),) * 2 for name, content in FILES.items()}


def test_a_cut_connection_is_resumed_where_it_ended(online, site):
    site.cut_after = {"a.gz": 70_000}
    assert left_in(fetch()) == FILES
    assert site.requests == [("a.gz", None), ("a.gz", "bytes=70000-"), ("b.gz", None)]


def test_the_next_command_resumes_what_an_earlier_one_left(online, site, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "HTTP_ATTEMPTS", 1)
    site.cut_after = {"a.gz": 70_000}
    with pytest.raises(FetchError, match="what came is kept, run this again"):
        fetch()
    assert left_in(tmp_path / "home" / "small") == {"a.gz.part": FILES["a.gz"][:70_000]}
    assert left_in(fetch()) == FILES
    assert ("a.gz", "bytes=70000-") in site.requests


def test_a_server_that_cannot_resume_sends_all_again(online, site):
    site.ranges = False
    site.cut_after = {"a.gz": 70_000}
    assert left_in(fetch()) == FILES


@pytest.mark.parametrize("size", [1000, 10**6])
def test_a_part_of_something_else_is_thrown_away(online, site, tmp_path, size):
    put(tmp_path / "home" / "small", {"a.gz.part": b"?" * size})
    assert left_in(fetch()) == FILES


def test_a_part_that_is_whole_needs_no_request(online, site, tmp_path):
    put(tmp_path / "home" / "small", {"a.gz.part": FILES["a.gz"]})
    assert left_in(fetch()) == FILES
    assert site.requests == [("b.gz", None)]


@pytest.mark.parametrize("content", [gzip.compress(b"another"), b"<html>log in first</html>"])
def test_another_content_is_refused_and_not_kept(online, site, tmp_path, content):
    site.files["a.gz"] = content
    with pytest.raises(FetchError, match=r"a\.gz: .*refused"):
        fetch()
    assert left_in(tmp_path / "home" / "small") == {}


def test_the_message_names_every_source_the_reasons_and_the_way_by_hand(online, site, tmp_path):
    site.files.clear()
    with pytest.raises(FetchError) as caught:
        fetch()
    message = str(caught.value)
    folder = tmp_path / "home" / "small"
    assert f"no complete and right copy in {folder} or {tmp_path / 'system'}" in message
    assert "apt-get and dpkg-deb not on this machine" in message
    assert f"{site.url}a.gz: HTTP status 404" in message
    assert f"put a.gz, b.gz into {folder}" in message
    assert site.url in message.splitlines()[-1]


def test_no_server_is_one_reason(dataset):
    with pytest.raises(FetchError, match=r"over HTTP: http://127\.0\.0\.1:1/a\.gz: .*refused"):
        fetch()


def test_files_put_by_hand_are_accepted(dataset, tmp_path):
    with pytest.raises(FetchError) as caught:
        fetch(tmp_path / "dest")
    folder = re.search(r"put a\.gz, b\.gz into (\S+),", str(caught.value))
    assert folder is not None
    assert fetch(put(Path(folder[1]))) == tmp_path / "dest"


def test_a_destination_that_cannot_be_made_is_told(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match=r"cannot make the folder .*file/dest: Not a directory"):
        fetch(tmp_path / "file" / "dest")
