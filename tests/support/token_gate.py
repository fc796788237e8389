"""An S3 endpoint that looks at session tokens: in front of a real server that takes any."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REFUSAL = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


class TokenGate:
    """Only requests whose token is in `good` pass; others get `status` and S3's ExpiredToken. Counts those refused."""

    def __init__(self, upstream: str) -> None:
        self.good: set[str] = set()
        self.status = 400  # what AWS answers
        self.refused = 0
        self.seen: set[str] = set()
        target = urlsplit(upstream)
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                token = str(self.headers.get("x-amz-security-token"))
                gate.seen.add(token)
                if token not in gate.good:
                    gate.refused += 1
                    self._answer(gate.status, [], REFUSAL)
                    return
                upstream_connection = http.client.HTTPConnection(str(target.hostname), int(target.port or 80))
                try:
                    upstream_connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream_connection.putheader(name, value)
                    upstream_connection.endheaders(body)
                    reply = upstream_connection.getresponse()
                    content = reply.read()
                finally:
                    upstream_connection.close()
                passed = [(n, v) for n, v in reply.getheaders() if n.lower() not in ("connection", "transfer-encoding")]
                self._answer(reply.status, passed, content)

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if "content-length" not in {name.lower() for name, _ in headers}:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
