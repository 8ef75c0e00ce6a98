"""A web server for one site: reads its files, and nothing else."""

from __future__ import annotations

import os
import socket
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Server(ThreadingHTTPServer):
    """Serves a folder; `serve_forever` until it is interrupted.

    Args:
        host: an address of this machine, or a name of one.
        port: 0 for any that is free.
        site: the folder; it may be made later.

    Raises:
        OSError: no such address here, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, site: Path) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except UnicodeError as error:
            raise OSError(0, "no name of a machine") from error
        self.address_family = family
        self.site = site.resolve()
        super().__init__(address[:2], Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        # The base class asks a name server for a name, which may take long and is not used.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def address(self) -> str:
        """The address of the first page."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}/"


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of the site's files. No listing, nothing outside of the folder, not even through a link."""

    server: Server
    server_version, sys_version = "dqss-bench", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def __init__(self, request: Any, client_address: Any, server: Server) -> None:
        super().__init__(request, client_address, server, directory=str(server.site))

    def send_head(self) -> Any:
        try:
            inside = Path(os.path.realpath(self.translate_path(self.path))).is_relative_to(self.server.site)
        except ValueError:
            # A NUL, which no file has in its name.
            inside = False
        if not inside:
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND, "File not found")

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""
