"""The stub server is a server: deterministic, reachable from the command line, and gone when told to."""

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request

from caprl_core.world.stub_server import StubBehaviour, StubServer


def post(url: str, text: str) -> dict:
    body = json.dumps({"model": "stub", "messages": [{"role": "user", "content": text}], "max_tokens": 100}).encode()
    request = urllib.request.Request(url + "/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


async def test_the_same_request_gets_the_same_reply_and_others_get_others() -> None:
    async with StubServer() as one, StubServer() as two, StubServer(StubBehaviour(seed=1)) as other:
        texts = [
            (await asyncio.to_thread(post, server.url, text))["choices"][0]["message"]["content"]
            for server, text in [(one, "a"), (two, "a"), (one, "b"), (other, "a")]
        ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


async def test_places_limit_what_is_worked_on_at_once() -> None:
    order = []
    async with StubServer(StubBehaviour(median_s=0.05, places=1)) as server:

        async def one(text: str) -> None:
            await asyncio.to_thread(post, server.url, text)
            order.append(text)

        await asyncio.gather(*(one(str(number)) for number in range(4)))
        assert server.most_in_flight > 1
    assert len(order) == 4


def test_the_command_serves_until_a_signal_comes() -> None:
    command = [sys.executable, "-m", "caprl_core.world.stub_server", "--model", "stub", "--rate", "500=0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert post(url, "hello")["usage"]["completion_tokens"] > 0
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
