"""Scenes and their pictures: what is possible, what is held out, and that a picture shows what its scene says."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.world.drawing import CELL, GROUND, RGB, SIDE, draw_cells, draw_scene
from caprl_core.world.drawn_folder import draw_folder
from caprl_core.world.scene import (
    COLOURS,
    HELD_OUT_ONE_IN,
    PLACES,
    SHAPES,
    Scene,
    Thing,
    random_scene,
    scene_fields,
    scene_of,
    scenes,
)

STAR = Thing("star", "red", "at the top left")
CROSS = Thing("cross", "red", "at the bottom right")


@pytest.mark.parametrize(
    "things",
    [
        (),
        (STAR,),
        (CROSS, STAR),
        (STAR, Thing("cross", "red", "at the top left")),
        (STAR, Thing("star", "blue", "at the bottom right")),
        tuple(Thing(shape, "red", place) for shape, place in zip(SHAPES, PLACES, strict=False)),
    ],
    ids=["nothing", "one", "not in reading order", "two in a place", "two of a shape", "six"],
)
def test_what_is_no_scene(things: tuple[Thing, ...]) -> None:
    with pytest.raises(ValueError, match="things"):
        Scene(things)


@pytest.mark.parametrize("words", [("moon", "red", PLACES[0]), ("star", "teal", PLACES[0]), ("star", "red", "above")])
def test_what_is_no_thing(words: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="no such thing"):
        Thing(*words)


@given(st.integers(0, 10_000), st.sampled_from(["train", "held_out"]))
def test_a_scene_survives_storage_and_belongs_to_the_split_it_was_drawn_for(seed: int, split: str) -> None:
    scene = random_scene(random.Random(seed), split)  # type: ignore[arg-type]
    assert scene.split == split
    assert scene_of(scene_fields(scene)) == scene


def test_a_split_that_does_not_exist_is_refused_and_not_searched_for_ever() -> None:
    with pytest.raises(ValueError, match="'test' is no split: it is one of train, held_out"):
        random_scene(random.Random(0), "test")  # type: ignore[arg-type]


def test_the_splits_are_apart_and_each_is_the_same_every_time() -> None:
    train, held_out = list(scenes("train", 400, 3)), list(scenes("held_out", 400, 3))
    assert not set(train) & set(held_out)
    assert train[:50] == list(scenes("train", 50, 3))
    assert train[:50] != list(scenes("train", 50, 4))
    rng = random.Random(0)
    share = sum(scene.split == "held_out" for scene in _any_scenes(rng, 2000)) / 2000
    assert 0.7 / HELD_OUT_ONE_IN < share < 1.3 / HELD_OUT_ONE_IN


def _any_scenes(rng: random.Random, count: int) -> list[Scene]:
    """Scenes of both splits, drawn without regard to them."""
    found = []
    for _ in range(count):
        shapes = rng.sample(SHAPES, 2)
        places = sorted(rng.sample(range(9), 2))
        found.append(
            Scene(tuple(Thing(s, rng.choice(COLOURS), PLACES[p]) for s, p in zip(shapes, places, strict=True)))
        )
    return found


def test_every_word_is_used_in_both_splits() -> None:
    for split in ("train", "held_out"):
        things = [thing for scene in scenes(split, 300) for thing in scene.things]  # type: ignore[arg-type]
        assert {thing.shape for thing in things} == set(SHAPES)
        assert {thing.colour for thing in things} == set(COLOURS)
        assert {thing.place for thing in things} == set(PLACES)


def test_a_picture_has_each_things_colour_in_its_cell_and_grey_elsewhere() -> None:
    for number, scene in enumerate(scenes("train", 40)):
        pixels = np.asarray(draw_scene(scene, number)).astype(int)
        assert pixels.shape == (SIDE, SIDE, 3)
        filled = {thing.place: thing.colour for thing in scene.things}
        for cell, place in enumerate(PLACES):
            row, column = divmod(cell, 3)
            middle = pixels[row * CELL + 12 : row * CELL + 16, column * CELL + 12 : column * CELL + 16].mean((0, 1))
            if place in filled:
                nearest = min(RGB, key=lambda name: float(np.abs(np.array(RGB[name]) - middle).sum()))
                assert nearest == filled[place]
            else:
                assert ((middle >= GROUND[0]) & (middle <= GROUND[1])).all()


def test_shapes_look_different() -> None:
    masks = {}
    for shape in SHAPES:
        pixels = np.asarray(draw_cells({4: (shape, "red")}, random.Random(1))).astype(int)
        masks[shape] = pixels[..., 0] - pixels[..., 1] > 80
    for one in SHAPES:
        for other in SHAPES:
            if one < other:
                overlap = (masks[one] & masks[other]).sum() / (masks[one] | masks[other]).sum()
                assert overlap < 0.85, (one, other)


def test_the_seed_moves_pixels_and_nothing_else() -> None:
    scene = next(scenes("train", 1))
    assert draw_scene(scene, 1).tobytes() == draw_scene(scene, 1).tobytes()
    first, second = (np.asarray(draw_scene(scene, seed)).astype(int) for seed in (1, 2))
    assert 0 < np.abs(first - second).mean() < 25


def test_a_drawn_folder_is_the_same_every_time(tmp_path: Path) -> None:
    index = draw_folder(tmp_path / "a", "held_out", 12, 5)
    again = draw_folder(tmp_path / "b", "held_out", 12, 5)
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    assert index.read_bytes() == again.read_bytes()
    assert len(lines) == 12
    for line in lines:
        assert scene_of(line["scene"]).split == "held_out"
        assert (tmp_path / "a" / line["image"]).read_bytes() == (tmp_path / "b" / line["image"]).read_bytes()
        assert {"kind", "stem", "options", "answer"} <= line["questions"][0].keys()
