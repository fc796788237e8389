"""Images are read byte for byte from every kind of root, on a local disk and on S3."""

import asyncio
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caprl_core.data.reasons import Reason
from caprl_core.data.sources import open_source
from caprl_core.errors import BadInputError, SampleFailedError
from caprl_core.recipe.models import SourceRecipe, StorageExecution

JPEG = b"\xff\xd8" + os.urandom(3000)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members: dict[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def reason(reading, image: str, **more) -> Reason:
    with pytest.raises(SampleFailedError) as caught:
        await reading(image, **more)
    return Reason(caught.value.reason)


async def test_a_folder_or_prefix_is_the_longest_prefix_by_components(place, open_reader):
    place.put("coco/1.jpg", JPEG)
    place.put("special/1.jpg", JPEG + b"special")
    place.put("rest/cocoa/1.jpg", JPEG + b"rest")
    roots = {"": f"{place.uri}/rest", "coco": f"{place.uri}/coco", "coco/train/": f"{place.uri}/special"}
    reading = open_reader("sharegpt4v", "captions.json", roots=roots)
    assert await reading("coco/1.jpg") == JPEG
    assert await reading("coco//train/./1.jpg") == JPEG + b"special"
    assert await reading("cocoa/1.jpg") == JPEG + b"rest"
    assert await reason(reading, "coco/train") == Reason.IMAGE_MISSING


async def test_without_roots_paths_are_relative_to_the_annotation_file(place, open_reader):
    place.put("images/1.jpg", JPEG)
    assert await open_reader("table", f"{place.uri}/t.csv")("images/1.jpg") == JPEG
    assert await open_reader("folder", place.uri)("images/1.jpg") == JPEG


async def test_a_path_that_no_root_matches_is_missing(place, open_reader):
    place.put("1.jpg", JPEG)
    assert await reason(open_reader("table", "t.csv", roots={"a": place.uri}), "b/1.jpg") == Reason.IMAGE_MISSING


async def test_names_are_taken_literally(place, open_reader):
    names = ["a b+c&d=e.jpg", "ü/日本.jpg", "100%25.jpg", "x?versionId=1.jpg", "[1]*.jpg", "#1.jpg"]
    for name in names:
        place.put(name, name.encode())
    reading = open_reader("folder", place.uri)
    for name in names:
        assert await reading(name) == name.encode()


@pytest.mark.parametrize("suffix", ["zip", "tar"])
async def test_archives_are_read_in_place(place, open_reader, suffix):
    pack = zipped if suffix == "zip" else tarred
    place.put(f"a/000.{suffix}", pack({"./one.jpg": JPEG, "dir/two.jpg": b"two", "empty.jpg": b""}))
    place.put(f"a/001.{suffix}", pack({"three.jpg": b"three", "one.jpg": b"shadowed"}))
    for value in (f"a/*.{suffix}", f"a/{{000..001}}.{suffix}"):
        reading = open_reader("densefusion", "d.jsonl", roots={"images": f"{place.uri}/{value}"})
        assert await reading("images/one.jpg") == JPEG
        assert await reading("images/dir/two.jpg") == b"two"
        assert await reading("images/three.jpg") == b"three"
        assert await reading("images/empty.jpg") == b""
        assert await reason(reading, "images/four.jpg") == Reason.IMAGE_MISSING


@pytest.mark.parametrize("suffix", ["zip", "tar"])
async def test_a_member_is_found_below_the_archives_own_folder_if_only_one_fits(place, open_reader, suffix):
    pack = zipped if suffix == "zip" else tarred
    place.put(f"x.{suffix}", pack({"train2017/1.jpg": JPEG, "a/same.jpg": b"a", "b/same.jpg": b"b"}))
    reading = open_reader(
        "table", "t.csv", roots={"coco/train2017": f"{place.uri}/x.{suffix}", "": f"{place.uri}/x.{suffix}"}
    )
    assert await reading("coco/train2017/1.jpg") == JPEG
    assert await reading("a/same.jpg") == b"a"
    assert await reason(reading, "same.jpg") == Reason.IMAGE_MISSING


async def test_deflated_members_are_unpacked(place, open_reader):
    uri = place.put("z.zip", zipped({"1.bmp": b"ab" * 3000}, zipfile.ZIP_DEFLATED))
    assert await open_reader("table", "t.csv", roots={"": uri})("1.bmp") == b"ab" * 3000


async def test_hf_parquet_rows(place, open_reader):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": JPEG + bytes([n]), "path": "x"} for n in range(10)] + [{"bytes": None, "path": "lost.jpg"}]
    out = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), out, row_group_size=3)
    place.put("sub/train.parquet", out.getvalue())
    uri = f"{place.uri}/*/train.parquet"
    source = SourceRecipe(name="src", kind="hf_parquet", uri=uri)
    references = [record.image for record in open_source(source, StorageExecution()).records()]
    reading = open_reader("hf_parquet", uri)
    read = await asyncio.gather(*(reading(reference) for reference in references[:10]))
    assert list(read) == [JPEG + bytes([n]) for n in range(10)]
    assert await reason(reading, references[10]) == Reason.IMAGE_MISSING
    assert await reason(reading, "sub/train.parquet#11") == Reason.IMAGE_MISSING
    assert await reason(reading, "sub/train.parquet#-1") == Reason.SAMPLE_INVALID
    assert await reason(reading, "sub/train.parquet") == Reason.SAMPLE_INVALID
    assert await reason(reading, "../train.parquet#0") == Reason.IMAGE_FORBIDDEN


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
async def test_webdataset_members(place, open_reader, tar_format):
    long = "/".join(["folder"] * 14) + "/" + "n" * 90 + ".jpg"
    place.put("t/0.tar", tarred({"a.jpg": JPEG, "a.txt": b"c", long: b"long", "b#c.png": b"hash"}, tar_format))
    source = SourceRecipe(name="src", kind="webdataset", uri=f"{place.uri}/t")
    references = [record.image for record in open_source(source, StorageExecution()).records()]
    assert references == ["0.tar#a.jpg", f"0.tar#{long}", "0.tar#b#c.png"]
    reading = open_reader("webdataset", f"{place.uri}/t")
    # Backwards, so that the second and third are found behind the place the walk has reached.
    assert [await reading(reference) for reference in reversed(references)] == [b"hash", b"long", JPEG]
    assert await reason(reading, "0.tar#zzz.jpg") == Reason.IMAGE_MISSING


async def test_a_container_the_plan_names_and_that_is_gone_stops_the_run(place, open_reader):
    place.put("other", b"x")
    for kind, reference in [("webdataset", "0.tar#a.jpg"), ("hf_parquet", "0.parquet#0")]:
        with pytest.raises(BadInputError, match="though the plan names it"):
            await open_reader(kind, place.uri)(reference)


async def test_larger_images_are_refused_and_exact_ones_are_not(place, open_reader):
    kind = pa.struct([("bytes", pa.binary())])
    out = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"x" * 100}, {"bytes": b"x" * 101}], kind)}), out)
    place.put("p.parquet", out.getvalue())
    for name, size in (("fits.jpg", 100), ("large.jpg", 101)):
        place.put(name, b"x" * size)
    members = {"fits.jpg": b"x" * 100, "large.jpg": b"x" * 101, "bomb.jpg": b"x" * 10**6}
    stored = place.put("s.zip", zipped(members))
    deflated = place.put("d.zip", zipped(members, zipfile.ZIP_DEFLATED))
    tar = place.put("t.tar", tarred(members))
    for root in (place.uri, stored, deflated, tar):
        reading = open_reader("table", "t.csv", roots={"": root}, max_bytes=100)
        assert len(await reading("fits.jpg")) == 100
        assert await reason(reading, "large.jpg") == Reason.IMAGE_TOO_LARGE
        if root != place.uri:
            assert await reason(reading, "bomb.jpg") == Reason.IMAGE_TOO_LARGE
    rows = open_reader("hf_parquet", f"{place.uri}/p.parquet", max_bytes=100)
    assert len(await rows("p.parquet#0")) == 100
    assert await reason(rows, "p.parquet#1") == Reason.IMAGE_TOO_LARGE


async def test_a_record_with_a_problem_is_invalid(tmp_path, open_reader):
    (tmp_path / "1.jpg").write_bytes(JPEG)
    reading = open_reader("folder", str(tmp_path))
    assert await reason(reading, "1.jpg", problem="t.csv: line 3: …") == Reason.SAMPLE_INVALID


async def test_damaged_members_cost_one_sample(place, open_reader):
    data = bytearray(zipped({"good.jpg": b"good" * 50, "bad.jpg": b"bad!" * 50}))
    data[data.index(b"bad!") + 3] ^= 1
    packed = bytearray(zipped({"cut.jpg": JPEG}, zipfile.ZIP_DEFLATED))
    packed[40:60] = bytes(20)
    reading = open_reader(
        "table", "t", roots={"": place.put("z.zip", bytes(data)), "packed": place.put("p.zip", bytes(packed))}
    )
    assert await reading("good.jpg") == b"good" * 50
    assert await reason(reading, "bad.jpg") == Reason.IMAGE_UNREADABLE
    assert await reason(reading, "packed/cut.jpg") == Reason.IMAGE_UNREADABLE


async def test_the_corpus_comes_back_byte_for_byte(corpus: Path, open_reader):
    source = SourceRecipe(name="src", kind="folder", uri=str(corpus))
    names = [record.image for record in open_source(source, StorageExecution()).records()]
    assert len(names) == 60
    reading = open_reader("folder", str(corpus), max_bytes=2**26)
    read = await asyncio.gather(*(reading(name) for name in names))
    assert list(read) == [(corpus / name).read_bytes() for name in names]
