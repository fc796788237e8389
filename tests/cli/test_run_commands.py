"""`caprl plan`, `annotate`, `status`, `verify`, `release`, `sweep`, `urls`: what they print and what they end with."""

import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from caprl_core.cli import main
from caprl_core.cli.quantities import duration
from caprl_core.cli.run_display import RunDisplay
from caprl_core.cli.urls import braced
from caprl_core.errors import ShardQuarantinedError
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.shards.dataset import open_dataset
from caprl_core.shards.events import ShardEvent
from caprl_core.shards.progress import unfinished_units
from caprl_core.shards.tally import RunStart
from caprl_core.storage.commit import read_commit
from caprl_core.storage.layout import Attempt, Unit
from caprl_core.storage.store import Store
from support.drawn_dataset import draw_pictures, lane_for, planned, recipe_for
from support.echo_engine import EchoEngine

SAMPLES, SHARDS = 24, 4


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def caprl(*arguments: object) -> Done:
    """The command line, in this process: a process of its own would take a second each time."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["caprl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


class Made:
    """A recipe in a file and what a lane made of it, a part at a time."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.pictures = draw_pictures(folder / "pictures", SAMPLES)
        self.uri = str(folder / "dataset")
        self.path = folder / "recipe.yaml"
        self.folder = folder
        self.change(**changes)

    def change(self, **changes: Any) -> None:
        self.recipe: CaptionRecipe = recipe_for(self.pictures, self.uri, dataset__shard_samples=6, **changes)
        self.path.write_text(yaml.safe_dump(self.recipe.model_dump(mode="json")))

    def annotate(self, shards: int | None = None) -> None:
        dataset = planned(self.recipe)
        with lane_for(self.recipe, dataset, EchoEngine()) as lane:
            for unit in unfinished_units(dataset)[:shards]:
                try:
                    lane.run(unit)
                except ShardQuarantinedError:
                    continue


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


# plan


def test_planning_says_what_it_found_and_planning_again_that_nothing_changed(made: Made) -> None:
    first = caprl("plan", made.path)
    assert first.returncode == 0, first.stderr
    assert f"drawn: {SAMPLES} samples in {SHARDS} shards" in first.stdout
    again = json.loads(caprl("plan", made.path, "--json").stdout)
    assert again["planned_before"]
    assert (again["samples"], again["shards"], again["records"]) == (SAMPLES, SHARDS, {"folder": SAMPLES})


def test_planning_another_recipe_into_the_same_place_is_refused(made: Made) -> None:
    caprl("plan", made.path)
    made.change(model__name="test/other")
    refused = caprl("plan", made.path)
    assert refused.returncode == 2
    assert "model.name" in refused.stderr


def test_sources_that_changed_since_the_plan_are_refused(made: Made) -> None:
    caprl("plan", made.path)
    draw_pictures(made.pictures, SAMPLES + 1)
    refused = caprl("plan", made.path)
    assert refused.returncode == 2
    assert "the sources changed" in refused.stderr


# annotate


def test_annotating_becomes_the_flow_and_shares_its_exit_code(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: Not A Slug\n")
    for command in ("annotate", "retry-rejected"):
        done = subprocess.run(
            [sys.executable, "-m", "caprl_core.cli", command, str(recipe), "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 2, done.stderr
        # The flow's own JSON, not this command's message: the process was replaced.
        assert json.loads(done.stdout)["event"] == "error"


def test_retrying_an_unknown_reason_is_refused_at_once(made: Made) -> None:
    done = caprl("retry-rejected", made.path, "--reason", "too_boring")
    assert done.returncode == 2
    assert "truncated" in done.stderr


# status


def test_status_tells_by_its_exit_code_what_is_left(made: Made) -> None:
    assert caprl("status", made.uri).returncode == 2
    planned(made.recipe)
    pending = caprl("status", made.path)
    assert (pending.returncode, "0 of 24 committed" in pending.stdout) == (3, True)
    made.annotate(shards=1)
    assert "6 of 24 committed (25.0 %)" in caprl("status", made.uri).stdout
    made.annotate()
    done = caprl("status", made.uri, "--watch")  # watching ends when there is nothing left to see
    assert done.returncode == 0
    assert "4 of 4 committed" in done.stdout


def test_status_counts_reasons_and_costs(made: Made) -> None:
    made.change(execution__cost={"gpus": 2, "gpu_hour_price": 3600.0, "currency": "EUR"})
    (made.pictures / "picture-0000.png").write_bytes(b"no picture")
    made.annotate()
    found = json.loads(caprl("status", made.path, "--json").stdout)
    assert (found["rows"], found["rejected"], found["reasons"]) == (23, 1, {"image_corrupt": 1})
    assert found["cost"] == pytest.approx(found["gpu_hours"] * 3600.0)
    assert found["cost"] > 0
    shown = caprl("status", made.path).stdout
    assert "rejected  1 (image_corrupt: 1)" in shown
    assert "EUR" in shown


def test_a_mistyped_dataset_is_refused_and_not_made(tmp_path: Path) -> None:
    done = caprl("status", tmp_path / "datset")
    assert done.returncode == 2
    assert not (tmp_path / "datset").exists()


# quarantine


def test_quarantined_shards_are_shown_and_released(made: Made) -> None:
    made.change(execution__gate={"min_samples": 2, "max_share": {"*": 0.5}})
    for path in sorted(made.pictures.iterdir())[6:12]:
        path.write_bytes(b"no picture")
    made.annotate()
    status = caprl("status", made.path)
    assert status.returncode == 5
    assert "quarantined  shards 1" in status.stdout

    assert caprl("release", made.path, "1").returncode == 2, "neither --accept nor --redo"
    assert caprl("release", made.path, "1", "--accept", "--redo").returncode == 2
    other = caprl("release", made.path, "0", "--accept")
    assert (other.returncode, "those that are: 1" in other.stderr) == (2, True)

    assert caprl("release", made.uri, "1", "--redo").returncode == 0
    made.annotate()
    assert caprl("status", made.path).returncode == 5
    assert caprl("release", made.path, "1", "--accept").returncode == 0
    made.annotate()
    assert caprl("status", made.path).returncode == 0
    assert read_commit(Store(made.uri), Unit(1, 0)).rejected == 6


# verify


def test_verify_distinguishes_incomplete_from_wrong(made: Made) -> None:
    made.annotate(shards=2)
    incomplete = caprl("verify", made.path)
    assert incomplete.returncode == 3
    assert "24 planned = 12 rows + 0 rejected + 12 pending" in incomplete.stdout
    made.annotate()
    whole = caprl("verify", made.uri, "--deep")
    assert (whole.returncode, "sound\n" in whole.stdout) == (0, True)

    tar = Path(made.uri) / "shards" / "drawn-000002.tar"
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)
    wrong = caprl("verify", made.uri, "--deep", "--json")
    assert wrong.returncode == 4
    report = json.loads(wrong.stdout)
    assert not report["sound"]
    assert "000002.r000" in report["problems"][0]
    assert caprl("verify", made.uri, "--deep").returncode == 4


# sweep


def test_sweep_deletes_what_a_dead_attempt_left_and_a_dry_run_does_not(made: Made) -> None:
    made.annotate()
    store = Store(made.uri)
    key = Attempt.begin(Unit(0, 0)).object_key("tar")
    store.put(key, b"of a loser")
    assert json.loads(caprl("sweep", made.uri, "--dry-run", "--json").stdout)["keys"] == [key]
    assert store.size(key) is not None
    assert "1 objects were deleted" in caprl("sweep", made.path).stdout
    assert store.size(key) is None


# urls


def test_urls_are_those_of_published_tars(made: Made) -> None:
    made.annotate(shards=2)
    some = caprl("urls", made.path)
    assert some.returncode == 3
    assert some.stdout.splitlines() == [f"{made.uri}/shards/drawn-00000{n}.tar" for n in range(2)]
    made.annotate()
    assert caprl("urls", made.uri, "--brace").stdout == f"{made.uri}/shards/drawn-{{000000..000003}}.tar\n"


def test_braces_join_neighbours_of_revision_0_and_one_width() -> None:
    units = [
        Unit(0, 0),
        Unit(1, 0),
        Unit(2, 1),
        Unit(3, 0),
        Unit(5, 0),
        Unit(6, 0),
        Unit(999_999, 0),
        Unit(1_000_000, 0),
    ]
    assert braced("a-000000", units) == [
        "shards/a-000000-{000000..000001}.tar",
        "shards/a-000000-000002.r1.tar",
        "shards/a-000000-000003.tar",
        "shards/a-000000-{000005..000006}.tar",
        "shards/a-000000-999999.tar",
        "shards/a-000000-1000000.tar",
    ]


# the display


def test_json_lines_of_a_run_are_one_object_each(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = planned(made.recipe)
    with RunDisplay(as_json=True, live=False) as display:
        display.started(RunStart("drawn", made.uri, SAMPLES, SAMPLES, 0, 0, SHARDS))
        with lane_for(made.recipe, dataset, EchoEngine()) as lane:
            display.finished(lane.run(Unit(0, 0), display.event))
        display.failed(Unit(1, 0), ShardQuarantinedError("too many"))
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["started", "shard", "quarantined"]
    assert (events[1]["unit"], events[1]["rows"]) == ("000000.r000", 6)


def test_plain_lines_go_to_standard_error(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    planned(made.recipe)
    with RunDisplay(as_json=False, live=False, resume="again please") as display:
        display.started(RunStart("drawn", made.uri, SAMPLES, SAMPLES, 6, 0, SHARDS))
        display.stopped("SIGTERM")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "6 of 24 samples done" in shown.err
    assert "again please" in shown.err


def test_the_live_display_shows_what_is_done_and_in_flight(
    made: Made, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    monkeypatch.setenv("COLUMNS", "160")
    with RunDisplay(as_json=False, live=True) as display:
        display.started(RunStart("drawn", made.uri, SAMPLES, SAMPLES, 6, 0, SHARDS))
        display.event(ShardEvent(Unit(1, 0), "sample", 3, 1))
        time.sleep(0.6)  # two redraws
    shown = capfd.readouterr().err
    assert "9/24 samples, 1 rejected" in shown
    assert "shard 1 (3)" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_read_well_at_their_edges(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_dataset_is_opened_by_the_recipe_it_was_made_with_only(made: Made) -> None:
    made.annotate(shards=1)
    made.change(prompt__text="Something else.")
    done = caprl("status", made.path)
    assert done.returncode == 2
    assert "prompt.text" in done.stderr
    assert open_dataset(Store(made.uri)).record.name == "drawn"
