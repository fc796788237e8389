"""Every format, read from a local disk and from S3, gives the records it holds, in order, and loses none."""

import gzip
import io
import json
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import open_source
from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.recipe.models import SourceRecipe, StorageExecution


def read(kind: str, uri: str, **fields: Any) -> list[SourceRecord]:
    source = SourceRecipe.model_validate({"name": "src", "kind": kind, "uri": uri, **fields})
    records = list(open_source(source, StorageExecution()).records())
    assert [record.ordinal for record in records] == list(range(len(records)))
    return records


def facts(records: list[SourceRecord]) -> list[tuple[str, str | None, str | None]]:
    assert all(record.problem is None for record in records), records
    return [(record.image, record.record_id, record.caption) for record in records]


def turns(*answers: str) -> list[dict[str, str]]:
    return [turn for answer in answers for turn in ({"from": "human", "value": "?"}, {"from": "gpt", "value": answer})]


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def tar(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_sharegpt4v_takes_the_last_answer_as_the_caption(place):
    rows = [
        {"id": "000", "image": "coco/train2017/1.jpg", "conversations": turns("first", "“last”")},
        {"image": "sam/images/2.jpg", "conversations": turns("only")},
        {"id": 7, "image": "llava/3.jpg"},
    ]
    uri = place.put("captions.json", json.dumps(rows, indent=1).encode())
    assert facts(read("sharegpt4v", uri)) == [
        ("coco/train2017/1.jpg", "000", "“last”"),
        ("sam/images/2.jpg", None, "only"),
        ("llava/3.jpg", "7", None),
    ]


def test_densefusion_names_the_file_after_the_image_id_unless_told(place):
    uri = place.put(
        "d.jsonl",
        lines(
            {"image_id": "a1", "url": "https://x/y", "caption": "one"},
            {"image_id": "b2", "image": "images/b2.png", "description": "two"},
        ),
    )
    assert facts(read("densefusion", uri)) == [("a1.png", "a1", "one"), ("images/b2.png", "b2", "two")]
    assert [r.image for r in read("densefusion", uri, image_field="url") if r.problem is None] == ["https://x/y"]


def test_densefusion_takes_the_named_caption_field(place):
    uri = place.put("d.jsonl", lines({"image_id": "a", "caption": "no", "dense": "yes"}))
    assert facts(read("densefusion", uri, caption_field="dense")) == [("a.png", "a", "yes")]


@pytest.mark.parametrize("as_array", [True, False])
def test_conversations_as_array_or_lines_take_the_first_image(place, as_array):
    rows = [
        {"id": "x", "images": ["1.jpg", "2.jpg"], "conversations": turns("c")},
        {"image": {"path": "3.jpg"}, "messages": [{"role": "assistant", "content": [{"type": "text", "text": "d"}]}]},
    ]
    uri = place.put("c.json", json.dumps(rows).encode() if as_array else lines(*rows))
    assert facts(read("conversations", uri)) == [("1.jpg", "x", "c"), ("3.jpg", None, "d")]


COLUMNS = {"file_name": ["a.jpg", "ü/b.jpg"], "caption": ["red, “blue”", None], "id": [3, 4]}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl", "csv.gz", "jsonl.zst"])
def test_tables_guess_their_columns(place, kind):
    table = pa.table(COLUMNS)
    if kind == "parquet":
        data = parquet(table)
    elif "jsonl" in kind:
        data = lines(*table.to_pylist())
    else:
        out = io.BytesIO()
        pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(delimiter="\t" if kind == "tsv" else ","))
        data = out.getvalue()
    if kind.endswith(".gz"):
        data = gzip.compress(data)
    if kind.endswith(".zst"):
        data = pa.Codec("zstd").compress(data, asbytes=True)
    uri = place.put(f"t.{kind}", data)
    assert facts(read("table", uri)) == [("a.jpg", "3", "red, “blue”"), ("ü/b.jpg", "4", None)]


def test_tables_of_several_files_run_on(place):
    place.put("part-1.jsonl", lines({"image": "b.jpg"}))
    place.put("part-0.jsonl", lines({"image": "a.jpg"}))
    place.put("other.jsonl", lines({"image": "c.jpg"}))
    assert [r.image for r in read("table", f"{place.uri}/part-*.jsonl")] == ["a.jpg", "b.jpg"]
    assert [r.image for r in read("table", f"{place.uri}/part-{{1..0}}.jsonl")] == ["b.jpg", "a.jpg"]


def hf_table(*images: dict[str, Any], captions: list[str]) -> pa.Table:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({"image": pa.array(list(images), kind), "text": captions})


def test_hf_parquet_refers_to_rows_relative_to_the_folder(place):
    place.put("train-0.parquet", parquet(hf_table({"bytes": b"1", "path": "x.jpg"}, captions=["one"])))
    place.put("train-1.parquet", parquet(hf_table({"bytes": b"2"}, {"bytes": b"3"}, captions=["two", "three"])))
    expected = [
        ("train-0.parquet#0", "x.jpg", "one"),
        ("train-1.parquet#0", None, "two"),
        ("train-1.parquet#1", None, "three"),
    ]
    assert facts(read("hf_parquet", f"{place.uri}/train-*.parquet")) == expected
    assert facts(read("hf_parquet", place.uri)) == expected


def test_hf_parquet_does_not_read_the_image_bytes(tmp_path):
    path = tmp_path / "big.parquet"
    pq.write_table(hf_table({"bytes": b"x" * 2**20, "path": "p"}, captions=["c"]), path, compression="none")
    start = path.read_bytes().index(b"xxxx")
    with path.open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * start)  # the header of the page with the bytes
    with pytest.raises((pa.ArrowException, OSError)):
        pq.read_table(path, columns=["image"])
    assert facts(read("hf_parquet", str(path))) == [("big.parquet#0", "p", "c")]


def test_webdataset_groups_by_the_first_dot_of_the_basename(place):
    uri = place.put(
        "w.tar",
        tar(
            ("v1.0/a.jpg", b"A"),
            ("v1.0/a.txt", b"caption a"),
            ("v1.0/b.left.png", b"L"),
            ("v1.0/b.png", b"B"),
            ("v1.0/b.jpeg", b"J"),
            ("v1.0/b.json", json.dumps({"caption": "caption b", "n": 5}).encode()),
            ("c.txt", b"lonely"),
        ),
    )
    records = read("webdataset", uri)
    assert facts(records[:2]) == [
        ("w.tar#v1.0/a.jpg", "v1.0/a", "caption a"),
        ("w.tar#v1.0/b.jpeg", "v1.0/b", "caption b"),
    ]
    assert "no image member" in (records[2].problem or "")
    chosen = read("webdataset", uri, image_field="left.png", id_field="n")
    assert (chosen[1].image, chosen[1].record_id) == ("w.tar#v1.0/b.left.png", "5")


def test_webdataset_reports_a_member_name_that_repeats(place):
    uri = place.put("w.tar", tar(("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3")))
    records = read("webdataset", uri)
    assert [record.problem is None for record in records] == [True, True, False]


def test_folder_finds_images_recursively_in_the_same_order_everywhere(place):
    for name in ["b/1.JPG", "a.png", "a/z.webp", "a-b/c.jpeg", "notes.txt", ".hidden/x.jpg", "a/._z.jpg", "ü.gif"]:
        place.put(name, b"x")
    assert [r.image for r in read("folder", place.uri)] == ["a-b/c.jpeg", "a.png", "a/z.webp", "b/1.JPG", "ü.gif"]


def test_limit_takes_the_first_records(place):
    uri = place.put("t.jsonl", lines({"image": "a"}, {"image": "b"}, {"image": "c"}))
    assert [r.image for r in read("table", uri, limit=2)] == ["a", "b"]


def test_a_malformed_row_is_a_record_with_a_problem_and_stops_nothing(place):
    good = {"image": "ok.jpg"}
    array = place.put("a.json", json.dumps([good, 3, {"image": None}, {"image": 5}, {"image": " "}, good]).encode())
    assert [r.problem is None for r in read("sharegpt4v", array)] == [True, False, False, False, False, True]
    rows = place.put("l.jsonl", lines(good) + b'{"image": \n[]\n{"image": "\\ud800"}\n\n' + lines(good))
    records = read("table", rows)
    assert [r.problem is None for r in records] == [True, False, False, False, True]
    assert "l.jsonl: line 2 (byte 20)" in (records[1].problem or "")
    comma = place.put("c.csv", b"image,caption\na.jpg,x\nb.jpg\nc.jpg,\xff\n\xff.jpg,y\n,z\n")
    assert [r.problem is None for r in read("table", comma)] == [True, False, True, False, False]


def test_every_record_can_be_stored_as_utf8(place):
    uri = place.put("c.csv", b"image,caption\n\xff.jpg,\xfe\n")
    (record,) = read("table", uri)
    for text in (record.image, record.caption, record.problem):
        assert text is not None
        text.encode()


CUT = {
    "sharegpt4v": (json.dumps([{"image": "a.jpg"}] * 50).encode(), ".json", "after 4[0-9] records"),
    "densefusion": (lines(*[{"image_id": "a"}] * 50), ".jsonl", "line 50 .byte"),
    "hf_parquet": (parquet(hf_table({"bytes": b"1"}, captions=["x"])), ".parquet", "not a readable parquet"),
    "webdataset": (tar(("a.jpg", b"1" * 2000), ("b.jpg", b"2" * 20000)), ".tar", "damaged at byte"),
    "table": (gzip.compress(lines({"image": "a"})), ".jsonl.gz", "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_file_is_an_error_that_names_file_and_place(place, kind):
    data, suffix, told = CUT[kind]
    whole = place.put(f"whole{suffix}", data)
    assert read(kind, whole)
    uri = place.put(f"cut{suffix}", data[:12_000] if kind == "webdataset" else data[:-12])
    with pytest.raises(BadInputError, match=told) as caught:
        read(kind, uri)
    assert uri in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"  \n", b'"text"', b'{\n "a": 1\n}', b"<html>"])
def test_what_is_not_json_rows_is_refused(place, data):
    with pytest.raises(BadInputError):
        read("sharegpt4v", place.put("x.json", data))


def test_an_unclosed_quote_names_its_line(place):
    uri = place.put("q.csv", b'image\na.jpg\n"b.jpg\nc.jpg\n')
    with pytest.raises(BadInputError, match="close the quotes"):
        read("table", uri)


def test_a_table_without_an_image_column_says_what_it_has(place):
    uri = place.put("t.csv", b"number,words\n1,x\n")
    with pytest.raises(BadInputError, match="number, words"):
        read("table", uri)
    with pytest.raises(BadInputError, match="no column `img`"):
        read("table", uri, image_field="img")


def test_absent_files_are_named(place):
    with pytest.raises(ObjectMissingError, match="gone.json"):
        read("sharegpt4v", f"{place.uri.removesuffix('/data')}/gone.json" if "s3" in place.uri else "/no/gone.json")
    for kind, uri in [("webdataset", "x-*.tar"), ("hf_parquet", ""), ("folder", "")]:
        with pytest.raises(BadInputError):
            read(kind, f"{place.uri}/nothing/{uri}".rstrip("/"))


def test_an_absent_bucket_is_named(s3_endpoint):
    with pytest.raises(BadInputError, match="bucket does not exist"):
        read("sharegpt4v", "s3://no-such-bucket-here/x.json")
    with pytest.raises(BadInputError, match="bucket does not exist"):
        read("folder", "s3://no-such-bucket-here/x")
