"""A root that is not there stops the run and is named; an image that is not there costs one sample."""

import http.client
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from caprl_core.data.reasons import Reason
from caprl_core.errors import BadInputError, SampleFailedError, StoreError

QUICK = {"retries": 3, "retry_timeout_s": 5.0, "timeout_s": 5.0}


async def reason(reading, image: str) -> Reason:
    with pytest.raises(SampleFailedError) as caught:
        await reading(image)
    return Reason(caught.value.reason)


async def test_an_absent_or_empty_folder_is_named(tmp_path, open_reader):
    (tmp_path / "mountpoint").mkdir()
    for folder in ("absent", "mountpoint"):
        reading = open_reader("table", "t.csv", roots={"sam/images": str(tmp_path / folder)})
        with pytest.raises(BadInputError, match=rf"source src, root 'sam/images' \(.*{folder}\)"):
            await reading("sam/images/1.jpg")


async def test_a_folder_that_vanishes_between_images_is_noticed(tmp_path, open_reader):
    folder = tmp_path / "mount"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"x")
    reading = open_reader("folder", str(folder))
    assert await reading("1.jpg") == b"x"
    assert await reason(reading, "2.jpg") == Reason.IMAGE_MISSING
    shutil.rmtree(folder)
    with pytest.raises(BadInputError, match="mount"):
        await reading("1.jpg")


async def test_archives_that_are_absent_or_damaged_are_named(place, open_reader):
    place.put("other.txt", b"x")
    with pytest.raises(BadInputError, match=r"root '' .*no file matches"):
        await open_reader("table", "t", roots={"": f"{place.uri}/*.zip"})("1.jpg")
    for name in ("bad.zip", "bad.tar"):
        uri = place.put(name, b"these are not the bytes of an archive" * 100)
        with pytest.raises(BadInputError, match=rf"root 'x' .*{name}"):
            await open_reader("table", "t", roots={"x": uri})("x/1.jpg")


async def test_an_absent_bucket_or_prefix_is_named(bucket, s3_client, open_reader):
    s3_client.put_object(Bucket=bucket, Key="images/1.jpg", Body=b"x")
    with pytest.raises(BadInputError, match=r"root '' .*bucket does not exist"):
        await open_reader("table", "t", roots={"": "s3://no-such-bucket-here/x"})("1.jpg")
    with pytest.raises(BadInputError, match="nothing lies below"):
        await open_reader("table", "t", roots={"": f"s3://{bucket}/imagse"})("1.jpg")
    assert await reason(open_reader("table", "t", roots={"": f"s3://{bucket}/images"}), "2.jpg") == Reason.IMAGE_MISSING


async def test_absent_credentials_are_told(bucket, open_reader, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BadInputError, match="AWS_ACCESS_KEY_ID"):
        await open_reader("folder", f"s3://{bucket}/x")("1.jpg")


class MoodyStore:
    """Passes requests on to the S3 server, except those for which `moods` holds a fault."""

    def __init__(self, endpoint: str) -> None:
        self.moods: list[str] = []
        self.always: str | None = None
        self.asked = 0
        target = urlsplit(endpoint).netloc
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.asked += 1
                mood = store.always or (store.moods.pop(0) if store.moods else "well")
                if mood == "hang up":
                    self.close_connection = True
                    return None
                if mood.isdigit():
                    code = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}[mood]
                    return self.answer(int(mood), f"<Error><Code>{code}</Code></Error>".encode())
                upstream = http.client.HTTPConnection(target)
                upstream.request(self.command, self.path, headers=dict(self.headers))
                reply = upstream.getresponse()
                body = reply.read()
                upstream.close()
                self.answer(reply.status, body, cut=mood == "cut")
                return None

            def answer(self, status: int, body: bytes, *, cut: bool = False) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = cut

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def store(s3_endpoint) -> Iterator[MoodyStore]:
    store = MoodyStore(s3_endpoint)
    yield store
    store.close()


@pytest.mark.parametrize("mood", ["500", "503", "hang up", "cut"])
async def test_passing_faults_of_the_store_are_retried(store, mood, bucket, s3_client, open_reader):
    s3_client.put_object(Bucket=bucket, Key="images/1.jpg", Body=b"x" * 5000)
    reading = open_reader("folder", f"s3://{bucket}/images", storage=QUICK | {"endpoint": store.url})
    store.moods = [mood, mood]
    assert await reading("1.jpg") == b"x" * 5000
    assert store.asked == 3


async def test_one_object_that_keeps_failing_is_unreadable(store, bucket, s3_client, open_reader):
    s3_client.put_object(Bucket=bucket, Key="images/1.jpg", Body=b"x")
    reading = open_reader("folder", f"s3://{bucket}/images", storage=QUICK | {"endpoint": store.url})
    store.moods = ["500"] * 4
    assert await reason(reading, "1.jpg") == Reason.IMAGE_UNREADABLE
    assert await reading("1.jpg") == b"x"


@pytest.mark.parametrize("mood", ["500", "hang up", "403"])
async def test_a_store_that_fails_altogether_stops_the_run(store, mood, bucket, open_reader):
    store.always = mood
    reading = open_reader("folder", f"s3://{bucket}/images", storage=QUICK | {"endpoint": store.url})
    with pytest.raises(StoreError, match="source src, root ''"):
        await reading("1.jpg")


async def test_access_denied_to_one_object_is_unreadable(store, bucket, s3_client, open_reader):
    s3_client.put_object(Bucket=bucket, Key="images/1.jpg", Body=b"x")
    reading = open_reader("folder", f"s3://{bucket}/images", storage=QUICK | {"endpoint": store.url})
    store.moods = ["403"]
    assert await reason(reading, "1.jpg") == Reason.IMAGE_UNREADABLE


async def test_a_store_that_comes_back_after_an_outage_is_used_again(store, bucket, s3_client, open_reader):
    s3_client.put_object(Bucket=bucket, Key="images/1.jpg", Body=b"x")
    reading = open_reader("folder", f"s3://{bucket}/images", storage=QUICK | {"endpoint": store.url})
    store.always = "hang up"
    with pytest.raises(StoreError):
        await reading("1.jpg")
    store.always = None
    assert await reading("1.jpg") == b"x"
