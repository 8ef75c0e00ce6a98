"""A real MLflow server behind a line that breaks: what one that is killed, slow or gone is like for its clients."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

Break = Literal["refuse", "cut", "swallow", "slow"]
BREAKS: tuple[Break, ...] = ("refuse", "cut", "swallow", "slow")
SLOW_SECONDS = 7.0
"""Longer than clients wait."""


class ShakyServer:
    """A server on this machine, and the line to it.

    Args:
        folder: for its database, begun as a copy of `database`, and its artifacts.
    """

    def __init__(self, folder: Path, database: Path) -> None:
        folder.mkdir()
        self.database = folder / "mlflow.db"
        shutil.copy(database, self.database)
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self._line = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._line.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None
        self.is_gone = False
        self.struck = 0
        self._planned: list[Break] = []
        self._hand = random.Random(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def start(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.database}"]
        artifacts = ["--artifacts-destination", str(self._folder / "artifacts")]
        place = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *place],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
        )
        begun = time.monotonic()
        while time.monotonic() - begun < 900:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{self._port}/health", timeout=30) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise TimeoutError("the MLflow server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def plan(self, breaks: list[Break], seed: int) -> None:
        """Let so many requests to come, not far apart, meet these breaks."""
        self._hand = random.Random(seed)
        self._planned = list(breaks)

    @property
    def left(self) -> int:
        return len(self._planned)

    def _accept(self) -> None:
        while True:
            client, _ = self._line.accept()
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """Carry requests to the server and answers back, until one side ends or the line breaks."""
        with client, suppress(OSError):
            if self.is_gone:
                return
            with socket.create_connection(("127.0.0.1", self._port), timeout=120) as server:
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()
                while content := client.recv(1 << 16):
                    broken = self._planned.pop() if self._planned and self._hand.random() < 0.15 else None
                    self.struck += broken is not None
                    match broken:
                        case "refuse":
                            return
                        case "cut":
                            server.sendall(content[: len(content) // 2])
                            return
                        case "swallow":
                            # The server does what it was asked, and nobody hears of it.
                            client.shutdown(socket.SHUT_RDWR)
                            server.sendall(content)
                            time.sleep(2)
                            return
                        case "slow":
                            time.sleep(SLOW_SECONDS)
                    if self.is_gone:
                        return
                    server.sendall(content)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_RDWR)
