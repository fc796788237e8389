"""What a run that follows its lanes by the bucket hears of them."""

from pathlib import Path

import pytest

from caprl_core.shards.bucket_news import BucketNews, News
from caprl_core.shards.dataset import Dataset
from caprl_core.storage.commit import commit
from caprl_core.storage.layout import ROLES, Attempt, Unit
from support.commit_records import commit_record
from support.drawn_dataset import draw_pictures, planned, recipe_for

UNITS = [Unit(0, 0), Unit(1, 0)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return planned(recipe_for(draw_pictures(tmp_path / "images", 40), str(tmp_path / "out")))


def log(dataset: Dataset, attempt: Attempt, segment: int, samples: int) -> None:
    dataset.store.put(attempt.log_key(segment, samples), b"{}\n")


def test_samples_are_told_once_and_who_began_first_stands_first(dataset: Dataset) -> None:
    news = BucketNews(dataset, UNITS)
    later, first = Attempt.begin(UNITS[0]), Attempt.begin(UNITS[1])
    log(dataset, first, 0, 3)
    assert [(event.unit, event.done) for event in news.read().events] == [(UNITS[1], done) for done in (1, 2, 3)]
    log(dataset, later, 0, 1)
    log(dataset, first, 1, 5)
    told = news.read()
    assert [(event.unit, event.done) for event in told.events] == [(UNITS[0], 1), (UNITS[1], 4), (UNITS[1], 5)]
    assert told.begun == (UNITS[1], UNITS[0])
    assert news.read().events == []


def test_what_earlier_runs_began_is_not_begun_in_this_one(dataset: Dataset) -> None:
    log(dataset, Attempt.begin(UNITS[0]), 0, 7)
    news = BucketNews(dataset, UNITS)
    assert news.read().begun == ()
    log(dataset, Attempt.begin(UNITS[0]), 0, 1)
    assert news.read().begun == (UNITS[0],)


def test_a_shard_that_is_done_again_is_heard_though_its_samples_are_no_news(dataset: Dataset) -> None:
    """After `caprl release --redo` the logs of before still lie there, full."""
    log(dataset, Attempt.begin(UNITS[0]), 0, 20)
    news = BucketNews(dataset, UNITS)
    again = Attempt.begin(UNITS[0])
    for segment, samples in enumerate((2, 9)):
        log(dataset, again, segment, samples)
        told = news.read()
        assert told.heard == {UNITS[0]}
        assert told.events == []
    assert news.read().heard == set()


def test_a_verdict_is_told_once_and_none_on_a_shard_that_is_done(dataset: Dataset) -> None:
    done, refused = UNITS
    news = BucketNews(dataset, UNITS)
    commit(dataset.store, commit_record(done, samples=20, dataset="drawn"))
    for role in ROLES:
        dataset.store.put(done.final_key("drawn", role), b"")
    for unit in UNITS:
        dataset.store.put(f"{unit.quarantine_prefix}/first.json", b"{}")
    told = news.read()
    assert [result.unit for result in told.finished] == [done]
    assert told.quarantined.keys() == {refused}
    dataset.store.put(f"{refused.quarantine_prefix}/second.json", b"{}")
    assert news.read() == News([], set(), [], {}, ())


def test_what_was_only_published_was_neither_asked_nor_won_in_this_run(dataset: Dataset) -> None:
    done = UNITS[0]
    commit(dataset.store, commit_record(done, samples=20, dataset="drawn"))
    news = BucketNews(dataset, UNITS)
    for role in ROLES:
        dataset.store.put(done.final_key("drawn", role), b"")
    told = news.read()
    assert [(result.unit, result.won, result.resumed) for result in told.finished] == [(done, False, 0)]
    assert told.events == []


def test_what_a_lane_left_is_not_begun_until_the_next_one_writes(dataset: Dataset) -> None:
    news = BucketNews(dataset, UNITS)
    lost, after = Attempt.begin(UNITS[0]), Attempt.begin(UNITS[0])
    log(dataset, lost, 0, 3)
    assert news.read().begun == (UNITS[0],)
    news.abandoned([UNITS[0]])
    log(dataset, lost, 1, 4)  # cut off, it goes on
    assert news.read().begun == ()
    log(dataset, after, 0, 1)
    assert news.read().begun == (UNITS[0],)
