"""A small server for a package's files: on loopback, in this process, for as long as it lives."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any


def served(folder: Path) -> int:
    """Return the port where the folder's files are; the first time a server is started."""
    return _served(os.getpid(), folder)


@functools.cache
def _served(process: int, folder: Path) -> int:
    handler = functools.partial(_Files, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, name="files", daemon=True).start()
    return int(server.server_address[1])


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files and nothing else: no lists of folders, no log; whoever hangs up is not an error."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".html": "text/html; charset=utf-8"}  # noqa: RUF012
    timeout = 10.0

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return
