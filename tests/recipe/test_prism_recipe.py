"""The recipe of an evaluation: one kind of captions, prompts that share their beginning, and what is identity."""

from typing import Any

import pytest

from caprl_core.errors import BadInputError
from caprl_core.prism.stages import caption_recipe, judge_recipe, judged_file
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.load import parse_prism_recipe
from caprl_core.recipe.models import CaptionFileRecipe
from caprl_core.recipe.prism import PrismRecipe

TEXT = """
name: prism
benchmarks:
  - {name: charts, form: released, uri: "${BENCH}/charts.json", images: {"": "${BENCH}/images"}, scorer: relaxed}
  - {name: plain, form: questions, uri: b.jsonl, scorer: choice, open_scorer: match, limit: 5}
captioner:
  model: {name: a/captioner}
judge:
  model: {name: a/judge}
execution:
  output: out
  captioner: {kind: openai, urls: ["http://127.0.0.1:1/v1"]}
  judge: {kind: openai, urls: ["${JUDGE:-http://127.0.0.1:2/v1}"]}
"""


def parsed(text: str = TEXT) -> PrismRecipe:
    return parse_prism_recipe(text, file="prism.yaml", variables={"BENCH": "/data/bench"})


def refused(text: str) -> str:
    with pytest.raises(BadInputError) as error:
        parsed(text)
    return str(error.value)


def test_locations_come_from_the_environment() -> None:
    recipe = parsed()
    assert recipe.benchmarks[0].uri == "/data/bench/charts.json"
    assert recipe.benchmarks[0].images == {"": "/data/bench/images"}
    assert recipe.execution.judge.urls == ("http://127.0.0.1:2/v1",)


def test_the_defaults_are_those_of_the_paper_with_a_greedy_judge() -> None:
    recipe = parsed()
    assert recipe.captioner is not None
    assert (recipe.captioner.captions, recipe.captioner.sampling.temperature) == (4, 1.0)
    assert recipe.captioner.prompt.text == "Please describe this image in detail."
    assert (recipe.judge.sampling.temperature, recipe.judge.prompt.id) == (0.0, "judge-choice-v1")


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("name: plain", "name: charts", "names must differ"),
        ("captioner:\n  model: {name: a/captioner}\n", "", "captioner, captions: name one of them"),
        ("captioner:\n", "captions: {name: x, uri: y}\ncaptioner:\n", "captioner, captions: name one of them"),
        ('  captioner: {kind: openai, urls: ["http://127.0.0.1:1/v1"]}\n', "", "come together"),
        ("scorer: relaxed", "scorer: guess", "scorer"),
        ("form: released", "form: chartqa", "form"),
        ("model: {name: a/judge}", "model: {name: a/judge}\n  prompt: best-v1", "no prompt 'best-v1' is shipped"),
        (
            "model: {name: a/judge}",
            "model: {name: a/judge}\n  prompt: {id: p, text: '{question} {caption}'}",
            "so that all questions about a caption share their beginning",
        ),
        (
            "model: {name: a/judge}",
            "model: {name: a/judge}\n  open_prompt: {id: p, text: '{caption} what?'}",
            "judge.open_prompt.text",
        ),
    ],
)
def test_what_does_not_fit_is_named(old: str, new: str, wrong: str) -> None:
    assert old in TEXT
    assert wrong in refused(TEXT.replace(old, new))


def prints(recipe: PrismRecipe) -> tuple[str, str]:
    return (
        fingerprint(identity(caption_recipe(recipe))),
        fingerprint(identity(judge_recipe(recipe, "0" * 64))),
    )


@pytest.mark.parametrize(
    ("update", "changed"),
    [
        ({"benchmarks": 1}, (True, False)),
        ({"judge": {"model": {"name": "b/judge"}}}, (False, True)),
        ({"judge": {"model": {"name": "a/judge"}, "abstain": "I cannot tell"}}, (False, True)),
        ({"captioner": {"model": {"name": "a/captioner"}, "captions": 2}}, (True, False)),
        ({"intervals": {"draws": 500}}, (False, False)),
    ],
)
def test_each_stage_has_the_identity_of_what_decides_its_rows(
    update: dict[str, Any], changed: tuple[bool, bool]
) -> None:
    recipe = parsed()
    if "benchmarks" in update:
        update = {"benchmarks": [one.model_dump() for one in recipe.benchmarks[: update["benchmarks"]]]}
    other = PrismRecipe.model_validate(recipe.model_dump() | update)
    assert tuple(a != b for a, b in zip(prints(recipe), prints(other), strict=True)) == changed


def test_how_replies_are_scored_is_no_part_of_any_dataset() -> None:
    benchmarks = [one.model_dump() | {"scorer": "exact", "released": "math"} for one in parsed().benchmarks]
    other = PrismRecipe.model_validate(parsed().model_dump() | {"benchmarks": benchmarks})
    assert prints(other) == prints(parsed())


def test_a_judged_file_has_a_folder_of_its_own_by_whose_captions_it_holds() -> None:
    recipe = parsed()
    one, other = (
        judged_file(recipe, CaptionFileRecipe(name=name, uri="captions.jsonl")) for name in ("a/B 7b!", "a/b 7B?")
    )
    assert one.captioner is None
    assert one.execution.output.startswith("out/files/a-b-7b-")
    assert one.execution.output != other.execution.output
    assert prints(one)[0] != prints(recipe)[0]
