"""What the demo is made of: pictures that decode, oddities that do not, a server that forgets."""

import io
import os
import uuid
from pathlib import Path

import httpx
import pytest
from PIL import Image

from caprl_core.data.images import prepare_image
from caprl_core.errors import ObjectExistsError, SampleFailedError
from caprl_core.recipe.models import ImageRecipe, StorageExecution
from caprl_core.storage.store import Store
from caprl_core.world.pictures import draw_picture, hostile_files, write_pictures
from caprl_core.world.s3_server import client_environment, make_bucket, s3_server


def test_pictures_are_the_same_for_the_same_number_and_seed() -> None:
    first, sentence = draw_picture(3)
    again, same = draw_picture(3)
    other, _ = draw_picture(4)
    assert (first.tobytes(), sentence) == (again.tobytes(), same)
    assert other.tobytes() != first.tobytes()
    assert sentence.endswith("on a grey ground.")


def test_written_pictures_are_jpegs_and_pngs(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 4)
    formats = [Image.open(tmp_path / name).format for name in names]
    assert formats == ["PNG", "JPEG", "PNG", "JPEG"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rotated-by-exif.jpg", None),
        ("truncated.jpg", "image_truncated"),
        ("bomb.png", "image_too_large"),
        ("no-picture.jpg", "image_corrupt"),
    ],
)
def test_each_hostile_file_is_refused_for_its_reason(name: str, reason: str | None) -> None:
    data = hostile_files()[name]
    assert len(data) < 300_000
    if reason is None:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
        prepared = prepare_image(data, ImageRecipe(factor=1, min_pixels=1))
        assert (prepared.width, prepared.height) == (height, width)
        return
    with pytest.raises(SampleFailedError) as refused:
        prepare_image(data, ImageRecipe())
    assert refused.value.reason == reason


def test_the_local_s3_server_serves_conditional_puts_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = f"demo-{uuid.uuid4().hex[:12]}"  # servers of one process share their memory
    with s3_server() as endpoint:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in client_environment(endpoint, {}).items():
            monkeypatch.setenv(name, value)
        make_bucket(endpoint, bucket)
        store = Store(f"s3://{bucket}/there", StorageExecution(endpoint=endpoint))
        store.create("key", b"first")
        with pytest.raises(ObjectExistsError):
            store.create("key", b"second")
        assert store.get("key") == b"first"
    with pytest.raises(httpx.ConnectError):
        httpx.get(endpoint, trust_env=False)


def test_the_environment_of_a_client_names_no_other_server() -> None:
    made = client_environment("http://here", {"AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "secret", "HOME": "/root"})
    assert made["AWS_ENDPOINT_URL"] == "http://here"
    assert made["HOME"] == "/root"
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & made.keys()
