"""Images from the web: bounded in time and size, and never from an address inside."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.data.reasons import Reason
from caprl_core.data.roots.public_network import ForbiddenAddressError, PublicNetwork, is_public
from caprl_core.data.roots.web import WebImages
from caprl_core.errors import SampleFailedError, StoreError
from caprl_core.recipe.models import WebExecution

LIMIT = 1000
BODY = b"\x89PNG" + bytes(500)
PRIVATE_ALLOWED = WebExecution(allow_private=True, timeout_s=10)


class Site:
    """A web server whose pages are functions of the request handler; it counts what is asked of it."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.ended = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.pages.get(self.path, lambda handler: reply(handler, 404))(self)

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.port = self.server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def redirect(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, 302, Location=target)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.pages["/image.png"] = lambda handler: reply(handler, body=BODY)
    yield site
    site.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for pictures.example, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pictures.example")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pictures.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password) + signed.public_bytes(pem))
    return path


async def fetch(url: str, web: WebExecution = PRIVATE_ALLOWED, network: PublicNetwork | None = None) -> bytes:
    images = WebImages(web, connections=4, network=network)
    try:
        return await images.fetch(url, LIMIT)
    finally:
        await images.close()


async def reason(url: str, web: WebExecution = PRIVATE_ALLOWED, network: PublicNetwork | None = None) -> Reason:
    with pytest.raises(SampleFailedError) as caught:
        await fetch(url, web, network)
    return Reason(caught.value.reason)


async def test_the_body_comes_back(site):
    assert await fetch(f"{site.url}/image.png") == BODY


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, Reason.IMAGE_MISSING),
        (410, Reason.IMAGE_MISSING),
        (403, Reason.IMAGE_UNREADABLE),
        (204, Reason.IMAGE_UNREADABLE),
    ],
)
async def test_final_answers_are_not_repeated(site, status, expected):
    site.pages["/x"] = lambda handler: reply(handler, status)
    assert await reason(f"{site.url}/x") == expected
    assert site.asked == ["/x"]


@pytest.mark.parametrize("fault", ["500", "503", "429", "hang up", "cut"])
async def test_passing_faults_are_retried(site, fault):
    def page(handler: BaseHTTPRequestHandler) -> None:
        if len(site.asked) > 2:
            reply(handler, body=BODY)
        elif fault.isdigit():
            reply(handler, int(fault))
        else:
            if fault == "cut":
                reply(handler, body=BODY[:100], Content_Length=str(len(BODY)))
            handler.close_connection = True

    site.pages["/x"] = page
    assert await fetch(f"{site.url}/x") == BODY
    assert len(site.asked) == 3


async def test_retries_end(site):
    site.pages["/x"] = lambda handler: reply(handler, 500)
    assert await reason(f"{site.url}/x", WebExecution(allow_private=True, retries=2)) == Reason.IMAGE_UNREADABLE
    assert len(site.asked) == 3


async def test_a_body_larger_than_the_limit_is_refused_by_its_length_and_while_it_streams(site):
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, Content_Length=str(2**40))

    def unsized(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not site.ended.is_set():
            try:
                sent.append(handler.wfile.write(bytes(2**16)))
            except OSError:
                return

    site.pages |= {"/endless": endless, "/unsized": unsized}
    assert await reason(f"{site.url}/endless") == Reason.IMAGE_TOO_LARGE
    assert await reason(f"{site.url}/unsized") == Reason.IMAGE_TOO_LARGE
    assert len(site.asked) == 2


@pytest.mark.parametrize("stage", ["before the answer", "inside the body"])
async def test_the_time_of_one_image_is_bounded_however_it_trickles(site, stage):
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        if stage == "inside the body":
            reply(handler, Content_Length="900")
        while not site.ended.wait(0.05) and stage == "inside the body":
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    site.pages["/x"] = trickle
    web = WebExecution(allow_private=True, timeout_s=0.5, retries=100)
    async with asyncio.timeout(20):
        assert await reason(f"{site.url}/x", web) == Reason.IMAGE_UNREADABLE


async def test_redirects_are_followed_up_to_five(site):
    for number in range(6):
        site.pages[f"/{number}"] = redirect(f"/{number + 1}" if number % 2 else f"{site.url}/{number + 1}")
    site.pages["/5"] = lambda handler: reply(handler, body=BODY)
    assert await fetch(f"{site.url}/0") == BODY
    site.pages["/5"] = redirect("/6")
    site.pages["/6"] = lambda handler: reply(handler, body=BODY)
    assert await reason(f"{site.url}/0") == Reason.IMAGE_UNREADABLE


async def test_inner_addresses_are_refused_without_a_connection(site):
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "2130706433"):
        assert await reason(f"https://{host}:{site.port}/image.png", WebExecution()) == Reason.IMAGE_FORBIDDEN
    assert site.asked == []


async def test_plain_http_is_refused(site):
    assert await reason(f"{site.url}/image.png", WebExecution()) == Reason.IMAGE_FORBIDDEN
    assert site.asked == []


def network_of(addresses: dict[str, list[list[str]]], allowed: str = "127.0.0.1") -> PublicNetwork:
    """A network where names resolve as told, one list of addresses a look-up, and one loopback address is public."""

    async def resolver(host: str, port: int) -> list[str]:
        answers = addresses.get(host)
        if answers is None:
            return [host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    return PublicNetwork(allowed=lambda address: str(address) == allowed, resolver=resolver)


@pytest.fixture
def tls_site(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    site = Site(certificate)
    site.pages["/image.png"] = lambda handler: reply(handler, body=BODY)
    yield site
    site.close()


async def test_the_certificate_is_checked_against_the_name_not_the_address(tls_site):
    network = network_of({"pictures.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    url = f"https://pictures.example:{tls_site.port}/image.png"
    assert await fetch(url, WebExecution(), network) == BODY
    wrong = url.replace("pictures", "other")
    assert await reason(wrong, WebExecution(retries=0), network) == Reason.IMAGE_UNREADABLE


@pytest.mark.parametrize(
    "target", ["https://127.0.0.2/x", "https://inside.example/x", "http://pictures.example/x", "file:///etc/passwd"]
)
async def test_a_redirect_cannot_lead_inside_or_off_https(tls_site, target):
    network = network_of({"pictures.example": [["127.0.0.1"]], "inside.example": [["10.0.0.1"]]})
    tls_site.pages["/jump"] = redirect(target)
    url = f"https://pictures.example:{tls_site.port}/jump"
    assert await reason(url, WebExecution(), network) == Reason.IMAGE_FORBIDDEN
    assert tls_site.asked == ["/jump"]


async def test_a_name_that_changes_its_address_is_checked_each_time(tls_site):
    network = network_of({"pictures.example": [["127.0.0.1"], ["127.0.0.2"]]})
    images = WebImages(WebExecution(), connections=4, network=network)
    tls_site.pages["/bye"] = lambda handler: reply(handler, body=BODY, Connection="close")
    url = f"https://pictures.example:{tls_site.port}"
    assert await images.fetch(f"{url}/bye", LIMIT) == BODY
    with pytest.raises(SampleFailedError, match=r"127\.0\.0\.2, which is not public"):
        await images.fetch(f"{url}/image.png", LIMIT)
    await images.close()


async def test_only_the_allowed_of_several_addresses_is_connected_to(tls_site):
    network = network_of({"pictures.example": [["127.0.0.2", "10.1.2.3", "127.0.0.1"]]})
    assert await fetch(f"https://pictures.example:{tls_site.port}/image.png", WebExecution(), network) == BODY


async def test_a_local_socket_is_never_opened():
    with pytest.raises(ForbiddenAddressError):
        await PublicNetwork().connect_unix_socket("/run/x.sock")
    with pytest.raises(httpcore.ConnectError):
        await PublicNetwork().connect_tcp("no-such-host.invalid", 443)


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::"])
def test_public_addresses(text):
    assert is_public(ipaddress.ip_address(text))


INNER = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"]


@pytest.mark.parametrize("text", [*INNER, "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1"])
def test_inner_addresses(text):
    assert not is_public(ipaddress.ip_address(text))


@given(inner=st.sampled_from(INNER), form=st.sampled_from(["::ffff:{}", "64:ff9b::{}", "6to4", "teredo"]))
def test_ipv6_forms_of_inner_addresses_are_inner_too(inner, form):
    number = int(ipaddress.IPv4Address(inner))
    if form == "6to4":
        text = f"2002:{number >> 16:x}:{number & 0xFFFF:x}::"
    elif form == "teredo":
        flipped = number ^ 0xFFFFFFFF  # Teredo carries the complement
        text = f"2001::{flipped >> 16:x}:{flipped & 0xFFFF:x}"
    else:
        text = form.format(inner)
    assert not is_public(ipaddress.ip_address(text))


async def test_the_reader_fetches_addresses_and_https_roots(site, open_reader):
    reading = open_reader("table", "t.csv", roots={"": "/absent"}, web={"allow_private": True})
    assert await reading(f"{site.url}/image.png") == BODY
    with pytest.raises(SampleFailedError, match="image_missing"):
        await reading(f"{site.url}/none.png")


async def test_an_https_root_joins_quoted_paths(tls_site, open_reader):
    tls_site.pages["/base/a%20b%3F/%C3%BC.png"] = lambda handler: reply(handler, body=BODY)
    root = f"https://localhost:{tls_site.port}/base"
    reading = open_reader("table", "t.csv", roots={"web": root}, web={"allow_private": True, "retries": 0})
    # The certificate is for another name: the host cannot be used, so the root is named, not the sample.
    with pytest.raises(StoreError, match="source src, root 'web'"):
        await reading("web/a b?/ü.png")


async def test_an_https_root_that_does_not_answer_stops_the_run(open_reader):
    reading = open_reader(
        "table", "t.csv", roots={"web": "https://no-such-host.invalid/base"}, web={"retries": 1, "timeout_s": 5}
    )
    with pytest.raises(StoreError, match="source src, root 'web'"):
        await reading("web/1.jpg")
