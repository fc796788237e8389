"""The HTTP side of the scripted server: one thread a connection, kept alive between requests."""

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Chat = Callable[[bytes], tuple[int, dict[str, Any]]]
"""From a chat request's body to the status and JSON of its answer."""


class ChatServer:
    """Serves `models` and answers chats by `chat` from the construction on, until `close`."""

    def __init__(self, models: tuple[str, ...], chat: Chat) -> None:
        class Handler(_Handler):
            answer = staticmethod(chat)
            served = models

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed in mid-request are what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    answer: Chat
    served: tuple[str, ...]

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in self.served]
        pages: dict[str, dict[str, Any]] = {
            "/v1/models": {"object": "list", "data": models},
            "/version": {"version": "1"},
            "/health": {},
        }
        self._send(200 if self.path in pages else 404, pages.get(self.path, {}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/chat/completions":
            self._send(*self.answer(body))
        else:
            self._send(404, {})

    def _send(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        """Quiet: the script keeps the books."""
