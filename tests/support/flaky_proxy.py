"""An S3 endpoint that misbehaves for a while: a real HTTP proxy in front of a real server."""

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("error 500", "error 503", "slow", "half request", "half reply", "lost reply")


class FlakyProxy:
    """While `share` is above 0, that share of the requests meets one of `faults`; `seen` counts them."""

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.share = 0.0
        self.faults: tuple[str, ...] = FAULTS
        self.only: str | None = None  # a piece of the path that a request must have to be hit
        self.methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
        self.seen: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        target = urlsplit(upstream)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one(self) -> None:
                fault = proxy._fault(self.command, self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if fault.startswith("error"):
                    status = int(fault[-3:])
                    code = b"RequestTimeout" if status == 400 else b"SlowDown"  # as S3 has them
                    self._answer(status, [], b"<Error><Code>%s</Code></Error>" % code)
                    return
                if fault == "slow":
                    time.sleep(0.7)
                upstream_connection = http.client.HTTPConnection(
                    str(target.hostname), int(target.port or 80), timeout=20
                )
                try:
                    sent = body[: len(body) // 2] if fault == "half request" and body else body
                    upstream_connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream_connection.putheader(name, value)
                    upstream_connection.endheaders(sent)
                    if sent is not body:
                        self.close_connection = True
                        return
                    reply = upstream_connection.getresponse()
                    content = reply.read()
                finally:
                    upstream_connection.close()
                if fault == "lost reply":
                    self.close_connection = True
                    return
                headers = [
                    (n, v) for n, v in reply.getheaders() if n.lower() not in ("connection", "transfer-encoding")
                ]
                self._answer(reply.status, headers, content, cut=fault == "half reply")

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
                self.send_response_only(status)
                names = {name.lower() for name, _ in headers}
                for name, value in headers:
                    self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[: len(content) // 2] if cut else content)
                if cut:
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _fault(self, method: str, path: str) -> str:
        with self._lock:
            if (
                method not in self.methods
                or (self.only and self.only not in path)
                or self._random.random() >= self.share
            ):
                return ""
            fault = self._random.choice(self.faults)
            self.seen[fault] += 1
            return fault

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
