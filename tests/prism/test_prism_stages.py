"""The two stages: every caption as it came, every question about every caption, nothing lost when requests fail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from caprl_core.data.sample import PlannedSample
from caprl_core.engines.protocol import Reply
from caprl_core.errors import IdentityMismatchError
from caprl_core.prism.caption_stage import TakenCaptionsStage, WrittenCaptionsStage
from caprl_core.prism.judge_stage import JudgeStage, shown_question
from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.prism.stages import WrittenCaptionsRecipe, caption_recipe, judge_recipe, judged_file
from caprl_core.recipe.models import CaptionFileRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.shards.current import current_commits
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.shard_lines import shard_lines
from caprl_core.shards.stage import Drop, Row
from caprl_core.shards.verify import verify
from caprl_core.storage.store import Store
from caprl_core.world.benchmark import WrittenBenchmark, write_benchmark
from support.prism_process import worked
from support.scripted_prism import CAPTIONER, CAPTIONS, JUDGE, ScriptedPrism, prism_recipe, scripted_prism

PICTURES = 9


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> WrittenBenchmark:
    return write_benchmark(tmp_path_factory.mktemp("benchmark"), "held_out", PICTURES)


@pytest.fixture
def server() -> Iterator[ScriptedPrism]:
    with scripted_prism() as server:
        yield server


def rows(recipe: PrismRecipe, stage: str) -> list[dict[str, Any]]:
    dataset = open_dataset(Store(f"{recipe.execution.output}/{stage}"))
    assert (report := verify(dataset, deep=True)).sound, report.problems
    return [
        orjson.loads(line)
        for shard in shard_lines(dataset.store, current_commits(dataset).records, threads=1)
        for line in shard.lines
    ]


def questions_of(benchmark: WrittenBenchmark) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in benchmark.questions.read_text().splitlines():
        found.setdefault(json.loads(line)["image"], []).append(json.loads(line))
    return found


def test_captions_then_replies_to_every_question(
    benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path
) -> None:
    recipe = prism_recipe(benchmark, server.url, str(tmp_path / "prism"))
    worked(recipe)
    captions, judged = rows(recipe, "captions"), rows(recipe, "judge")
    asked = questions_of(benchmark)
    assert [row["image"] for row in captions] == list(asked), "an image a row, in the order of the file"
    for row, replies in zip(captions, judged, strict=True):
        assert (row["source"], row["model"]) == ("world", CAPTIONER)
        assert len({caption["text"] for caption in row["captions"]}) == CAPTIONS, "each has a seed of its own"
        assert replies["captions"] == row["captions"]
        assert (replies["benchmark"], replies["captioner"], replies["model"]) == ("world", CAPTIONER, JUDGE)
        assert [one["id"] for one in replies["questions"]] == [one["id"] for one in asked[row["image"]]]
        for one, source in zip(replies["questions"], asked[row["image"]], strict=True):
            assert (one["text"], one["options"], one["answers"]) == (
                source["question"],
                source["options"],
                [source["answer"]],
            )
            assert [reply["reply"] for reply in one["replies"]] == ["Answer: A"] * CAPTIONS
    assert sum(one.role == "judge" for one in server.asked) == CAPTIONS * sum(map(len, asked.values()))


def test_the_judge_sees_caption_and_question_and_no_picture(
    benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path
) -> None:
    recipe = prism_recipe(benchmark, server.url, str(tmp_path / "prism"))
    worked(recipe)
    judged = [prompt for prompt in server.prompts if prompt["model"] == JUDGE and len(prompt["messages"]) > 1]
    assert judged
    for prompt in judged:
        system, user = prompt["messages"]
        text = user["content"] if isinstance(user["content"], str) else user["content"][0]["text"]
        assert "image_url" not in json.dumps(prompt)
        assert system["content"] == recipe.judge.prompt.system
        assert text.index("Picture ") < text.index("\nA) "), "the caption first: questions about it share the prefix"
        assert prompt["temperature"] == 0


def test_captions_of_a_file_are_judged_as_they_are(
    benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path
) -> None:
    names = list(questions_of(benchmark))
    file = tmp_path / "theirs.jsonl"
    texts = ["Picture aaaaaaaaaaaa.", "", "Picture bbbbbbbbbbbb 😀 <image>"]
    rows_of_file = [{"image": name, "captions": texts} for name in names[1:]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of_file))
    recipe = judged_file(
        prism_recipe(benchmark, server.url, str(tmp_path / "prism")), CaptionFileRecipe(name="Theirs!", uri=str(file))
    )
    worked(recipe)
    captions, judged = rows(recipe, "captions"), rows(recipe, "judge")
    assert [row["image"] for row in captions] == names[1:]
    assert all([caption["text"] for caption in row["captions"]] == texts for row in judged)
    assert not any(one.role == "captioner" for one in server.asked)
    (record,) = [
        r for r in current_commits(open_dataset(Store(f"{recipe.execution.output}/captions"))).records if r.rejected
    ]
    assert record.reasons == {"sample_invalid": 1}, "the picture without a caption is accounted for"
    assert recipe.execution.output.rpartition("/")[2].startswith("theirs-")


def test_a_request_the_judge_refuses_is_missing_and_costs_nothing_else(
    benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path
) -> None:
    name, asked = next(iter(questions_of(benchmark).items()))
    server.broken.add(asked[0]["question"])
    recipe = prism_recipe(benchmark, server.url, str(tmp_path / "prism"))
    worked(recipe)
    (row,) = [row for row in rows(recipe, "judge") if row["questions"][0]["id"] == asked[0]["id"]]
    first, *others = row["questions"]
    assert name
    assert all("refused" in reply["failure"] and reply["reply"] == "" for reply in first["replies"])
    assert all(reply["failure"] is None for one in others for reply in one["replies"])
    assert row["attempt"] == 2, "asked again before it is given up"


def test_another_number_of_captions_is_another_dataset(
    benchmark: WrittenBenchmark, server: ScriptedPrism, tmp_path: Path
) -> None:
    worked(prism_recipe(benchmark, server.url, str(tmp_path / "prism")))
    other = prism_recipe(
        benchmark,
        server.url,
        str(tmp_path / "prism"),
        captioner={"model": {"name": CAPTIONER}, "captions": 2},
    )
    with pytest.raises(IdentityMismatchError, match=r"captioner\.captions: dataset has 3, recipe has 2"):
        worked(other)


def sample(**payload: Any) -> PlannedSample:
    return PlannedSample("world-1", 0, 0, "world", "a.png", payload=json.dumps(payload))


def reply(text: str, **fields: Any) -> Reply:
    return Reply(text, fields.pop("finish", "stop"), 10, 5, 0.1, **fields)


@pytest.fixture
def stages(benchmark: WrittenBenchmark) -> tuple[WrittenCaptionsStage, JudgeStage]:
    recipe = prism_recipe(benchmark, "http://127.0.0.1:1/v1", "unused")
    captions = caption_recipe(recipe)
    assert isinstance(captions, WrittenCaptionsRecipe)
    return WrittenCaptionsStage(captions), JudgeStage(judge_recipe(recipe, "0" * 64), leads=CAPTIONS)


ONE = {"id": "1", "text": "What is it?", "options": [], "answers": ["a dog"], "system": None}


def test_empty_and_cut_captions_are_kept_with_how_they_ended(
    stages: tuple[WrittenCaptionsStage, JudgeStage],
) -> None:
    outcome = stages[0].outcome(sample(questions=[ONE]), [reply(""), reply(" a cat", finish="length")], 1)
    assert isinstance(outcome, Row)
    assert [tuple(caption.values()) for caption in outcome.fields["captions"]] == [
        ("", "stop", 5),
        ("a cat", "length", 5),
    ]


@pytest.mark.parametrize("payload", [{}, {"questions": []}, {"captions": ["a"]}])
def test_a_record_without_questions_has_a_reason(
    stages: tuple[WrittenCaptionsStage, JudgeStage], payload: dict[str, Any]
) -> None:
    assert isinstance(stages[0].outcome(sample(**payload), [reply("a")], 1), Drop)
    assert isinstance(TakenCaptionsStage().outcome(sample(**payload), (), 1), Drop)


def test_failed_requests_are_asked_again_once_and_then_missing(
    stages: tuple[WrittenCaptionsStage, JudgeStage],
) -> None:
    judge = stages[1]
    row = sample(source="world", captions=[{"text": "x"}, {"text": "y"}], questions=[ONE])
    broken = [reply("", failure="500"), reply("a dog")]
    assert isinstance(first := judge.outcome(row, broken, 1), Drop)
    assert first.retry
    assert isinstance(second := judge.outcome(row, broken, 2), Row)
    assert [one["failure"] for one in second.fields["questions"][0]["replies"]] == ["500", None]
    assert isinstance(judge.outcome(row, [broken[0]] * 2, 2), Drop), "a server that answers nothing is for the gate"


@pytest.mark.parametrize(
    ("options", "abstain", "lines"),
    [
        ((), "cannot tell", []),
        (("red", "blue"), None, ["A) red", "B) blue"]),
        (("red", "blue"), "cannot tell", ["A) red", "B) blue", "C) cannot tell"]),
        (("Yes", "No."), "cannot tell", ["A) Yes", "B) No."]),
        (tuple("abcdefghij"), "cannot tell", [f"{a}) {b}" for a, b in zip("ABCDEFGHIJ", "abcdefghij", strict=True)]),
    ],
)
def test_how_a_question_is_shown(options: tuple[str, ...], abstain: str | None, lines: list[str]) -> None:
    question = BenchmarkQuestion("1", "Which {caption}?", options, ("A",))
    assert shown_question(question, abstain).splitlines() == ["Which {caption}?", *lines]


def test_braces_in_captions_and_questions_are_text(stages: tuple[WrittenCaptionsStage, JudgeStage]) -> None:
    question = {**ONE, "text": "What does {caption} mean?"}
    row = sample(source="world", captions=[{"text": "the word {question}"}], questions=[question])
    (request,) = stages[1].requests(row, None, 1)
    assert "the word {question}" in request.text
    assert "What does {caption} mean?" in request.text


def test_a_benchmarks_own_system_text_is_used(stages: tuple[WrittenCaptionsStage, JudgeStage]) -> None:
    row = sample(source="w", captions=[{"text": "x"}], questions=[{**ONE, "system": "Think in tags."}])
    (request,) = stages[1].requests(row, None, 1)
    assert request.system == "Think in tags."
