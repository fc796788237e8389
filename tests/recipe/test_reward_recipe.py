"""Reward recipes: the published figures are the defaults, and what cannot work is refused."""

from pathlib import Path

import pytest

from caprl_core.errors import BadInputError
from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.load import load_any_recipe, load_reward_recipe, parse_reward_recipe
from caprl_core.recipe.reward import JudgeRecipe, RewardRecipe

CONFIG = Path(__file__).parents[2] / "configs" / "reward-qwen2.5-3b.yaml"
MINIMAL = """\
reader: {model: {name: org/reader}}
execution: {engine: {kind: transformers}}
"""


def parsed(text: str) -> RewardRecipe:
    return parse_reward_recipe(text, file="r.yaml", variables={})


def test_defaults_are_the_papers() -> None:
    recipe = parsed(MINIMAL)
    assert (recipe.draws, recipe.replacement, recipe.shuffle) == (8, True, True)
    sampling = recipe.reader.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.6, 1.0, 10)
    # Naming one setting does not bring back a captioner's 2,048 tokens.
    named = parsed(MINIMAL.replace("{name: org/reader}", "{name: org/reader}, sampling: {temperature: 0}"))
    assert named.reader.sampling.max_tokens == 10
    terms = recipe.terms
    assert (terms.scale, terms.length, terms.format, terms.abstained, terms.wrong) == (1.0, None, 0.0, 0.0, 0.0)


def test_the_shipped_recipe_is_the_papers_and_names_its_variants() -> None:
    recipe = load_reward_recipe(CONFIG)
    assert recipe.reader.model.name == "Qwen/Qwen2.5-3B-Instruct"
    assert recipe.model_copy(update={"name": "reward", "execution": parsed(MINIMAL).execution}) == parsed(
        MINIMAL.replace("org/reader", "Qwen/Qwen2.5-3B-Instruct")
    )
    assert type(load_any_recipe(CONFIG)) is RewardRecipe
    # What its comments say about the released scripts and CapRL++ loads, too.
    for variant in ("shuffle: false\nabstain: null\nterms: {scale: 2.0}\n", "terms: {length: {weight: 0.2}}\n"):
        recipe = parsed(MINIMAL + variant)
    assert recipe.terms.length is not None
    assert (recipe.terms.length.full, recipe.terms.length.none) == (2048, 3072)


def test_prompts_are_shipped_and_their_text_is_identity() -> None:
    shipped = parsed(MINIMAL)
    assert shipped.reader.prompt.id == "read-caption-v1"
    own = "reader: {model: {name: org/reader}, prompt: {id: read-caption-v1, text: '{caption} {question}'}}\n"
    other = parsed(MINIMAL.replace("reader: {model: {name: org/reader}}\n", own))
    assert fingerprint(identity(other)) != fingerprint(identity(shipped))
    judge = JudgeRecipe.model_validate(
        {"model": {"name": "org/judge"}, "execution": {"engine": {"kind": "transformers"}}}
    )
    assert "{caption}" in judge.prompt.text
    assert "execution" not in identity(shipped)


@pytest.mark.parametrize("text", ["{question} {caption}", "{caption}", "{question}", "{caption} {caption} {question}"])
def test_a_prompt_must_have_the_caption_before_the_question(text: str) -> None:
    prompt = f"prompt: {{id: own, text: '{text}'}}"
    with pytest.raises(BadInputError, match="reader.prompt.text"):
        parsed(MINIMAL.replace("{name: org/reader}", "{name: org/reader}, " + prompt))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("draws: 0", "draws"),
        ("abstain: ''", "abstain"),
        ("terms: {length: {full: 5, none: 4}}", "larger than full"),
        ("terms: {scale: 0}", "scale"),
        ("reader: {model: {name: org/reader}, prompt: nobody-v9}", "read-caption-v1"),
    ],
)
def test_settings_that_cannot_work_are_refused(line: str, says: str) -> None:
    text = line + "\n" + "\n".join(row for row in MINIMAL.splitlines() if not line.startswith(row.split(":")[0] + ":"))
    with pytest.raises(BadInputError, match=says):
        parsed(text)
