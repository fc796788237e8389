"""The watched pictures of the training page: captions side by side, questions won and lost, words newly stated."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.report.axes import figure
from caprl_core.report.markup import escaped
from caprl_core.training.page.new_words import with_new_words
from caprl_core.training.page.watched import chosen_steps
from support.edited_run import captioned, cards, change, draw, page_of, page_text


def test_each_watched_picture_is_shown_with_its_captions_side_by_side(finished: Path) -> None:
    read = page_of(finished)
    shown = cards(read)
    watched = list(json.loads((finished / "run.json").read_text())["watched"])
    assert [card.split()[1] for card in shown] == watched
    assert [image["alt"] for image in read.tags("img")] == [
        f"Picture {key}, which the captions describe" for key in watched
    ]
    for step in (0, 10, 30, 40, 60):
        rows = {
            row["key"]: row for row in pq.read_table(finished / "held_out" / f"step-{step:06d}.parquet").to_pylist()
        }
        for key, card in zip(watched, shown, strict=True):
            words = re.sub(r"\W+", " ", rows[key]["caption"])
            assert words in re.sub(r"\W+", " ", card)
            right = [draw["outcome"] for draw in rows[key]["draws"]].count("right")
            assert f"reward {figure(rows[key]['reward'])} · {right} of {len(rows[key]['draws'])} right" in card
    assert "Step 20" not in "".join(shown)  # five columns are enough
    assert all("Step 0 before" in card and "Step 60 best, last" in card for card in shown)


def test_every_question_is_won_or_lost_at_every_checkpoint_as_the_run_has_it(run: Path) -> None:
    page = page_text(run)
    shown = 0
    for place, key in enumerate(json.loads((run / "run.json").read_text())["watched"]):
        draws: dict[str, list[str]] = {}
        for step in (0, 4, 8):
            table = pq.read_table(run / "held_out" / f"step-{step:06d}.parquet").to_pylist()
            for one in next(row for row in table if row["key"] == key)["draws"]:
                draws.setdefault(one["stem"], []).append("won" if one["outcome"] == "right" else "lost")
        card = page.split('<article class="watched"')[place + 1].partition("</article>")[0]
        rows = re.findall(r'<tr role="row" class="asked">(.*?)</tr>', card, re.S)
        for stem, outcomes in draws.items():
            if outcomes == ["won"] * 3:
                assert stem in card.partition("Won at every one of these checkpoints")[2]
                continue
            (row,) = [row for row in rows if f">{stem}<" in row]
            assert re.findall(r'<td role="cell" class="(\w+)">', row) == outcomes
        shown += len(rows)
        assert len(rows) == sum(outcomes != ["won"] * 3 for outcomes in draws.values())
    assert shown > 10


def test_a_lost_question_says_what_the_reader_said_instead(run: Path) -> None:
    captioned(run, 0, "Nothing.", [
        draw("Wrong?", "wrong"),
        draw("Silent?", "abstained", "C"),
        draw("Garbled?", "unread", None, "hm, well"),
        draw("Gone?", "failed", None, ""),
        draw("Later?", "wrong"),
    ])  # fmt: skip
    captioned(run, 4, "A red star.", [draw("Later?", "right", "A"), draw("Wrong?", "wrong")])
    captioned(run, 8, "A red star.", [draw(stem, "right", "A") for stem in ("Later?", "Wrong?", "Silent?")])
    (card,) = cards(page_of(run))
    assert "Wrong? right: red 0 ✗ lost: said blue 4 ✗ lost: said blue 8 ✓ won" in card
    assert "Silent? right: red 0 ✗ lost: abstained 4 — not asked 8 ✓ won" in card
    assert "Garbled? right: red 0 ✗ lost: unreadable: “hm, well”" in card
    assert "Gone? right: red 0 no reply" in card
    assert "Later? right: red 0 ✗ lost: said blue 4 ✓ won 8 ✓ won" in card
    assert "questions: 3 newly won, 2 not asked twice" in card
    assert "0 of 4 right" in card  # a failed request is no answer


def test_questions_newly_won_stand_first_then_those_lost_again(run: Path) -> None:
    def outcomes(*right: str) -> list[dict[str, Any]]:
        return [draw(stem, "right" if stem in right else "wrong") for stem in ("Never?", "Lost?", "Gained?", "Always?")]

    captioned(run, 0, "One.", outcomes("Lost?", "Always?"))
    captioned(run, 4, "Two.", outcomes("Always?"))
    captioned(run, 8, "Three.", outcomes("Gained?", "Always?"))
    (card,) = cards(page_of(run))
    places = [card.index(stem) for stem in ("Gained?", "Lost?", "Never?", "Always?")]
    assert places == sorted(places)
    assert "1 newly won, 1 lost again, 1 still lost, 1 still won" in card
    assert "Won at every one of these checkpoints (1): Always? ( red )" in card


def test_a_question_drawn_twice_is_won_only_if_it_was_right_both_times(run: Path) -> None:
    captioned(run, 8, "Something.", [draw("Twice?", "right", "A"), draw("Twice?", "wrong")])
    (card,) = cards(page_of(run))[:1]
    assert "8 ✗ lost: 1 of 2 said blue" in card


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ("A star.", "A red star at the top left.", ["red", "top left"]),
        ("A red star and a circle.", "A red star and a red circle.", ["red"]),
        ("A star, a circle.", "A circle, a star.", []),  # only moved
        ("There is a star.", "A STAR is there.", []),
        ("A dog.", "A dog with a big ball in the grass, and a cat.", ["big ball in the grass", "cat"]),
        ("", "Two stars.", ["Two stars"]),
        ("Two stars.", "", []),
        ("一颗星", "一颗红星和圆", ["红", "和圆"]),  # no spaces between words
        ("A star.", "A star & a <b>bold</b> circle.", ["b", "bold", "b", "circle"]),
    ],
)
def test_words_newly_stated_are_marked(before: str, after: str, new: list[str]) -> None:
    text = with_new_words(after, before)
    assert re.findall("<mark>(.*?)</mark>", text) == new
    assert html.unescape(re.sub("</?mark>", "", text)) == after


@given(st.text("ab \n.,<&é", max_size=60), st.text("ab \n.,<&é", max_size=60))
def test_marking_neither_loses_nor_adds_a_character(before: str, after: str) -> None:
    assert re.sub("</?mark>", "", with_new_words(after, before)) == escaped(after) == with_new_words(after, None)


def test_each_caption_is_compared_with_the_one_in_the_column_before(run: Path) -> None:
    for step, caption in ((0, "A star."), (4, "A red star."), (8, "A red star and a circle.")):
        captioned(run, step, caption)
    page = page_text(run)
    assert 'dir="auto">A star.</div>' in page
    assert 'dir="auto">A <mark>red</mark> star.</div>' in page
    assert 'dir="auto">A red star and a <mark>circle</mark>.</div>' in page


@given(st.sets(st.integers(0, 10**6), max_size=40), st.integers(0, 10**6), st.integers(2, 6))
def test_the_first_the_best_and_the_last_checkpoint_are_always_chosen(steps: set[int], best: int, most: int) -> None:
    found = chosen_steps(sorted(steps), best, max(3, most))
    assert found == sorted(set(found)) and set(found) <= steps
    assert len(found) == min(len(steps), max(3, most))
    if steps:
        assert {min(steps), max(steps)} <= set(found)
    assert best not in steps or best in found


def test_the_others_lie_between_them() -> None:
    assert chosen_steps(range(101), 90, 5) == [0, 22, 45, 90, 100]
    assert chosen_steps(range(101), 90, 4) == [0, 45, 90, 100]
    assert chosen_steps([0, 10, 20, 30, 40, 50, 60], 60, 5) == [0, 10, 30, 40, 60]
    assert chosen_steps([5], 5) == [5] and chosen_steps([], None) == []


def test_a_caption_without_a_reward_says_why(run: Path) -> None:
    captioned(run, 8, "A star.", reward=None, reason="too_few_answers", truncated=True)
    (card,) = cards(page_of(run))[:1]
    assert "no reward: too few answers · 5 tokens · cut at the limit" in card


def test_a_long_caption_can_be_scrolled_with_the_keyboard(run: Path) -> None:
    captioned(run, 8, "word " * 300)
    windows = [one for one in page_of(run).tags("div") if one.get("tabindex") == "0"]
    assert [one["aria-label"] for one in windows] == ["Caption at step 8"]


def test_a_picture_of_a_run_without_names_is_found_by_its_key(run: Path) -> None:
    change(run / "run.json", lambda about: about.pop("watched"))
    (run / "pictures" / "picture-1.png").rename(run / "pictures" / "scene-001.png")
    assert [card.split()[1] for card in cards(page_of(run))] == ["scene-001"]


def test_no_name_leads_out_of_the_folder_of_pictures(run: Path) -> None:
    (run / "pictures" / "picture-0.png").rename(run / "secret.png")
    (run / "pictures" / "link.png").symlink_to(run / "secret.png")
    for name in ("../secret.png", str(run / "secret.png"), "link.png"):
        change(run / "run.json", lambda about, name=name: about["watched"].update({"scene-000": name}))
        assert [card.split()[1] for card in cards(page_of(run))] == ["scene-001"]


def test_a_picture_that_cannot_be_shown_says_why_and_keeps_its_captions(run: Path) -> None:
    (run / "pictures" / "picture-0.png").write_bytes(b"no picture")
    read = page_of(run)
    assert len(read.tags("img")) == 1
    assert re.search(r"No picture: \w+: \w+", cards(read)[0])
    assert "There" in cards(read)[0]
