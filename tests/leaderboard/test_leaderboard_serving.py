"""The web server of a site: real requests, to what it has and to what it must not give."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import cli
from leaderboard.serving import Server


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site" / "pages").mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text("<p>first</p>")
    (tmp_path / "site" / "pages" / "a.html").write_text("<p>a</p>")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "site" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "site" / "circle").symlink_to(tmp_path / "site" / "circle")
    (tmp_path / "site" / "out").symlink_to(tmp_path)
    return tmp_path / "site"


@pytest.fixture
def server(site):
    with Server("127.0.0.1", 0, site) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_pages_come_whole_with_their_kind_and_headers_that_forbid_guessing(server):
    assert server.address == f"http://127.0.0.1:{server.server_port}/"
    for path, expected in (("/", b"<p>first</p>"), ("/pages/a.html?x=1", b"<p>a</p>")):
        answer, content = ask(server, path)
        assert (answer.status, content) == (200, expected)
        assert answer.getheader("Content-Type") == "text/html"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Cache-Control") == "no-cache"
        assert "Python" not in answer.getheader("Server")
    answer, content = ask(server, "/", "HEAD")
    assert (answer.status, content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/none.html",
        "/pages/",
        "/link.txt",
        "/out/secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/pages/../../secret.txt",
        "//../secret.txt",
        "/%00",
        "/circle",
        "/" + "a" * 5000,
    ],
)
def test_nothing_outside_and_no_listing_is_given(path, server):
    answer, content = ask(server, path)
    assert answer.status == 404
    assert b"secret" not in content
    assert answer.getheader("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_written(method, server, site):
    before = sorted(path.name for path in site.iterdir())
    assert ask(server, "/new.html", method)[0].status == 501
    assert sorted(path.name for path in site.iterdir()) == before


def test_a_port_that_is_taken_is_told_before_the_site_is_made(tmp_path, cell, capsys):
    cell("dqss", [1, 1])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        site = tmp_path / "made"
        given = ["leaderboard", "serve", "--results", str(tmp_path), "--site", str(site), "--port", port]
        assert cli.main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dqss-bench: --host 127.0.0.1 --port {port}: Address already in use.")
    assert not site.exists()


@pytest.mark.parametrize("given", [["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--host", "no host"]])
def test_a_port_or_host_that_is_none_is_exit_2(given, tmp_path, capsys):
    assert cli.main(["leaderboard", "serve", "--results", str(tmp_path), *given]) == 2
    assert given[0] in capsys.readouterr().err


def test_nothing_to_serve_is_exit_2(tmp_path, capsys):
    assert cli.main(["leaderboard", "serve", "--results", str(tmp_path / "none"), "--port", "0"]) == 2
    assert "no folder" in capsys.readouterr().err


def test_the_command_serves_the_site_until_ctrl_c_and_leaves_nothing(tmp_path, cell):
    cell("dqss", [1, 1])
    folder = tmp_path / "temporary"
    folder.mkdir()
    words = [sys.executable, "-m", "benchmarks", "leaderboard", "serve", "--results", str(tmp_path), "--port", "0"]
    root = str(Path(__file__).parents[2])
    place = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": root}

    def heeds_ctrl_c() -> None:
        # Where the tests run in the background of a shell they ignore it, and what they start does too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=place, preexec_fn=heeds_ctrl_c, **pipes) as process:
        try:
            found = re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=120)
            connection.request("GET", "/methods.html")
            assert b"dqss" in connection.getresponse().read()
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
            assert process.stderr.read() == "dqss-bench: interrupted.\n"
        finally:
            process.kill()
    assert list(folder.iterdir()) == []
