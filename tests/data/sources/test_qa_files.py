"""Released question files: what is in them arrives as it is, and what is malformed is named with file and line."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caprl_core.data.sample import SourceRecord
from caprl_core.data.sources import open_source
from caprl_core.data.sources.payloads import MOST_PAYLOAD
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe, StorageExecution

QUESTIONS = [{"question": "What is red?\n   - A) the ball\n   - B) the “sky”", "answer": "A"}]
VOTED = [{"image_path": "a.jpg", "qa_list": QUESTIONS}, [[True], [True], [False], [True]], [[False]] * 4]


def read(kind: str, uri: str, **fields: Any) -> list[SourceRecord]:
    source = SourceRecipe.model_validate({"name": "src", "kind": kind, "uri": uri, **fields})
    records = list(open_source(source, StorageExecution()).records())
    assert [record.ordinal for record in records] == list(range(len(records)))
    return records


def payloads(records: list[SourceRecord]) -> list[Any]:
    assert all(record.problem is None for record in records), records
    return [json.loads(record.payload or "") for record in records]


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_blocks_become_payloads_of_generated_rows(place):
    uri = place.put(
        "part_0.jsonl",
        lines({"qa_response": "#### 1. **…**", "image_path": "a/1.jpg"}, {"image_path": "2.png", "qa_response": ""}),
    )
    records = read("qa_blocks", uri)
    assert [record.image for record in records] == ["a/1.jpg", "2.png"]
    assert payloads(records) == [
        {"block": "#### 1. **…**", "finish_reason": None},
        {"block": "", "finish_reason": None},
    ]
    assert {(record.key, record.record_id, record.caption) for record in records} == {(None, None, None)}


def test_parts_run_on_in_order(place):
    for number in (1, 0):
        place.put(f"part_{number}.jsonl", lines({"qa_response": f"block {number}", "image_path": f"{number}.jpg"}))
    records = read("qa_blocks", f"{place.uri}/part_*.jsonl")
    assert [record.image for record in records] == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("as_array", [True, False])
def test_question_lists_as_array_or_lines(place, as_array, indent):
    rows = [{"image_path": f"{n}.jpg", "qa_list": QUESTIONS * n, "id": n} for n in range(3)]
    uri = place.put("2_output.json", json.dumps(rows, indent=indent).encode() if as_array else lines(*rows))
    records = read("qa_lists", uri, id_field="id")
    assert [(record.image, record.record_id) for record in records] == [("0.jpg", "0"), ("1.jpg", "1"), ("2.jpg", "2")]
    assert payloads(records) == [{"questions": QUESTIONS * n} for n in range(3)]


@pytest.mark.parametrize("samples", [1, 2, 2000])
def test_lines_with_votes_keep_them_beside_the_questions(place, samples):
    uri = place.put("part_0.jsonl.gz", gzip.compress(b"\n\n" + lines(*[VOTED] * samples)))
    records = read("qa_lists", uri)
    assert {record.image for record in records} == {"a.jpg"}
    voted = {"questions": QUESTIONS, "released_votes": {"visual": VOTED[1], "text": VOTED[2]}}
    assert payloads(records) == [voted] * samples


def test_a_one_line_array_of_one_sample_is_an_array(place):
    assert payloads(read("qa_lists", place.put("a.json", json.dumps([VOTED[0]]).encode()))) == [
        {"questions": QUESTIONS}
    ]


@pytest.mark.parametrize(
    ("kind", "row", "problem"),
    [
        ("qa_blocks", {"image_path": "a.jpg"}, "`qa_response` is missing"),
        ("qa_blocks", {"image_path": "a.jpg", "qa_response": ["x"]}, "`qa_response` is a list, not text"),
        ("qa_blocks", {"qa_response": "x"}, "no `image_path`"),
        ("qa_blocks", ["x"], "not an object but list"),
        ("qa_lists", {"image_path": "a.jpg"}, "`qa_list` is missing"),
        ("qa_lists", {"image_path": "a.jpg", "qa_list": "[]"}, "`qa_list` is a str, not a list"),
        ("qa_lists", {"image_path": 7, "qa_list": []}, "`image_path` is a int"),
        ("qa_lists", {"image_path": "a.jpg", "qa_list": [{"answer": "x" * (MOST_PAYLOAD + 1)}]}, "at most"),
    ],
)
def test_a_malformed_row_is_a_record_with_its_place(place, kind, row, problem):
    good = {"image_path": "b.jpg", "qa_response": "b", "qa_list": []}
    records = read(kind, place.put("f.jsonl", lines(good, row, good)))
    assert [record.problem is None for record in records] == [True, False, True]
    assert problem in (records[1].problem or "")
    assert "f.jsonl: line 2 (byte" in (records[1].problem or "")
    assert records[1].payload is None


@pytest.mark.parametrize(
    "row",
    [[], {"image_path": "a.jpg"}, VOTED[:2], [*VOTED, 1], [None, [], []], [{"image_path": "a.jpg"}, [], []], "[", 7],
)
def test_a_malformed_line_among_votes_is_a_record_with_its_place(place, row):
    records = read("qa_lists", place.put("f.jsonl", lines(VOTED, row, VOTED)))
    assert [record.problem is None for record in records] == [True, False, True]
    assert "f.jsonl: line 2 (byte" in (records[1].problem or "")


def test_a_broken_line_costs_itself_and_a_cut_file_is_refused(place):
    uri = place.put("f.jsonl", lines(VOTED) + b'[{"image_path": \n' + lines(VOTED))
    assert [record.problem is None for record in read("qa_lists", uri)] == [True, False, True]
    with pytest.raises(BadInputError, match="cut"):
        read("qa_lists", place.put("g.jsonl", lines(VOTED, VOTED)[:-30]))
    with pytest.raises(BadInputError, match="cut"):
        read("qa_lists", place.put("h.json", json.dumps([VOTED[0]] * 2, indent=1).encode()[:-30]))


def test_what_json_of_ours_cannot_carry_is_a_problem_or_mended(tmp_path):
    deep = "[" * 500 + "]" * 500
    rows = [f'{{"image_path": "{n}.jpg", "qa_list": [{item}]}}' for n, item in enumerate([deep, '"\\ud800"'])]
    path = tmp_path / "f.json"
    path.write_text(f"[{', '.join(rows)}]")
    records = read("qa_lists", str(path))
    assert [record.image for record in records] == ["0.jpg", "1.jpg"]
    assert "f.json: record 1: cannot be kept as JSON" in (records[0].problem or "")
    assert payloads(records[1:]) == [{"questions": ["?"]}]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
rows = st.fixed_dictionaries({}, optional={"image_path": anything, "qa_list": anything, "qa_response": anything})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["qa_blocks", "qa_lists"]), rows=st.lists(rows | anything, min_size=1, max_size=4))
def test_any_lines_give_a_record_each(tmp_path, kind, rows):
    path = tmp_path / "any.jsonl"
    first = {"image_path": "a.jpg", "qa_response": "x", "qa_list": []}
    path.write_bytes(lines(first, *rows))
    records = read(kind, str(path))
    assert len(records) == len(rows) + 1
    assert all(record.payload is not None or record.problem is not None for record in records)
