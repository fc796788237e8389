"""Loading a recipe: what is accepted, and how everything else is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.errors import BadInputError
from caprl_core.recipe.environment import LOCATIONS, OPTIONAL
from caprl_core.recipe.factory import FactoryRecipe
from caprl_core.recipe.fields import walk
from caprl_core.recipe.load import load_any_recipe, load_qa_recipe, load_recipe, parse_recipe
from caprl_core.recipe.models import CaptionRecipe
from caprl_core.recipe.prism import PrismRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.reward import RewardRecipe
from caprl_core.recipe.training import TrainingRecipe

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
KINDS = {
    "qa": QaRecipe,
    "reward": RewardRecipe,
    "grpo": TrainingRecipe,
    "prism": PrismRecipe,
    "factory": FactoryRecipe,
}
"""By the beginning of a configuration's name; the others are captioning recipes."""
MODELS = (CaptionRecipe, QaRecipe, TrainingRecipe, PrismRecipe, FactoryRecipe)

MINIMAL = """\
name: tiny
sources:
  - {name: pictures, kind: folder, uri: pictures}
model: {name: org/model}
prompt: {id: detail, text: Describe.}
execution:
  output: out
  engine: {kind: transformers}
"""


def parsed(text: str, **variables: str) -> CaptionRecipe:
    return parse_recipe(text, file="r.yaml", variables=variables)


def refusal(text: str, **variables: str) -> list[str]:
    with pytest.raises(BadInputError) as caught:
        parsed(text, **variables)
    return str(caught.value).splitlines()


# What is accepted


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_shipped_recipes_load_without_any_variable_set(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CAPRL_")]:
        monkeypatch.delenv(name)
    assert load_any_recipe(config).name


def test_kinds_of_recipes_are_told_apart() -> None:
    kinds = {config.stem: type(load_any_recipe(config)) for config in CONFIGS}
    assert kinds == {stem: KINDS.get(stem.partition("-")[0], CaptionRecipe) for stem in kinds}
    with pytest.raises(BadInputError, match="answerer"):
        load_recipe(CONFIGS[0].parent / "qa-75k.yaml")


def test_the_75k_recipe_has_the_released_figures() -> None:
    recipe = load_qa_recipe(CONFIGS[0].parent / "qa-75k.yaml")
    assert recipe.writer is not None
    assert (recipe.writer.model.name, recipe.answerer.model.name) == (
        "Qwen/Qwen2.5-VL-72B-Instruct",
        "Qwen/Qwen2.5-VL-3B-Instruct",
    )
    assert (recipe.writer.sampling.temperature, recipe.writer.sampling.repetition_penalty) == (0.1, 1.05)
    assert (recipe.answerer.rotations, recipe.answerer.sampling.temperature) == (4, 0.1)
    assert (recipe.filter.visual_above, recipe.filter.text_below) == (0.75, 0.25)
    assert not recipe.filter.visual_inclusive
    assert not recipe.filter.text_inclusive


def test_the_2m_recipe_has_the_published_prompt_sampling_and_roots() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "configs" / "caprl-2m.yaml")
    assert recipe.model.name == "internlm/CapRL-3B"
    assert recipe.prompt.text == "Please describe this image in detail."
    assert (recipe.sampling.temperature, recipe.sampling.top_p, recipe.sampling.repetition_penalty) == (1.0, 1.0, 1.0)
    assert [source.kind for source in recipe.sources] == ["sharegpt4v", "densefusion"]
    assert set(recipe.sources[0].roots) == {"coco/train2017", "sam/images", "llava/llava_pretrain/images"}
    assert recipe.sources[1].roots[""].endswith(".zip")


def test_a_file_with_a_byte_order_mark_loads(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_recipe(path).name == "tiny"


def test_anchors_and_merges_may_spare_repetition() -> None:
    text = MINIMAL.replace(
        "  - {name: pictures, kind: folder, uri: pictures}\n",
        "  - &first {name: pictures, kind: folder, uri: pictures, limit: 5}\n  - {<<: *first, name: more}\n",
    )
    assert [(source.name, source.limit) for source in parsed(text).sources] == [("pictures", 5), ("more", 5)]


# What is refused


def test_an_unknown_key_is_refused_with_file_line_path_and_the_nearest_name() -> None:
    text = MINIMAL + "sampling:\n  temprature: 0.5\n"
    assert refusal(text) == ["r.yaml:10: sampling.temprature: unknown key; did you mean `temperature`?"]


def test_an_unknown_key_inside_a_list_is_located() -> None:
    [line] = refusal(MINIMAL.replace("uri: pictures}", "uri: pictures, captoin_field: text}"))
    assert line == "r.yaml:3: sources.0.captoin_field: unknown key; did you mean `caption_field`?"


def test_a_key_at_the_wrong_place_is_sent_to_the_right_one() -> None:
    [line] = refusal(MINIMAL + "shards_in_flight: 3\n")
    assert line.endswith("shards_in_flight: unknown key here; did you mean `execution.runner.shards_in_flight`?")


def test_a_key_near_nothing_gets_the_valid_ones_listed() -> None:
    [line] = refusal(MINIMAL + "xyzzy: 3\n")
    assert "valid here: name, sources, dataset, image" in line


def test_all_problems_are_said_at_once_each_on_its_line() -> None:
    text = MINIMAL.replace("kind: folder", "kind: floder") + "sampling: {top_p: 0, max_tokens: many}\n"
    lines = refusal(text)
    assert [line.split(": ")[1] for line in lines] == ["sources.0.kind", "sampling.top_p", "sampling.max_tokens"]
    assert all(line.startswith("r.yaml:") for line in lines)
    assert "got 'many'" in lines[2]


def test_a_missing_field_says_what_it_is() -> None:
    [line] = refusal(MINIMAL.replace("  output: out\n", ""))
    assert line == "r.yaml:6: execution.output: required, and missing: Folder or `s3://` prefix of the dataset."


def test_rules_between_fields_are_reported_without_pydantic_phrases() -> None:
    [line] = refusal(MINIMAL.replace("kind: transformers", "kind: openai"))
    assert line == "r.yaml:8: execution.engine.urls: an openai engine needs at least one base URL"


def test_two_sources_of_one_name_are_refused() -> None:
    source = "  - {name: pictures, kind: folder, uri: pictures}\n"
    [line] = refusal(MINIMAL.replace(source, source * 2))
    assert "names must differ" in line


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_numbers_that_json_has_not_are_refused(value: str) -> None:
    [line] = refusal(MINIMAL + f"sampling: {{temperature: {value}}}\n")
    assert "sampling.temperature" in line


def test_a_repeated_key_is_refused_and_both_lines_named() -> None:
    [line] = refusal(MINIMAL + "name: other\n")
    assert line == "r.yaml:9: name: given twice, first on line 1; keep one"


def test_a_key_that_is_not_text_is_refused() -> None:
    [line] = refusal(MINIMAL.replace("uri: pictures}", "uri: pictures, roots: {2017: coco}}"))
    assert line == "r.yaml:3: sources.0.roots: keys must be text; put quotes around this one"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [unclosed", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("when: 2024-13-45", "not valid YAML"),
        ("- a list", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("a: &a [*a]", "an alias contains itself"),
        ("[" * 5000, "levels deep"),
        ("a" * (2**20 + 1), "this is not a recipe"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
    ],
    ids=["syntax", "python tag", "date", "list", "empty", "self alias", "deep", "large", "digits", "two documents"],
)
def test_what_is_no_recipe_is_refused_by_name(text: str, says: str) -> None:
    [line] = refusal(text)
    assert line.startswith("r.yaml")
    assert says in line


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    # 9 levels of 9 aliases: 387 million values from 9 lines.
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    [line] = refusal("\n".join(levels))
    assert "once aliases are expanded" in line


def test_a_bomb_of_merges_is_refused_before_it_grows() -> None:
    levels = ["a0: &a0 {k: v}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)]
    [line] = refusal("\n".join(levels))
    assert "once aliases are expanded" in line


def test_a_missing_file_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.yaml: cannot read this recipe"):
        load_recipe(tmp_path / "nowhere.yaml")
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(BadInputError, match=r"picture\.jpg: not UTF-8 text"):
        load_recipe(picture)


@given(st.text(max_size=300))
def test_no_text_whatever_escapes_as_another_error(text: str) -> None:
    with pytest.raises(BadInputError):
        parsed(text)


@given(st.text(alphabet=st.sampled_from("ab:&*<- \n[]{}!\"'|>%@`#,?.$0123"), max_size=120))
def test_no_yaml_punctuation_escapes_as_another_error(text: str) -> None:
    with pytest.raises(BadInputError):
        parsed(text)


# Environment variables


def test_a_variable_is_expanded_in_a_location() -> None:
    recipe = parsed(MINIMAL.replace("output: out", "output: s3://${BUCKET}/x"), BUCKET="b")
    assert recipe.execution.output == "s3://b/x"


def test_a_default_stands_in_for_unset_and_empty() -> None:
    text = MINIMAL.replace("output: out", "output: ${OUT:-here}/${SUB:-}")
    assert parsed(text).execution.output == "here/"
    assert parsed(text, OUT="").execution.output == "here/"
    assert parsed(text, OUT="there", SUB="x").execution.output == "there/x"


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    assert parsed(MINIMAL.replace("output: out", "output: $A${A}"), A="${B}").execution.output == "$A${B}"


def test_a_doubled_dollar_is_a_literal_one() -> None:
    assert parsed(MINIMAL.replace("output: out", "output: $${A}"), A="x").execution.output == "${A}"


def test_an_optional_location_expanded_to_nothing_is_left_out() -> None:
    text = MINIMAL.replace("  engine:", "  storage: {endpoint: '${S3:-}'}\n  engine:")
    assert parsed(text).execution.storage.endpoint is None
    assert parsed(text, S3="http://localhost:9000").execution.storage.endpoint == "http://localhost:9000"


def test_an_unset_variable_is_named_with_its_place() -> None:
    [line] = refusal(MINIMAL.replace("output: out", "output: ${NOWHERE}"))
    assert line == (
        "r.yaml:7: execution.output: environment variable NOWHERE is not set; set it, or write `${NOWHERE:-default}`"
    )


@pytest.mark.parametrize("reference", ["${1A}", "${}", "${A", "${A-b}", "${A B}"])
def test_a_malformed_reference_is_refused(reference: str) -> None:
    [line] = refusal(MINIMAL.replace("output: out", f"output: '{reference}'"), A="x")
    assert "execution.output" in line


def test_what_has_identity_cannot_come_from_the_environment() -> None:
    [line] = refusal(MINIMAL.replace("org/model", "'${MODEL}'"), MODEL="other")
    assert line.startswith("r.yaml:4: model.name: environment variables are only read in locations")


def test_a_prompt_may_speak_of_variables() -> None:
    assert parsed(MINIMAL.replace("Describe.", "'Read ${X}.'"), X="y").prompt.text == "Read ${X}."


def test_every_expanded_field_exists_and_is_execution() -> None:
    fields = {field.path: field for model in MODELS for field in walk(model)}
    for pattern in LOCATIONS:
        field = fields.get(pattern) or fields[pattern[:-1]]
        assert field.execution, pattern
    assert set(OPTIONAL) <= set(LOCATIONS)
    assert all(fields[pattern].info.default is None for pattern in OPTIONAL)
