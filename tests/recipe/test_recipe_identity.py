"""Identity: what changes a row's bytes changes the fingerprint, and nothing else does."""

import json
import random
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.data.row import ROW_SCHEMA_VERSION
from caprl_core.recipe.fields import RecipeField, walk
from caprl_core.recipe.identity import ABSENT, Difference, differences, fingerprint, identity
from caprl_core.recipe.load import load_recipe, parse_recipe
from caprl_core.recipe.models import CaptionRecipe

ROOT = Path(__file__).parents[2]

BASE = CaptionRecipe.model_validate(
    {
        "name": "tiny",
        "sources": [{"name": "pictures", "kind": "folder", "uri": "pictures"}],
        "model": {"name": "org/model"},
        "prompt": {"id": "detail", "text": "Describe."},
        "execution": {"output": "out", "engine": {"kind": "vllm", "urls": ["http://localhost/v1"]}},
    }
)

CAPTIONS = {"name": "theirs", "uri": "captions.jsonl"}
WHOLE = CaptionRecipe.model_validate(
    BASE.model_dump() | {"sources": [BASE.sources[0].model_dump() | {"captions": CAPTIONS}]}
)
"""With a value for every field."""

LEAVES = [field for field in walk(CaptionRecipe) if field.model is None]


def another(field: RecipeField, value: Any) -> Any:
    """A valid value of `field` other than `value`, found from its type and limits."""
    annotation = field.info.annotation
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if get_origin(annotation) is not Literal and types.NoneType in get_args(annotation):
        annotation = members[0]
    if get_origin(annotation) is Literal:
        return next(option for option in get_args(annotation) if option != value)
    if annotation is bool:
        return not value
    if annotation in (int, float):
        low = next((m.ge for m in field.info.metadata if isinstance(m, Ge)), 0)
        high = next((m.le for m in field.info.metadata if isinstance(m, Le)), None)
        strictly = any(isinstance(m, Gt) for m in field.info.metadata)
        if value is None:
            return low + 1
        if high is not None and value + 1 > high:
            return value / 2 if strictly or annotation is float else value - 1
        return value + 1
    if get_origin(annotation) is dict:
        return {"*": "other"} if get_args(annotation)[1] is str else {"*": 0.5}
    if get_origin(annotation) is tuple:
        return ["http://other/v1"]
    if field.path == ("image", "background"):
        return "#000000"
    return "other" if value != "other" else "another"


def changed(recipe: CaptionRecipe, field: RecipeField) -> CaptionRecipe:
    data = recipe.model_dump(mode="json")
    holder: Any = data
    for part in field.path[:-1]:
        holder = holder[0] if part == "*" else holder[part]
    holder[field.path[-1]] = another(field, holder[field.path[-1]])
    return CaptionRecipe.model_validate(data)


@pytest.mark.parametrize("field", LEAVES, ids=lambda field: ".".join(field.path))
def test_each_identity_field_changes_the_fingerprint_and_no_execution_field_does(field: RecipeField) -> None:
    before, after = identity(WHOLE), identity(changed(WHOLE, field))
    assert changed(WHOLE, field) != WHOLE
    if field.execution:
        assert after == before
        assert fingerprint(after) == fingerprint(before)
        assert differences(after, before) == []
    else:
        assert fingerprint(after) != fingerprint(before)
        path = ".".join(field.path).replace("*", "0")
        assert [difference.field for difference in differences(after, before)] == [path]


def test_the_walk_reaches_both_kinds_of_fields() -> None:
    paths = {field.path: field.execution for field in LEAVES}
    assert paths[("sources", "*", "uri")]
    assert paths[("execution", "engine", "tensor_parallel")]
    assert not paths[("sources", "*", "kind")]
    assert not paths[("image", "max_pixels")]


def test_the_row_schema_is_part_of_the_identity() -> None:
    assert identity(BASE)["row_schema_version"] == ROW_SCHEMA_VERSION
    other = {**identity(BASE), "row_schema_version": ROW_SCHEMA_VERSION + 1}
    assert fingerprint(other) != fingerprint(identity(BASE))


def test_identity_names_no_place() -> None:
    text = json.dumps(identity(BASE))
    assert "out" not in json.loads(text)
    assert "execution" not in text
    assert "localhost" not in text
    assert "uri" not in text


def test_the_fingerprint_is_stable_over_time() -> None:
    # A changed value here means that every dataset made before refuses its own recipe: raise the row schema version
    # only for rows that change, and never reorder what is hashed.
    assert fingerprint({"a": [1, 2.5, "é"], "b": None}) == (
        "e644d8306475e30cde8f33f9f20282cb7f0a9a4cb27db54946828e9fd92531b0"
    )


def test_the_fingerprint_of_a_shipped_recipe_is_stable_over_versions() -> None:
    # Of the first version that had this recipe: a new field of a recipe model carries `LATER`, or this changes.
    recipe = load_recipe(ROOT / "configs" / "caprl-2m.yaml")
    assert fingerprint(identity(recipe)) == "7ca6eae9709b26c793100c7db59c89aff579c1d644c93eca02fd126766e0175e"


def test_a_later_field_is_identity_once_it_is_set() -> None:
    other = BASE.model_copy(update={"sources": (BASE.sources[0].model_copy(update={"upstream": "1f" * 32}),)})
    assert "upstream" not in identity(BASE)["sources"][0]
    assert differences(identity(other), identity(BASE)) == [Difference("sources.0.upstream", "1f" * 32, ABSENT)]


# Property tests over any JSON

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
identities = st.dictionaries(st.text(max_size=4), values, max_size=4)


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, rng)) for key, inner in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(inner, rng) for inner in value] if isinstance(value, list) else value


@given(identities, st.randoms(use_true_random=False))
def test_key_order_does_not_matter(value: dict[str, Any], rng: random.Random) -> None:
    other = shuffled(value, rng)
    assert fingerprint(other) == fingerprint(value)
    assert differences(other, value) == []


@given(identities)
def test_storing_and_reading_back_does_not_matter(value: dict[str, Any]) -> None:
    assert fingerprint(json.loads(json.dumps(value))) == fingerprint(value)


@given(identities, identities)
def test_there_are_differences_exactly_when_fingerprints_differ(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (differences(a, b) == []) == (fingerprint(a) == fingerprint(b))


@pytest.mark.parametrize("written", ["1", "1.0", "1e0", "1.00"])
def test_a_float_may_be_written_in_any_form(written: str) -> None:
    text = (
        "name: tiny\nsources: [{name: pictures, kind: folder, uri: x}]\nmodel: {name: org/model}\n"
        "prompt: {id: detail, text: Describe.}\nexecution: {output: o, engine: {kind: vllm}}\n"
        f"sampling: {{temperature: {written}}}\n"
    )
    recipe = parse_recipe(text, file="r.yaml", variables={})
    assert fingerprint(identity(recipe)) == fingerprint(identity(BASE))


def test_truth_is_not_the_number_one() -> None:
    assert fingerprint({"a": True}) != fingerprint({"a": 1})
    assert differences({"a": True}, {"a": 1}) == [Difference("a", True, 1)]


def test_composed_and_decomposed_letters_differ() -> None:
    assert fingerprint({"text": "\u00e9"}) != fingerprint({"text": "e\u0301"})


def test_nan_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": float("nan")})


def test_a_difference_says_both_sides_and_what_is_missing() -> None:
    [difference] = differences({"a": {"b": 1}}, {"a": {"b": 1, "c": "x"}})
    assert (difference.field, difference.ours, difference.theirs) == ("a.c", ABSENT, "x")
    assert str(difference) == "a.c: (absent) here, 'x' there"
