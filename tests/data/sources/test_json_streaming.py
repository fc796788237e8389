"""JSON rows stream: memory does not follow the file, and any split of the bytes parses the same."""

import json
import tracemalloc
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from caprl_core.data.files.reader import STREAM_BLOCK, Files
from caprl_core.data.sources import open_source
from caprl_core.data.sources.json_rows import json_rows
from caprl_core.recipe.models import SourceRecipe, StorageExecution

FILES = Files(StorageExecution())
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ROWS = st.lists(st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.lists(TEXT), max_size=4), max_size=6)


@given(
    rows=ROWS,
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
    lead=st.sampled_from([b"", b"\xef\xbb\xbf", b" \n"]),
)
def test_an_array_gives_its_objects_however_it_is_spelt(tmp_path_factory, rows, ascii_only, indent, lead):
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_bytes(lead + json.dumps(rows, ensure_ascii=ascii_only, indent=indent).encode())
    assert [row.value for row in json_rows(FILES, str(path))] == rows


@given(rows=ROWS.filter(bool), ascii_only=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_lines_give_their_objects(tmp_path_factory, rows, ascii_only, end):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_bytes(end.join(json.dumps(row, ensure_ascii=ascii_only) for row in rows).encode())
    assert [row.value for row in json_rows(FILES, str(path))] == rows


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "big.json"
    row = json.dumps({"image": "a.jpg", "conversations": [{"from": "gpt", "value": "x" * 2000}]})
    path.write_text("[" + ",".join([row] * 20_000) + "]")
    assert path.stat().st_size > 4 * STREAM_BLOCK
    source = open_source(SourceRecipe(name="s", kind="sharegpt4v", uri=str(path)), StorageExecution())
    tracemalloc.start()
    try:
        assert sum(1 for _ in source.records()) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * STREAM_BLOCK


def test_the_first_records_of_a_file_that_is_cut_later_are_there(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text("[" + ",".join(['{"image": "a.jpg"}'] * 100_000))
    source = open_source(SourceRecipe(name="s", kind="sharegpt4v", uri=str(path), limit=10), StorageExecution())
    assert len(list(islice(source.records(), 20))) == 10
