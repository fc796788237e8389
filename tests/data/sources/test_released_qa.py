"""CapRL-QA-75K parquet, written by hand to its published schema, is read without its images and never evaluated."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caprl_core.data.roots import ImageReader
from caprl_core.data.sample import PlannedSample, SourceRecord
from caprl_core.data.sources import open_source
from caprl_core.errors import BadInputError
from caprl_core.recipe.models import SourceRecipe, StageRecipe, StorageExecution

TRUTH = [{"question": "颜色？", "choices": ["A) 红", "B) 蓝"], "answer": "B"}]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PROMPT = [{"role": "user", "content": "<image> Please describe this image in detail."}]


def table(rewards: list[Any]) -> pa.Table:
    count = len(rewards)
    return pa.table(
        {
            "id": [f"{n:032x}" for n in range(count)],
            "image": pa.array([{"bytes": b"x" * 5000, "path": f"{n}.jpg"} for n in range(count)], IMAGE),
            "prompt": [PROMPT] * count,
            "data_source": ["image_caption_rl"] * count,
            "reward_model": rewards,
        }
    )


def parquet(made: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(made, out, compression="none")
    return out.getvalue()


def read(uri: str, **fields: Any) -> list[SourceRecord]:
    source = SourceRecipe.model_validate({"name": "src", "kind": "caprl_qa", "uri": uri, **fields})
    records = list(open_source(source, StorageExecution()).records())
    assert [record.ordinal for record in records] == list(range(len(records)))
    return records


def test_a_row_is_an_image_its_id_and_its_questions(place):
    rewards = [{"style": "rule", "ground_truth": TRUTH}, {"style": "rule", "ground_truth": []}]
    place.put("train-00000.parquet", parquet(table(rewards)))
    place.put("train-00001.parquet", parquet(table(rewards[:1])))
    records = read(f"{place.uri}/train-*.parquet")
    assert [(record.image, record.record_id) for record in records] == [
        ("train-00000.parquet#0", "0" * 32),
        ("train-00000.parquet#1", "0" * 31 + "1"),
        ("train-00001.parquet#0", "0" * 32),
    ]
    questions = [json.loads(record.payload or "") for record in records]
    assert questions == [{"questions": TRUTH}, {"questions": []}, {"questions": TRUTH}]


@pytest.mark.parametrize(
    "rewards",
    [
        [{"ground_truth": json.dumps(TRUTH)}],
        [json.dumps({"ground_truth": TRUTH})],
        [json.dumps({"ground_truth": json.dumps(TRUTH)})],
    ],
)
def test_json_text_is_parsed_wherever_it_stands(place, rewards):
    [record] = read(place.put("t.parquet", parquet(table(rewards))))
    assert json.loads(record.payload or "") == {"questions": TRUTH}


@pytest.mark.parametrize(
    "truth",
    [
        "[('What is red?', 'A')]",  # a Python literal, which the released trainer evaluates
        "__import__('os').getpid()",
        "[" * 100_000,
        "",
        '{"question": "one, not in a list"}',
        "7",
    ],
)
def test_what_is_no_json_list_is_a_problem_with_its_place(place, truth):
    records = read(place.put("t.parquet", parquet(table([{"ground_truth": "[]"}, {"ground_truth": truth}]))))
    assert records[0].problem is None
    assert "t.parquet: row 1" in (records[1].problem or "")
    assert records[1].payload is None


def test_a_row_without_reward_is_a_problem(place):
    records = read(place.put("t.parquet", parquet(table([{"ground_truth": TRUTH}, None, {"ground_truth": None}]))))
    assert [record.problem is None for record in records] == [True, False, False]


def test_planning_reads_no_image_bytes(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet(table([{"ground_truth": TRUTH}] * 3)))
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    assert column.path_in_schema == "image.bytes"
    start = column.dictionary_page_offset or column.data_page_offset
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * column.total_compressed_size)
    with pytest.raises(OSError):
        pq.read_table(path)
    assert [record.problem for record in read(str(path))] == [None] * 3


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (table([{"ground_truth": TRUTH}]).drop_columns(["reward_model"]), "no column `reward_model`"),
        (table([{"ground_truth": TRUTH}]).drop_columns(["id"]), "no column `id`"),
        (table([{"ground_truth": TRUTH}]).drop_columns(["image"]), "hold image bytes"),
        (table([{"style": "rule"}]), "no field `ground_truth` in column `reward_model`; it has style"),
    ],
)
def test_another_schema_is_refused_by_name(place, made, match):
    with pytest.raises(BadInputError, match=match):
        read(place.put("t.parquet", parquet(made)))


async def test_the_images_are_read_from_the_rows(tmp_path):
    (tmp_path / "t.parquet").write_bytes(parquet(table([{"ground_truth": TRUTH}] * 2)))
    recipe = StageRecipe.model_validate(
        {
            "name": "imported",
            "sources": [{"name": "src", "kind": "caprl_qa", "uri": str(tmp_path / "t.parquet")}],
            "execution": {"output": "out"},
        }
    )
    reader = ImageReader(recipe)
    try:
        assert await reader.read(PlannedSample("k", 0, 0, "src", "t.parquet#1")) == b"x" * 5000
    finally:
        reader.close()
