"""Question sets with pictures, as a run takes them over: once, whole, checked, and apart from the held-out ones."""

import hashlib
import io
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caprl_core.errors import BadInputError
from caprl_core.qa.question import Question
from caprl_core.qa.sets.curated_files import choices
from caprl_core.qa.sets.released import RELEASED
from caprl_core.recipe.load import load_training_recipe
from caprl_core.recipe.training import TrainingRecipe
from caprl_core.training.questions import TaughtSet, taught_sets
from caprl_core.training.task import task_dataset
from caprl_core.world.question_set import write_question_set
from support.asked_reader import question
from support.world_training import RECIPE

HOSTILE = ["../../escaped", "/etc/passwd", "..", ".", "a/../../b", "C:\\x", "nul\0", " ", "%2e%2e%2f", "k" * 5000]


def picture(number: int) -> bytes:
    """A PNG unlike those of other numbers."""
    stream = io.BytesIO()
    Image.new("RGB", (32 + number % 8, 32), (number * 37 % 256, number * 11 % 256, number % 256)).save(stream, "PNG")
    return stream.getvalue()


def row(key: str, data: bytes | None, *questions: Question, path: str | None = None) -> dict[str, Any]:
    asked = [{"question": one.stem, "choices": choices(one.options), "answer": one.answer} for one in questions]
    return {
        "id": key,
        "image": {"bytes": data, "path": path or f"{key[:20]}.png"},
        "prompt": [],
        "data_source": "test",
        "reward_model": {"ground_truth": asked or [{"question": "What?", "choices": ["A) x", "B) y"], "answer": "Q"}]},
    }


def written(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=RELEASED), path, row_group_size=3)
    return str(path)


def drawn(path: Path, numbers: Sequence[int]) -> str:
    return written(path, [row(f"key-{number}", picture(number), question(number)) for number in numbers])


def recipe_of(train: str, held_out: str | None = None, pictures: int = 256) -> TrainingRecipe:
    known = load_training_recipe(RECIPE)
    questions = {"train": train, "held_out": held_out, "pictures": pictures}
    execution = {"decode_workers": 1}  # starting another takes longer than these pictures
    return known.model_copy(
        update={
            "questions": known.questions.model_copy(update=questions),
            "execution": known.execution.model_copy(update=execution),
        }
    )


def taken(recipe: TrainingRecipe, folder: Path) -> dict[str, TaughtSet]:
    train, held_out = taught_sets(recipe, folder)
    return {"train": train, "held_out": held_out}


def kept_pictures(found: TaughtSet) -> dict[str, bytes]:
    with pa.memory_map(str(found.arrow)) as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    return dict(zip(table["key"].to_pylist(), table["picture"].to_pylist(), strict=True))


def test_a_set_is_taken_over_with_its_pictures_and_questions_in_order(tmp_path: Path) -> None:
    numbers = [5, 3, 9, 1, 7]
    held_out = drawn(tmp_path / "held_out.parquet", [20, 21])
    found = taken(recipe_of(drawn(tmp_path / "train.parquet", numbers), held_out), tmp_path / "sets")
    train = found["train"]
    assert kept_pictures(train) == {f"key-{number}": picture(number) for number in numbers}
    assert list(kept_pictures(train)) == list(train.questions) == [f"key-{number}" for number in numbers]
    assert train.questions["key-9"] == (question(9),)
    assert train.pictures["key-9"] == hashlib.sha256(picture(9)).hexdigest()
    assert list(found["held_out"].questions) == ["key-20", "key-21"]
    summary = train.summary()
    assert summary == {
        "uri": str(tmp_path / "train.parquet"),
        "images": 5,
        "questions": 5,
        "sha256": train.digest,
        "refused": [],
    }


def test_what_trl_trains_on_are_these_pictures(tmp_path: Path) -> None:
    recipe = recipe_of(drawn(tmp_path / "train.parquet", range(4)), drawn(tmp_path / "held_out.parquet", [9]))
    dataset = task_dataset(taught_sets(recipe, tmp_path / "sets")[0], recipe.policy, held_out=False)
    assert dataset[:]["key"] == [f"key-{number}" for number in range(4)]
    assert [message["role"] for message in dataset[1]["prompt"]] == ["user"]
    assert dataset[1]["image"].mode == "RGB"
    with Image.open(io.BytesIO(picture(3))) as expected:
        assert dataset[3]["image"].getpixel((8, 8)) == expected.getpixel((8, 8))


def test_a_kept_set_is_found_again_even_without_its_source(tmp_path: Path) -> None:
    recipe = recipe_of(drawn(tmp_path / "source" / "train.parquet", range(8)), pictures=3)
    before = taken(recipe, tmp_path / "sets")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "sets").rglob("*") if path.is_file()}
    shutil.rmtree(tmp_path / "source")
    assert taken(recipe, tmp_path / "sets") == before
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "sets").rglob("*") if path.is_file()}
    assert after == files, "another process may have the kept files mapped"


def test_a_set_that_a_kill_left_without_its_record_is_taken_over_again(tmp_path: Path) -> None:
    recipe = recipe_of(drawn(tmp_path / "train.parquet", range(8)), pictures=3)
    before = taken(recipe, tmp_path / "sets")
    for name in ("train", "train-part"):
        (tmp_path / "sets" / name / "set.json").unlink()
        arrow = tmp_path / "sets" / name / "pictures.arrow"
        arrow.write_bytes(arrow.read_bytes()[:100])
    after = taken(recipe, tmp_path / "sets")
    assert after == before
    assert len(kept_pictures(after["train"])) == 5


def test_another_source_or_another_number_of_held_out_pictures_is_taken_over_anew(tmp_path: Path) -> None:
    first, second = drawn(tmp_path / "1.parquet", range(8)), drawn(tmp_path / "2.parquet", range(10, 18))
    assert len(taken(recipe_of(first, pictures=3), tmp_path / "sets")["held_out"].questions) == 3
    assert len(taken(recipe_of(first, pictures=2), tmp_path / "sets")["held_out"].questions) == 2
    both = taken(recipe_of(second, pictures=2), tmp_path / "sets")
    keys = {*both["train"].questions, *both["held_out"].questions}
    assert keys == {f"key-{number}" for number in range(10, 18)}


def test_the_digest_is_that_of_the_content_wherever_it_lies(tmp_path: Path, bucket: str, s3_client: Any) -> None:
    held_out = drawn(tmp_path / "held_out.parquet", [50])
    one = drawn(tmp_path / "here" / "train.parquet", range(7))
    drawn(tmp_path / "there" / "part-0.parquet", range(4))
    drawn(tmp_path / "there" / "part-1.parquet", range(4, 7))
    for path in (tmp_path / "there").iterdir():
        s3_client.upload_file(str(path), bucket, f"set/{path.name}")
    places = [one, str(tmp_path / "here"), str(tmp_path / "there" / "*.parquet"), f"s3://{bucket}/set"]
    found = [
        taken(recipe_of(place, held_out), tmp_path / f"sets-{number}")["train"] for number, place in enumerate(places)
    ]
    assert len({one.digest for one in found}) == 1
    assert [kept_pictures(one) for one in found[1:]] == [kept_pictures(found[0])] * 3


def test_the_digest_changes_with_the_content(tmp_path: Path) -> None:
    held_out = drawn(tmp_path / "held_out.parquet", [50])
    usual = question(1, gold=1)
    rows = [row("a", picture(1), usual), row("b", picture(2), question(2))]
    sets = [
        rows,
        [row("c", picture(1), usual), rows[1]],
        [row("a", picture(3), usual), rows[1]],
        [row("a", picture(1), Question("Another?", usual.options, usual.gold)), rows[1]],
        [row("a", picture(1), Question(usual.stem, (*usual.options[:-1], "other"), usual.gold)), rows[1]],
        [row("a", picture(1), question(1, gold=2)), rows[1]],
        rows[::-1],
        rows[:1],
    ]
    digests = set()
    for number, some in enumerate(sets):
        train = written(tmp_path / f"{number}.parquet", some)
        shutil.rmtree(tmp_path / "sets" / "train", ignore_errors=True)  # the held-out set is found again
        digests.add(taken(recipe_of(train, held_out), tmp_path / "sets")["train"].digest)
    assert len(digests) == len(sets)


def test_what_cannot_be_used_is_left_out_and_said(tmp_path: Path) -> None:
    whole = picture(3)
    train = written(
        tmp_path / "train.parquet",
        [
            row("good", picture(1), question(1)),
            row("cut", whole[: len(whole) // 2], question(2)),
            row("text", b"GIF? no, this is text", question(3)),
            row("none", None, question(4)),
            row("empty", b"", question(5)),
            row("unasked", picture(6)),
            row("also-good", picture(7), question(7)),
        ],
    )
    found = taken(recipe_of(train, drawn(tmp_path / "held_out.parquet", [50])), tmp_path / "sets")["train"]
    assert list(found.questions) == list(found.pictures) == ["good", "also-good"]
    reasons = {name: [line for line in found.refused if name in line] for name in ("cut", "text", "none", "empty")}
    assert all(len(lines) == 1 for lines in reasons.values()), found.refused
    assert "no picture" in reasons["none"][0]
    assert "no picture" in reasons["empty"][0]
    assert any("answer_not_an_option" in line and "train.parquet: row 5" in line for line in found.refused)
    assert found.summary()["refused"] == list(found.refused)


def test_pictures_that_hang_or_bomb_their_decoder_are_left_out(tmp_path: Path, corpus: Path) -> None:
    bad = sorted(path for path in (corpus / "bad_images").iterdir() if path.is_file())
    rows = [row(path.name, path.read_bytes(), question(number)) for number, path in enumerate(bad)]
    train = written(tmp_path / "train.parquet", [*rows, row("good", picture(1), question(1))])
    found = taken(recipe_of(train, drawn(tmp_path / "held_out.parquet", [50])), tmp_path / "sets")["train"]
    assert "good" in found.questions
    assert found.refused
    for key in found.questions:  # what is left can be decoded in this process
        with Image.open(io.BytesIO(kept_pictures(found)[key])) as opened:
            opened.load()


def test_a_key_of_two_pictures_is_not_used_and_a_repeated_row_is_used_once(tmp_path: Path) -> None:
    train = written(
        tmp_path / "train.parquet",
        [
            row("unclear", picture(1), question(1)),
            row("again", picture(2), question(2)),
            row("clear", picture(3), question(3)),
            row("unclear", picture(4), question(4)),
            row("again", picture(2), question(5)),
        ],
    )
    found = taken(recipe_of(train, drawn(tmp_path / "held_out.parquet", [50])), tmp_path / "sets")["train"]
    assert dict(found.questions) == {"again": (question(2), question(5)), "clear": (question(3),)}
    assert list(kept_pictures(found)) == ["again", "clear"]
    assert [line for line in found.refused if "several different pictures" in line and "unclear" in line]


def test_without_a_held_out_set_some_pictures_are_set_apart_by_their_keys(tmp_path: Path) -> None:
    numbers = list(range(40))
    first = taken(recipe_of(drawn(tmp_path / "1.parquet", numbers), pictures=10), tmp_path / "1")
    held_out, train = set(first["held_out"].questions), set(first["train"].questions)
    assert len(held_out) == 10
    assert held_out | train == {f"key-{number}" for number in numbers}
    assert not held_out & train
    assert set(kept_pictures(first["train"])) == train
    assert set(kept_pictures(first["held_out"])) == held_out
    random.Random(1).shuffle(numbers)
    again = taken(recipe_of(drawn(tmp_path / "2.parquet", numbers), pictures=10), tmp_path / "2")
    assert set(again["held_out"].questions) == held_out, "the order of the rows must not matter"


def test_at_most_half_of_the_pictures_are_set_apart(tmp_path: Path) -> None:
    found = taken(recipe_of(drawn(tmp_path / "1.parquet", range(5))), tmp_path / "sets")
    assert [len(found[name].questions) for name in ("train", "held_out")] == [3, 2]
    with pytest.raises(BadInputError, match="one picture alone"):
        taken(recipe_of(drawn(tmp_path / "2.parquet", [1])), tmp_path / "alone")


def test_a_picture_under_two_keys_is_set_apart_with_both(tmp_path: Path) -> None:
    rows = [row(f"{name}-{number}", picture(number), question(number)) for number in range(12) for name in "ab"]
    found = taken(recipe_of(written(tmp_path / "1.parquet", rows), pictures=6), tmp_path / "sets")
    assert not set(found["train"].pictures.values()) & set(found["held_out"].pictures.values())
    assert len(found["train"].questions) + len(found["held_out"].questions) == 24


def test_of_a_larger_held_out_set_so_many_pictures_are_looked_at(tmp_path: Path) -> None:
    recipe = recipe_of(drawn(tmp_path / "1.parquet", range(4)), drawn(tmp_path / "2.parquet", range(10, 30)), 6)
    found = taken(recipe, tmp_path / "sets")["held_out"]
    assert len(found.questions) == len(kept_pictures(found)) == 6
    assert set(found.questions) <= {f"key-{number}" for number in range(10, 30)}


@pytest.mark.parametrize("shared", ["key", "picture"])
def test_a_held_out_picture_that_is_trained_on_is_refused(tmp_path: Path, shared: str) -> None:
    key, number = ("key-2", 40) if shared == "key" else ("another-key", 2)
    held_out = written(tmp_path / "2.parquet", [row(key, picture(number), question(9))])
    with pytest.raises(BadInputError, match=rf"1 of its pictures.*{key}.*must not be trained on"):
        taken(recipe_of(drawn(tmp_path / "1.parquet", range(4)), held_out), tmp_path / "sets")


def test_hostile_keys_stay_keys(tmp_path: Path) -> None:
    rows = [row(key, picture(number), question(number), path=key[:50]) for number, key in enumerate(HOSTILE)]
    outside = set(tmp_path.rglob("*"))
    train = written(tmp_path / "in" / "train.parquet", rows)
    recipe = recipe_of(train, drawn(tmp_path / "in" / "held_out.parquet", [50]))
    found = taken(recipe, tmp_path / "deep" / "sets")["train"]
    assert list(found.questions) == HOSTILE
    assert kept_pictures(found) == {key: picture(number) for number, key in enumerate(HOSTILE)}
    names = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - outside if path.is_file()}
    assert names == {
        "in/train.parquet",
        "in/held_out.parquet",
        *(f"deep/sets/{part}/{name}" for part in ("train", "held_out") for name in ("pictures.arrow", "set.json")),
    }
    assert task_dataset(found, recipe.policy, held_out=False)[:]["key"] == HOSTILE


def test_a_set_that_gives_nothing_to_learn_from_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    unasked = written(tmp_path / "1.parquet", [row("a", picture(1))])
    with pytest.raises(BadInputError, match="not one question"):
        taken(recipe_of(unasked), tmp_path / "1")
    broken = written(tmp_path / "2.parquet", [row("a", b"no picture at all", question(1))])
    with pytest.raises(BadInputError, match="no picture with questions; the first that could not be used: a: "):
        taken(recipe_of(broken), tmp_path / "2")
    (tmp_path / "3.parquet").write_bytes(b"PAR1 is not enough PAR1")
    with pytest.raises(BadInputError, match=r"3\.parquet: not a readable parquet file"):
        taken(recipe_of(str(tmp_path / "3.parquet")), tmp_path / "3")
    pq.write_table(pa.table({"id": ["a"], "reward_model": [broken]}), tmp_path / "4.parquet")
    with pytest.raises(BadInputError):
        taken(recipe_of(str(tmp_path / "4.parquet")), tmp_path / "4")


def test_the_images_may_be_plain_bytes(tmp_path: Path) -> None:
    rows = [row(f"key-{number}", picture(number), question(number)) for number in range(3)]
    table = pa.Table.from_pylist([one | {"image": one["image"]["bytes"]} for one in rows])
    pq.write_table(table, tmp_path / "1.parquet")
    found = taken(recipe_of(str(tmp_path / "1.parquet"), drawn(tmp_path / "2.parquet", [9])), tmp_path / "sets")
    assert list(kept_pictures(found["train"]).values()) == [picture(number) for number in range(3)]


def test_the_pictures_of_the_embedded_world_are_apart(tmp_path: Path) -> None:
    train = write_question_set(tmp_path / "train.parquet", "train", 60)
    held_out = write_question_set(tmp_path / "held_out.parquet", "held_out", 20)
    found = taken(recipe_of(str(train), str(held_out)), tmp_path / "sets")
    assert (len(found["train"].questions), len(found["held_out"].questions)) == (60, 20)
    assert found["train"].refused == found["held_out"].refused == ()
