"""A curated set is a function of answers and filter: whole or absent, the same bytes each time, nothing unaccounted."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from caprl_core.errors import BadInputError, IncompleteError, StoreError
from caprl_core.qa.sets.curated import CuratedReport, curate
from caprl_core.recipe.qa import FilterRecipe
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.layout import Unit
from caprl_core.storage.store import Store
from support.answered_dataset import (
    answer_row,
    asked,
    commit_shard,
    committed,
    extract_row,
    letters,
    probabilities,
    rejected,
    votes,
)

GOOD = (votes(4), votes(0, 4))
UNSEEN = (votes(1, 3), votes(0, 4))
LEAKY = (votes(4), votes(3, 1))
FAILED = (votes(0, failed=4), votes(0, 4))


def questions_of(number: int) -> list[dict[str, Any]]:
    """Five questions an image, of which two or three are good."""
    branches = [GOOD, UNSEEN, GOOD if number % 2 else LEAKY, LEAKY if number % 3 else FAILED, GOOD]
    return [asked(f"image-{number:03d}", place, *both, gold=place % 4) for place, both in enumerate(branches)]


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [answer_row(f"image-{number:03d}", questions_of(number)) for number in range(first, last)]


@pytest.fixture
def answers(tmp_path: Path) -> Dataset:
    return committed(str(tmp_path / "set" / "answer"), "answer", [rows(0, 20), rows(20, 40), rows(40, 50)])


@pytest.fixture
def out(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "set"))


def files_of(out: Store, report: CuratedReport) -> dict[str, bytes]:
    return {item.key: out.get(item.key) for item in out.list(report.prefix)}


def table(out: Store, report: CuratedReport, name: str) -> list[dict[str, Any]]:
    return pq.read_table(out.open(f"{report.prefix}/{name}")).to_pylist()


def lines(out: Store, report: CuratedReport, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.get(f"{report.prefix}/{name}").splitlines()]


# What is in a set


def test_every_question_has_one_verdict_in_the_order_of_the_dataset(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(), out)
    verdicts = table(out, report, "verdicts.parquet")
    expected = [question["id"] for number in range(50) for question in questions_of(number)]
    assert [verdict["id"] for verdict in verdicts] == expected
    assert all(verdict["kept"] == (verdict["reason"] is None) == (verdict["split"] == "train") for verdict in verdicts)
    assert {verdict["reason"] for verdict in verdicts} == {None, "visual_too_low", "text_too_high", "unanswered"}
    assert not {"stem", "options", "answer"} & set(verdicts[0])


def test_kept_questions_carry_texts_evidence_and_provenance(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(), out)
    kept = table(out, report, "questions-train.parquet")
    stored = {question["id"]: question for number in range(50) for question in questions_of(number)}
    assert [row["id"] for row in kept] == [v["id"] for v in table(out, report, "verdicts.parquet") if v["kept"]]
    assert {row["answer"] for row in kept} == {"A", "B", "C", "D"}
    for row in kept:
        question = stored[row["id"]]
        assert row["stem"] == question["stem"] and sorted(row["options"]) == sorted(question["options"])
        assert letters(row) == letters(question) and row["written_answer"] == question["answer"]
        assert (row["visual_accuracy"], row["visual_correct"], row["visual_votes"]) == (1.0, 4, 4)
        assert (row["text_accuracy"], row["text_correct"], row["text_votes"]) == (0.0, 0, 4)
        assert row["visual_low"] == pytest.approx(0.05**0.25) and row["text_high"] == pytest.approx(1 - 0.05**0.25)
        assert row["blind_chance"] == pytest.approx(0.75**4)
        assert row["writer"]["model"] == "test/writer" and row["answerer"]["model"] == "test/answerer"


def test_the_jsonl_has_a_line_an_image_with_what_the_parquet_has(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(), out)
    kept = table(out, report, "questions-train.parquet")
    images = lines(out, report, "questions-train.jsonl")
    assert list(images[0]) == ["key", "image", "image_sha256", "prompt", "questions"]
    assert [image["key"] for image in images] == list(dict.fromkeys(row["key"] for row in kept))
    flat = [(image["key"], question) for image in images for question in image["questions"]]
    for (key, question), row in zip(flat, kept, strict=True):
        choices = [f"{letter}) {option}" for letter, option in zip("ABCD", row["options"], strict=True)]
        assert (key, question) == (
            row["key"],
            {"question": row["stem"], "choices": choices, "answer": row["answer"]},
        )


def test_the_manifest_names_every_file_and_where_it_comes_from(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(text_below=0.5), out)
    stored = files_of(out, report)
    manifest = json.loads(stored.pop(f"{report.prefix}/manifest.json"))
    assert report.prefix == f"curated/{report.id}" and len(report.id) == 12 and manifest["id"] == report.id
    assert {f"{report.prefix}/{item['name']}" for item in manifest["files"]} == set(stored)
    for item in manifest["files"]:
        data = stored[f"{report.prefix}/{item['name']}"]
        assert (item["size"], item["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["filter"]["text_below"] == 0.5
    assert list(manifest["stages"]["answer"]["commits"]) == ["000000.r000", "000001.r000", "000002.r000"]
    assert manifest["counts"]["questions"] == report.stats.kept


def test_the_stats_are_those_of_the_verdicts(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(), out)
    verdicts = table(out, report, "verdicts.parquet")
    kept = sum(verdict["kept"] for verdict in verdicts)
    assert report.stats.kept == {"train": kept} and report.stats.parsed == len(verdicts) == 250
    assert report.stats.funnel["kept"] == kept == 50 * 2 + 25
    assert report.stats.stages == {"answer": {"samples": 50, "rows": 50, "rejected": 0, "pending": 0}}
    assert json.loads(out.get(f"{report.prefix}/stats.json"))["funnel"] == report.stats.funnel


def test_images_are_held_out_whole_and_their_copies_with_them(tmp_path: Path, out: Store) -> None:
    twice = [{**row, "key": f"copy-{row['key']}"} for row in rows(0, 50)]
    answers = committed(str(tmp_path / "set" / "answer"), "answer", [rows(0, 50), twice])
    report = curate(answers, FilterRecipe(held_out=0.3), out)
    sides = {
        split: {line["image_sha256"] for line in lines(out, report, f"questions-{split}.jsonl")}
        for split in ("train", "held_out")
    }
    assert not sides["train"] & sides["held_out"] and len(sides["train"] | sides["held_out"]) == 50
    assert 5 <= len(sides["held_out"]) <= 25
    assert report.stats.images_kept == {split: 2 * len(images) for split, images in sides.items()}


def test_probabilities_leave_the_interval_columns_empty(tmp_path: Path, out: Store) -> None:
    question = asked("a", 1, probabilities(0.9, 0.9), probabilities(0.1, 0.2))
    answers = committed(str(tmp_path / "set" / "answer"), "answer", [[answer_row("a", [question])]])
    (row,) = table(out, curate(answers, FilterRecipe(), out), "questions-train.parquet")
    assert row["visual_accuracy"] == pytest.approx(0.9) and row["text_accuracy"] == pytest.approx(0.15)
    assert row["visual_low"] is row["text_high"] is row["blind_chance"] is None


def test_a_set_may_be_empty(tmp_path: Path, out: Store) -> None:
    answers = committed(str(tmp_path / "set" / "answer"), "answer", [[answer_row("a", [asked("a", 1, *UNSEEN)])]])
    report = curate(answers, FilterRecipe(), out)
    assert table(out, report, "questions-train.parquet") == lines(out, report, "questions-train.jsonl") == []
    assert report.stats.kept == {} and not curate(answers, FilterRecipe(), out).fresh


# The stages before


def test_with_the_stages_before_nothing_is_unaccounted_for(tmp_path: Path, out: Store) -> None:
    good, lost = [asked("a", 1, *GOOD), asked("a", 2, *UNSEEN)], [asked("b", 1, *GOOD)]
    generated = committed(
        str(tmp_path / "set" / "generate"), "generate", [[{"key": key} for key in "abc"] + [rejected("x", "truncated")]]
    )
    extracted = committed(
        str(tmp_path / "set" / "extract"),
        "extract",
        [[extract_row("a", good, ["cut"]), extract_row("b", lost), extract_row("c", [], ["no_stem", "cut"])]],
    )
    answers = committed(
        str(tmp_path / "set" / "answer"),
        "answer",
        [[answer_row("a", good), rejected("b", "request_failed"), rejected("c", "no_question")]],
    )
    report = curate(answers, FilterRecipe(), out, extracted=extracted, generated=generated)
    verdicts = [(v["key"], v["id"], v["number"], v["reason"]) for v in table(out, report, "verdicts.parquet")]
    assert verdicts == [
        ("a", good[0]["id"], None, None),
        ("a", good[1]["id"], None, "visual_too_low"),
        ("a", None, 3, "cut"),
        ("b", lost[0]["id"], None, "unanswered"),
        ("c", None, 1, "no_stem"),
        ("c", None, 2, "cut"),
    ]
    assert report.stats.funnel == {
        "images": 4, "blocks": 3, "written": 6, "parsed": 3, "answered": 2, "visual_pass": 1, "text_pass": 1,
        "certain": 1, "clean": 1, "kept": 1,
    }  # fmt: skip
    assert report.stats.refused == {"cut": 2, "no_stem": 1} and report.stats.waiting == 0
    assert report.stats.rejected == {
        "generate": {"truncated": 1}, "extract": {}, "answer": {"no_question": 1, "request_failed": 1},
    }  # fmt: skip


def test_questions_not_answered_yet_are_counted_as_waiting(tmp_path: Path, out: Store) -> None:
    good, later = [asked("a", 1, *GOOD)], [asked("b", 1, *GOOD), asked("b", 2, *GOOD)]
    rows = [extract_row("a", good), extract_row("b", later)]
    extracted = committed(str(tmp_path / "set" / "extract"), "extract", [rows])
    answers = committed(str(tmp_path / "set" / "answer"), "answer", [[answer_row("a", good)]], pending=1)
    stats = curate(answers, FilterRecipe(), out, extracted=extracted, partial=True).stats
    assert (stats.waiting, stats.parsed, stats.funnel["parsed"], stats.funnel["kept"]) == (2, 1, 3, 1)


def test_pending_answers_are_refused_unless_partial_is_asked_for(tmp_path: Path, out: Store) -> None:
    answers = committed(str(tmp_path / "set" / "answer"), "answer", [rows(0, 5)], pending=7)
    with pytest.raises(IncompleteError, match="7 of 12 samples are still to be answered"):
        curate(answers, FilterRecipe(), out)
    assert not list(out.list("curated"))
    assert curate(answers, FilterRecipe(), out, partial=True).stats.stages["answer"]["pending"] == 7


def test_a_dataset_of_another_stage_is_refused(tmp_path: Path, out: Store) -> None:
    captions = committed(str(tmp_path / "captions"), "caption", [[{"key": "a"}]])
    with pytest.raises(BadInputError, match="of the stage 'caption', not of 'answer'"):
        curate(captions, FilterRecipe(), out)


# Identity, repetition, damage


def test_the_same_input_gives_the_same_bytes_anywhere(answers: Dataset, tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / name)) for name in ("one", "two")]
    reports = [
        curate(answers, FilterRecipe(held_out=0.2), store, threads=threads)
        for store, threads in zip(stores, (1, 7), strict=True)
    ]
    assert reports[0] == reports[1] and reports[0].fresh
    assert files_of(stores[0], reports[0]) == files_of(stores[1], reports[1])


def test_a_second_run_verifies_and_writes_nothing(answers: Dataset, out: Store) -> None:
    first = curate(answers, FilterRecipe(), out)
    written = {item.key: item.modified for item in out.list(first.prefix)}
    second = curate(answers, FilterRecipe(), out)
    assert not second.fresh and second._replace(fresh=True) == first
    assert {item.key: item.modified for item in out.list(first.prefix)} == written


def test_a_changed_file_is_noticed(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(), out)
    key = f"{report.prefix}/questions-train.jsonl"
    out.put(key, out.get(key).replace(b"colour", b"color", 1))
    with pytest.raises(StoreError, match=r"questions-train.jsonl was changed after it was written"):
        curate(answers, FilterRecipe(), out)


def test_a_run_killed_before_the_manifest_is_run_again(answers: Dataset, out: Store) -> None:
    report = curate(answers, FilterRecipe(), out)
    before = files_of(out, report)
    out.delete([f"{report.prefix}/manifest.json", f"{report.prefix}/stats.json"])
    out.put(f"{report.prefix}/verdicts.parquet", b"half")
    assert curate(answers, FilterRecipe(), out).fresh
    assert files_of(out, report) == before


def test_the_id_follows_the_filter_and_the_commits(answers: Dataset, out: Store) -> None:
    ids = [
        curate(answers, FilterRecipe(**changes), out).id
        for changes in ({}, {"seed": 1}, {"text_below": 0.5}, {"held_out": 0.1}, {"balance": "keep"})
    ]
    commit_shard(answers, Unit(1, 1), rows(20, 39) + [rejected("image-039", "request_failed")])
    ids.append(curate(answers, FilterRecipe(), out).id)
    assert len(set(ids)) == len(ids)


def test_the_newest_revision_of_a_shard_counts(answers: Dataset, out: Store) -> None:
    commit_shard(
        answers, Unit(1, 1), rows(20, 25) + [rejected(f"image-{n:03d}", "request_failed") for n in range(25, 40)]
    )
    assert curate(answers, FilterRecipe(), out).stats.parsed == 5 * 35


def test_a_changed_shard_stops_the_run_and_leaves_no_manifest(answers: Dataset, out: Store) -> None:
    key = "shards/set-answer-000001.jsonl"
    answers.store.put(key, answers.store.get(key).replace(b'"correct":true', b'"correct":!rue', 1))
    with pytest.raises(StoreError, match=r"set-answer-000001.jsonl does not have the sha256"):
        curate(answers, FilterRecipe(), out)
    assert not list(out.list("curated"))


def test_a_set_on_s3_is_the_local_one(answers: Dataset, out: Store, bucket: str, tmp_path: Path) -> None:
    remote = committed(f"s3://{bucket}/set/answer", "answer", [rows(0, 20), rows(20, 40), rows(40, 50)])
    there, here = Store(f"s3://{bucket}/set"), curate(answers, FilterRecipe(), out)
    report = curate(remote, FilterRecipe(), there)
    assert report == here and files_of(there, report) == files_of(out, here)
    assert not curate(remote, FilterRecipe(), there).fresh


# Decontamination


def test_listed_images_are_given_up_and_the_list_is_part_of_the_id(
    answers: Dataset, out: Store, tmp_path: Path
) -> None:
    listed = [hashlib.sha256(f"image-{number:03d}".encode()).hexdigest() for number in (0, 7)]
    path = tmp_path / "unwanted.txt"
    path.write_text(f"# from the test set\n{listed[0]}\n\n{listed[1].upper()}  # a copy\n")
    report = curate(answers, FilterRecipe(decontaminate=str(path)), out)
    verdicts = table(out, report, "verdicts.parquet")
    assert {v["key"] for v in verdicts if v["reason"] == "contaminated"} == {"image-000", "image-007"}
    assert not {"image-000", "image-007"} & {v["key"] for v in verdicts if v["kept"]}
    # The same digests in another order and another file are the same list.
    other = tmp_path / "same.txt"
    other.write_text(f"{listed[1]}\n{listed[0]}\n{listed[0]}")
    assert curate(answers, FilterRecipe(decontaminate=str(other)), out)._replace(fresh=True) == report
    other.write_text(listed[0])
    assert curate(answers, FilterRecipe(decontaminate=str(other)), out).id != report.id


@pytest.mark.parametrize("line", ["abc", "g" * 64, "a" * 65, "a" * 64 + "  image.png", "a" * 100_000])
def test_a_list_that_is_none_is_refused_with_its_line(answers: Dataset, out: Store, tmp_path: Path, line: str) -> None:
    path = tmp_path / "unwanted.txt"
    path.write_text(f"{'0' * 64}\n{line}\n")
    with pytest.raises(BadInputError, match=r"unwanted.txt, line 2: not a sha256"):
        curate(answers, FilterRecipe(decontaminate=str(path)), out)


def test_a_missing_list_is_an_error(answers: Dataset, out: Store, tmp_path: Path) -> None:
    with pytest.raises((BadInputError, StoreError)):
        curate(answers, FilterRecipe(decontaminate=str(tmp_path / "none.txt")), out)
