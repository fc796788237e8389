"""Captions go back into the source's own records: the last answer replaced, everything else as it stood."""

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.errors import BadInputError
from caprl_core.export.join import join_captions, record_key
from caprl_core.export.markers import unescape
from caprl_core.export.subsets import Division
from caprl_core.shards.dataset import Dataset
from support.drawn_dataset import draw_pictures
from support.hostile_captions import HOSTILE, captioned

CAPTIONS = [f"{caption.strip()} This is number {number}." for number, caption in enumerate(HOSTILE * 3)]


def record(number: int, image: str, **more: Any) -> dict[str, Any]:
    """As ShareGPT4V has them, with a second question before the last answer in some."""
    turns = [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": f"The old caption {number}."}]
    if number % 3 == 0:
        turns += [{"from": "human", "value": "More, please."}, {"from": "gpt", "value": "The old end. <image>"}]
    return {"id": f"{number:05d}", "image": image, "conversations": turns, **more}


def sharegpt4v(folder: Path, records: list[Any], name: str = "annotations.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(records))
    return path


def planned_from(folder: Path, records: list[Any], **changes: Any) -> tuple[Dataset, Path]:
    """A dataset whose source is a ShareGPT4V file over drawn pictures."""
    draw_pictures(folder / "pictures", 24)
    path = sharegpt4v(folder, records)
    source = {"name": "sharegpt4v", "kind": "sharegpt4v", "uri": str(path), "roots": {"coco": str(folder / "pictures")}}
    dataset = captioned(
        folder, str(folder / "dataset"), CAPTIONS, images=folder / "pictures", sources=[source], **changes
    )
    return dataset, path


def image(number: int) -> str:
    return f"coco/picture-{number:04d}.{'jpg' if number % 2 else 'png'}"


def captions_of(dataset: Dataset) -> dict[str, str]:
    keys = sorted(item.key for item in dataset.store.list("shards") if item.key.endswith(".jsonl"))
    rows = [orjson.loads(line) for key in keys for line in dataset.store.get(key).splitlines()]
    return {row["key"]: row["caption"] for row in rows}


def test_the_last_answer_is_ours_and_everything_else_is_the_sources(tmp_path: Path) -> None:
    records = [record(number, image(number), model="x", score=1.5, huge=2**60) for number in range(20)]
    dataset, path = planned_from(tmp_path, records)
    report = join_captions(dataset, str(path), str(tmp_path / "out.json"))
    assert (report.records, report.joined, report.unmatched, report.captions) == (20, 20, 0, 20)
    captions = captions_of(dataset)
    for before, after in zip(records, json.loads((tmp_path / "out.json").read_text()), strict=True):
        assert unescape(after["conversations"][-1]["value"]) == captions[record_key("sharegpt4v", before["image"])]
        after["conversations"][-1]["value"] = before["conversations"][-1]["value"]
        assert after == before and list(after) == list(before)
    assert report.escaped > 0 and report.unbalanced == 0


def test_records_without_a_caption_are_dropped_or_kept_and_counted(tmp_path: Path) -> None:
    records: list[Any] = [record(number, image(number)) for number in range(10)]
    records[3] = record(3, "coco/never-there.jpg")
    records.insert(5, "no object")
    records.append({"id": "x", "image": image(11)})  # nothing to put a caption in
    dataset, path = planned_from(tmp_path, records)
    report = join_captions(dataset, str(path), str(tmp_path / "drop.json"))
    assert (report.records, report.joined, report.unmatched, report.unreadable) == (12, 9, 1, 2)
    assert len(json.loads((tmp_path / "drop.json").read_text())) == 9
    kept = join_captions(dataset, str(path), str(tmp_path / "keep.json"), unmatched="keep")
    assert kept.joined == 9 and records[3] in json.loads((tmp_path / "keep.json").read_text())


def test_a_picture_that_comes_several_times_gets_its_own_captions_in_turn(tmp_path: Path) -> None:
    records = [record(number, image(number % 4)) for number in range(12)]
    dataset, path = planned_from(tmp_path, records)
    join_captions(dataset, str(path), str(tmp_path / "out.json"))
    captions = captions_of(dataset)
    for number, after in enumerate(json.loads((tmp_path / "out.json").read_text())):
        key = record_key("sharegpt4v", image(number % 4)) + (f"-{number // 4}" if number >= 4 else "")
        assert unescape(after["conversations"][-1]["value"]) == captions[key]
    assert len(set(captions.values())) == 12


def test_repeats_that_were_dropped_take_the_first_ones_caption(tmp_path: Path) -> None:
    records = [record(number, image(number % 4)) for number in range(12)]
    dataset, path = planned_from(tmp_path, records, dataset__deduplicate={"by": "path", "drop": True})
    report = join_captions(dataset, str(path), str(tmp_path / "out.json"))
    assert (report.captions, report.joined) == (4, 12)


def test_lines_stay_lines_and_packed_files_are_read(tmp_path: Path) -> None:
    records = [record(number, image(number)) for number in range(6)]
    dataset, _ = planned_from(tmp_path, records)
    packed = tmp_path / "lines.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in records).encode()))
    join_captions(dataset, str(packed), str(tmp_path / "out.jsonl"))
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == [one["id"] for one in records]


def test_a_caption_field_is_replaced_where_there_is_no_conversation(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures", 24)
    lines = [
        {"image_id": number, "image": f"picture-{number:04d}.png", "caption": "old", "url": "u"} for number in (0, 2)
    ]
    path = tmp_path / "densefusion.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"name": "dense", "kind": "densefusion", "uri": str(path), "roots": {"": str(tmp_path / "pictures")}}
    dataset = captioned(
        tmp_path, str(tmp_path / "d"), ["A new caption."], images=tmp_path / "pictures", sources=[source]
    )
    join_captions(dataset, str(path), str(tmp_path / "out.jsonl"))
    after = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert after == [line | {"caption": "A new caption."} for line in lines]


def test_the_sources_own_imbalance_is_counted(tmp_path: Path) -> None:
    records = [record(number, image(number)) for number in range(4)]
    records[1]["conversations"][0]["value"] = "No picture is shown here."
    dataset, path = planned_from(tmp_path, records)
    report = join_captions(dataset, str(path), str(tmp_path / "out.json"))
    assert (report.joined, report.unbalanced) == (4, 1)


def test_a_file_of_something_else_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    dataset, path = planned_from(tmp_path, [record(number, image(number)) for number in range(4)])
    other = sharegpt4v(tmp_path, [record(1, "gqa/1.jpg")], "other.json")
    (tmp_path / "out").mkdir()
    out = str(tmp_path / "out" / "x.json")
    with pytest.raises(BadInputError, match="none of its 1 records has a caption"):
        join_captions(dataset, str(other), out)
    with pytest.raises(BadInputError, match="this dataset has sharegpt4v"):
        join_captions(dataset, str(path), out, source="densefusion")
    with pytest.raises(BadInputError, match="leave --sample"):
        join_captions(dataset, str(path), out, division=Division(samples=(1,)))
    path.write_text(path.read_text()[:-40])
    with pytest.raises(BadInputError, match="the file is cut"):
        join_captions(dataset, str(path), out)
    assert list((tmp_path / "out").iterdir()) == []


def test_only_sources_of_json_records_can_be_joined(tmp_path: Path) -> None:
    dataset = captioned(tmp_path, str(tmp_path / "dataset"), ["A caption."] * 2)
    with pytest.raises(BadInputError, match="is of kind folder"):
        join_captions(dataset, str(tmp_path / "x.json"), str(tmp_path / "out.json"))
