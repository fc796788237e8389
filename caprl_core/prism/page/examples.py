"""The chosen answers with all that a reader needs to judge them: picture, caption, question, reply."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from caprl_core.prism.page.choosing import ChosenAnswer
from caprl_core.prism.page.pictures import Wanted
from caprl_core.prism.question import BenchmarkQuestion
from caprl_core.qa.page.thumbnails import NoThumbnail, Thumbnail
from caprl_core.shards.current import Current
from caprl_core.shards.dataset import Dataset
from caprl_core.shards.shard_lines import shard_lines

THREADS = 4
"""Shards fetched at once."""


@dataclass(frozen=True, slots=True)
class Example:
    """An answer and what it is about. caption, reply: as their rows store them; captions: how many the image has."""

    answer: ChosenAnswer
    question: BenchmarkQuestion
    caption: Mapping[str, Any]
    captions: int
    reply: Mapping[str, Any]
    picture: Thumbnail | NoThumbnail


def read_examples(
    judge: Dataset,
    current: Current,
    shards: Mapping[str, int],
    chosen: Sequence[ChosenAnswer],
    pictures: Callable[[Mapping[str, Wanted]], Mapping[str, Thumbnail | NoThumbnail]],
) -> list[Example]:
    """The chosen answers in their order, read from the shards they lie in and no others; `shards` tells the place of an
    image's commit in `current`, `pictures` gives thumbnails by key."""
    wanted = {answer.image: answer.benchmark for answer in chosen}
    places = sorted({shards[key] for key in wanted})
    rows: dict[str, Mapping[str, Any]] = {}
    for shard in shard_lines(judge.store, [current.records[place] for place in places], threads=THREADS):
        for row in map(orjson.loads, shard.lines):
            if row["key"] in wanted:
                rows[row["key"]] = row
    shown = pictures({key: Wanted(benchmark, rows[key]["image"]) for key, benchmark in wanted.items()})
    return [_example(answer, rows[answer.image], shown[answer.image]) for answer in chosen]


def _example(answer: ChosenAnswer, row: Mapping[str, Any], picture: Thumbnail | NoThumbnail) -> Example:
    question = next(one for one in row["questions"] if one["id"] == answer.question)
    return Example(
        answer,
        BenchmarkQuestion.of(question),
        row["captions"][answer.caption],
        len(row["captions"]),
        question["replies"][answer.caption],
        picture,
    )
