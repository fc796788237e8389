"""Models of the hub: single files of one commit, and of a donor in many files only those that are needed.

The hub's own client speaks to a server on this machine that answers as the hub does.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Language = Callable[..., Any]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RUN = """
import json, sys
from pathlib import Path
from caprl_core.errors import BadInputError
from caprl_core.pretraining.initialise import initialise
from caprl_core.pretraining.sources import ModelSource

given = json.loads(sys.argv[1])
try:
    made = initialise(ModelSource.open(*given["vision"]), ModelSource.open(*given["language"]), Path(given["out"]))
    print(json.dumps(made))
except BadInputError as error:
    print(json.dumps({"error": str(error)}))
"""


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories with one commit, and remembers which files were asked for."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = repositories
        self.fetched: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        if path.startswith("api/models/"):
            name, _, revision = path.removeprefix("api/models/").partition("/revision/")
            folder = self.server.repositories.get(name)
            if folder is None:
                self._send(401, b"", {"X-Error-Message": "Invalid username or password."})
            elif revision not in ("", "main", COMMIT):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            else:
                files = [{"rfilename": one.name} for one in folder.iterdir()]
                value = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "tags": [], "private": False}
                self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})
            return
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        content = (self.server.repositories[name] / file).read_bytes()
        assert revision == COMMIT  # once a commit is known, everything comes from it
        if self.command == "GET":
            self.server.fetched.append(f"{name}/{file}")
        etag = hashlib.sha256(content).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the test looks at what was fetched."""


@pytest.fixture
def hub(donor: Any, language: Language) -> Iterator[Hub]:
    """A donor in three files, of which the first has the tower and the others its own words, and a language model."""
    words = language()
    tensors = donor.tensors()
    names = sorted(tensors, key=lambda name: not name.startswith("visual."))
    tower = sum(name.startswith("visual.") for name in names)
    donor.store_as({name: 1 if place < tower else 2 + place % 2 for place, name in enumerate(names)})
    words.store(words.tensors(), shards=2)
    server = Hub({"Qwen/Tiny-VL": donor.folder, "Qwen/Tiny": words.folder})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(hub: Hub, folder: Path, vision: tuple[str, ...], language: tuple[str, ...], **environment: str) -> Any:
    """What a process makes, or is told, that knows no other hub."""
    given = {"vision": vision, "language": language, "out": str(folder / "out")}
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(given)],
        env={name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
        | variables
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_only_what_is_needed_is_fetched_and_the_commit_is_recorded(hub: Hub, tmp_path: Path) -> None:
    made = run(hub, tmp_path, ("Qwen/Tiny-VL", "main"), ("Qwen/Tiny",))
    assert (made["vision"]["name"], made["vision"]["revision"]) == ("Qwen/Tiny-VL", COMMIT)
    assert (made["language"]["name"], made["language"]["revision"]) == ("Qwen/Tiny", COMMIT)
    weights = sorted(name for name in hub.fetched if name.endswith(".safetensors"))
    assert weights == [
        "Qwen/Tiny-VL/model-00001-of-00003.safetensors",
        "Qwen/Tiny/model-00001-of-00002.safetensors",
        "Qwen/Tiny/model-00002-of-00002.safetensors",
    ]
    assert len(hub.fetched) == len(set(hub.fetched))
    card = (tmp_path / "out/README.md").read_text()
    assert "base_model:\n- Qwen/Tiny-VL\n- Qwen/Tiny\n" in card and f"revision `{COMMIT}`" in card


@pytest.mark.parametrize(
    ("vision", "environment", "said"),
    [
        (("Qwen/Nobody",), {}, "Qwen/Nobody: no such folder, and the hub does not give it either"),
        (("Qwen/Tiny-VL", "no-such-branch"), {}, "the hub does not give it either"),
        (("models/two words/x",), {}, "models/two words/x: no such folder"),
        (("Qwen/Tiny-VL",), {"HF_HUB_OFFLINE": "1"}, "download it elsewhere and name its folder"),
        (("Qwen/Tiny-VL",), {"HF_ENDPOINT": "http://127.0.0.1:9"}, "download it elsewhere and name its folder"),
    ],
)
def test_what_the_hub_does_not_give_is_said(
    hub: Hub, tmp_path: Path, vision: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    assert said in run(hub, tmp_path, vision, ("Qwen/Tiny",), **environment)["error"]
    assert not (tmp_path / "out").exists()
