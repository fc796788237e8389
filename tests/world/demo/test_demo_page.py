"""The demo's page: everything in one file that can neither run nor fetch anything, whatever the captions say."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from caprl_core.qa.sets.stats import CurationStats
from caprl_core.world.captions import full_caption
from caprl_core.world.demo.annotating import Annotated, Stored
from caprl_core.world.demo.curating import Curated
from caprl_core.world.demo.drawing import ASKED_SEED, draw_world
from caprl_core.world.demo.files import ERAS, DemoFolder, Era
from caprl_core.world.demo.learning import Learnt
from caprl_core.world.demo.page import SHOWN, Told, demo_page
from caprl_core.world.demo.ranking import Ranked
from caprl_core.world.demo.scoring import Judged, JudgedCaption, judged
from caprl_core.world.question_set import drawn_scenes
from support.demo_parts import SMALL, commands_in, scored_dataset
from support.page_reader import Read, read_harmless
from support.training_run import write_training_run

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u202e&amp; "quoted"'
CAPTIONED = SHOWN + 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DemoFolder:
    """Pictures, two scored datasets and a training run."""
    made = DemoFolder(tmp_path_factory.mktemp("demo"))
    made.clear()
    draw_world(made, replace(SMALL, captioned=CAPTIONED), commands_in(made))
    scored_dataset(made, "before", lambda key, scene: f"There is a {scene.things[0].shape}.", lambda _: None)
    scored_dataset(made, "after", lambda key, scene: full_caption(scene), lambda question: question.gold_text)
    write_training_run(made.training, steps=20, captioned=6)
    return made


@pytest.fixture
def told(folder: DemoFolder) -> Told:
    return Told(
        curated=Curated(
            CurationStats(
                rotations=4,
                stages={"generate": {"samples": 12, "rows": 12, "rejected": 0, "pending": 0}},
                refused={"duplicate": 2},
                parsed=34,
                reasons={"visual_too_low": 4},
                kept={"train": 30},
                images_kept={"train": 12},
                votes=272,
            ),
            folder.curation / "curated" / "abc" / "report.html",
        ),
        learnt=Learnt(folder.training / "captioner", folder.training / "report.html", 20, 0.2, 0.8),
        datasets={
            "before": Annotated("s3://b/before", 20, 15, {"image_corrupt": 1, "image_missing": 4}, Stored(8, 5)),
            "after": Annotated("s3://b/after", 20, 15, {"image_corrupt": 1, "image_missing": 4}, None),
        },
        judged={era: judged(folder, era, CAPTIONED) for era in ERAS},
        ranked=[
            Ranked("before", 0.12, 0.1, 0.14, folder.evaluation / "b" / "results" / "1"),
            Ranked("after", 0.5, 0.46, 0.54, folder.evaluation / "a" / "results" / "2"),
            Ranked("perfect", 0.99, 0.98, None, folder.evaluation / "p" / "results" / "3"),
        ],
        seconds={"Pictures": 2.0, "Learning": 130.0},
        links={"report of the curation": folder.curation / "report.html", "captions": folder.captions("after")},
    )


def read_page(page: bytes) -> tuple[Read, list[str]]:
    """The page, proved harmless but for its links to files beside it, and these."""
    beside = [link for link in re.findall(r'href="([^"#][^"]*)"', page.decode()) if not link.startswith("data:")]
    return read_harmless(re.sub(rb'href="[^"#][^"]*"', b'href="#content"', page)), beside


def test_the_page_shows_every_chapter(told: Told, folder: DemoFolder) -> None:
    read, _ = read_page(demo_page(told, folder))
    said = read.said()
    assert "Questions kept 30 of 36 written" in said
    assert "questions answered, tiny reader" in said
    assert "The tiny reader answers +1.000 more of them" in said
    assert "8 samples were committed and 5 more in its log" in said
    assert "rejected: image missing" in said
    assert "Learning 130" in said
    assert {"What the captions are worth", "Questions left after each step", "Reward"} <= read.charts().keys()


def test_the_first_pictures_stand_side_by_side_with_the_questions_won(told: Told, folder: DemoFolder) -> None:
    read, _ = read_page(demo_page(told, folder))
    assert len(read.tags("img")) == SHOWN
    said = read.said()
    for key, scene in list(drawn_scenes("held_out", CAPTIONED, ASKED_SEED).items())[:SHOWN]:
        assert key in said
        # New words are marked, so the text comes in pieces.
        assert full_caption(scene).replace(" ", "") in said.replace(" ", "")
    assert "won" in said and "abstained" in said


def test_links_lead_to_files_below_the_page(told: Told, folder: DemoFolder) -> None:
    _, links = read_page(demo_page(told, folder))
    assert links == ["curation/report.html", "captions/after.jsonl"]


def test_text_of_models_is_shown_and_never_interpreted(told: Told, folder: DemoFolder) -> None:
    page = demo_page(replace(told, judged=_with_captions(told.judged, HOSTILE)), folder)
    read, _ = read_page(page)
    assert not read.tags("script")
    assert "[U+202E]" in read.said()
    assert "alert(1)" in read.said()


def test_a_picture_that_one_captioner_left_out_is_shown_all_the_same(told: Told, folder: DemoFolder) -> None:
    without = replace(told.judged["before"], captions={})
    read, _ = read_page(demo_page(replace(told, judged={**told.judged, "before": without}), folder))
    assert len(read.tags("img")) == SHOWN
    assert f"0 of {CAPTIONED}" in read.said()
    assert "not captioned" in read.said()


def test_a_picture_whose_file_is_gone_costs_its_picture_alone(told: Told, folder: DemoFolder, tmp_path: Path) -> None:
    elsewhere = DemoFolder(tmp_path)
    elsewhere.clear()
    write_training_run(elsewhere.training, steps=4, captioned=4)
    moved = replace(told, links={})
    read, _ = read_page(demo_page(moved, elsewhere))
    assert read.tags("img") == []
    assert "No picture" in read.said()


def _with_captions(found: Mapping[Era, Judged], text: str) -> dict[Era, Judged]:
    def hostile(caption: JudgedCaption) -> JudgedCaption:
        asked = tuple(replace(one, stem=text, said=text, reply=text, outcome="wrong") for one in caption.asked)
        return replace(caption, text=text, asked=asked)

    return {
        era: replace(one, captions={key: hostile(caption) for key, caption in one.captions.items()})
        for era, one in found.items()
    }
