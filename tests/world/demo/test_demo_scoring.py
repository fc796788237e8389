"""What the demo says a dataset is worth: every picture counts, what was no drawn picture does not."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from caprl_core.qa.question import Question
from caprl_core.world.captions import full_caption
from caprl_core.world.demo.drawing import ASKED_SEED
from caprl_core.world.demo.files import DemoFolder
from caprl_core.world.demo.scoring import gain, judged, table_rows
from caprl_core.world.question_set import drawn_scenes, write_question_set
from caprl_core.world.scene import Scene
from support.demo_parts import SMALL, scored_dataset

SCENES = drawn_scenes("held_out", SMALL.captioned, ASKED_SEED)


@pytest.fixture
def folder(tmp_path: Path) -> DemoFolder:
    folder = DemoFolder(tmp_path)
    folder.clear()
    write_question_set(folder.asked, "held_out", SMALL.captioned, ASKED_SEED)
    return folder


def complete(_: str, scene: Scene) -> str:
    return full_caption(scene)


def thin(_: str, scene: Scene) -> str:
    return f"There is a {scene.things[0].shape}."


def right(question: Question) -> str | None:
    return question.gold_text


def first_wrong(question: Question) -> str | None:
    return next(text for text in question.options if text != question.gold_text)


def abstains(_: Question) -> str | None:
    return None


def test_a_complete_dataset_answers_everything(folder: DemoFolder) -> None:
    scored_dataset(folder, "after", complete, right)
    found = judged(folder, "after", SMALL.captioned)
    assert (found.pictures, len(found.captions)) == (SMALL.captioned, SMALL.captioned)
    assert (found.reader, found.abstained) == (1.0, 0.0)
    assert (found.figures.strict, found.figures.true, found.figures.recall) == (1.0, 1.0, 1.0)


def test_a_picture_without_a_caption_answers_nothing_and_is_counted(folder: DemoFolder) -> None:
    missing = next(iter(SCENES))
    scored_dataset(folder, "after", lambda key, scene: None if key == missing else full_caption(scene), right)
    found = judged(folder, "after", SMALL.captioned)
    assert missing not in found.captions
    share = (SMALL.captioned - 1) / SMALL.captioned
    assert (found.reader, found.figures.strict) == (pytest.approx(share), pytest.approx(share))
    assert found.figures.true == 1.0, "what is not said is not false"


def test_rows_of_files_that_are_no_drawn_picture_do_not_count(folder: DemoFolder) -> None:
    scored_dataset(folder, "after", complete, right, others={"rotated-by-exif.jpg": "There is a red star."})
    found = judged(folder, "after", SMALL.captioned)
    assert set(found.captions) == set(SCENES)
    assert found.figures.true == 1.0


@pytest.mark.parametrize(("answers", "outcome"), [(right, "right"), (first_wrong, "wrong"), (abstains, "abstained")])
def test_what_the_reader_said_is_told_by_its_text(
    folder: DemoFolder, answers: Callable[[Question], str | None], outcome: str
) -> None:
    questions = scored_dataset(folder, "before", complete, answers)
    found = judged(folder, "before", SMALL.captioned)
    for key, caption in found.captions.items():
        assert [one.outcome for one in caption.asked] == [outcome] * len(questions[key])
        assert [one.stem for one in caption.asked] == [question.stem for question in questions[key]]
        assert [one.right for one in caption.asked] == [question.gold_text for question in questions[key]]
        assert [one.said for one in caption.asked] == [answers(question) for question in questions[key]]
    assert found.abstained == (1.0 if outcome == "abstained" else 0.0)


def test_the_gain_is_the_mean_difference_of_the_pictures_with_its_error(folder: DemoFolder) -> None:
    scored_dataset(folder, "before", thin, abstains)
    scored_dataset(folder, "after", complete, right)
    found = {era: judged(folder, era, SMALL.captioned) for era in ("before", "after")}
    assert gain(found) == (1.0, 0.0), "the same on every picture"
    half = set(list(SCENES)[: SMALL.captioned // 2])
    scored_dataset(folder, "after", lambda key, scene: full_caption(scene) if key in half else None, right)
    mean, error = gain(found | {"after": judged(folder, "after", SMALL.captioned)})
    # Of n pictures half gain 1 and half nothing: the variance is n / (n - 1) / 4, its mean's a n-th of that.
    assert mean == pytest.approx(0.5)
    assert error == pytest.approx((1 / (SMALL.captioned - 1) / 4) ** 0.5)


def test_the_table_shows_both_readers_truth_and_grammar(folder: DemoFolder) -> None:
    scored_dataset(folder, "before", thin, abstains)
    scored_dataset(folder, "after", complete, right)
    rows = table_rows({era: judged(folder, era, SMALL.captioned) for era in ("before", "after")})
    shown: Mapping[str, tuple[str, str]] = {row.name: (row.before, row.after) for row in rows}
    assert shown["questions answered, tiny reader"] == ("0.000", "1.000")
    assert shown["questions answered, rule reader"][1] == "1.000"
    assert shown["stated facts that are true"] == ("1.000", "1.000")
    assert shown["pictures with a caption"] == ("6 of 6", "6 of 6")
    assert all(row.shares is None or 0 <= min(row.shares) <= max(row.shares) <= 1 for row in rows)


def test_scores_and_captions_of_other_rows_are_refused(folder: DemoFolder) -> None:
    scored_dataset(folder, "after", complete, right)
    lines = folder.scores("after").read_text().splitlines()
    folder.scores("after").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match="shorter"):
        judged(folder, "after", SMALL.captioned)
    assert json.loads(lines[0])
