"""The stages' recipes: each reads the one before, and only what changes its rows is its identity."""

import pytest

from caprl_core.recipe.identity import fingerprint, identity
from caprl_core.recipe.models import EngineExecution, StageRecipe
from caprl_core.recipe.qa import QaRecipe
from caprl_core.recipe.qa_stages import answer_recipe, extract_recipe, generate_recipe
from support.curated_set import qa_recipe

IMPORTED = {
    "sources": [{"name": "released", "kind": "qa_lists", "uri": "list.json", "roots": {"": "pictures"}}],
    "writer": None,
    "execution__writer": None,
}


def prints(qa: QaRecipe) -> tuple[str, ...]:
    """Fingerprints of the three stages, as a flow makes them: each knows the one before."""
    recipes: list[StageRecipe] = [] if qa.imports else [generate_recipe(qa)]
    for make in (extract_recipe, answer_recipe):
        upstream = fingerprint(identity(recipes[-1])) if recipes else None
        recipes.append(make(qa, upstream))
    return tuple(fingerprint(identity(recipe)) for recipe in recipes)


def test_the_stages_lie_side_by_side_and_read_one_another() -> None:
    qa = qa_recipe("s3://bucket/sets/drawn/", dataset={"shard_samples": 50})
    generate, extract, answer = generate_recipe(qa), extract_recipe(qa, "aa"), answer_recipe(qa, "bb")
    root = "s3://bucket/sets/drawn"
    assert [recipe.name for recipe in (generate, extract, answer)] == [
        "drawn-generate",
        "drawn-extract",
        "drawn-answer",
    ]
    assert [recipe.execution.output for recipe in (generate, extract, answer)] == [
        f"{root}/generate",
        f"{root}/extract",
        f"{root}/answer",
    ]
    (blocks,), (questions,) = extract.sources, answer.sources
    assert (blocks.name, blocks.kind, blocks.uri, blocks.upstream) == ("blocks", "stage_rows", f"{root}/generate", "aa")
    assert (questions.name, questions.kind, questions.uri, questions.upstream) == (
        "questions",
        "stage_rows",
        f"{root}/extract",
        "bb",
    )
    # Both find the images where the first stage keeps them.
    assert blocks.roots == questions.roots == {"": f"{root}/generate/shards"}
    assert [recipe.dataset.deduplicate.by for recipe in (generate, extract, answer)] == ["path", "none", "none"]
    assert {recipe.dataset.shard_samples for recipe in (generate, extract, answer)} == {50}
    assert (generate.model.name, answer.model.name) == ("lab/writer", "lab/answerer")
    assert (generate.execution.engine.concurrency, answer.execution.engine.concurrency) == (4, 8)


def test_imported_questions_keep_their_images_in_the_extract_dataset() -> None:
    qa = qa_recipe("out", **IMPORTED)
    extract, answer = extract_recipe(qa, None), answer_recipe(qa, "bb")
    assert extract.sources == qa.sources
    assert extract.dataset == qa.dataset
    assert answer.sources[0].roots == {"": "out/extract/shards"}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"execution__gate": {"min_samples": 3}}, ()),
        ({"execution__answerer__concurrency": 99}, ()),
        ({"filter": {"visual_above": 0.5, "per_image": 2}}, ()),
        ({"answerer__rotations": 8}, (2,)),
        ({"extract": {"max_questions": 3}}, (1, 2)),
        ({"writer__max_attempts": 5}, (0, 1, 2)),
        ({"image": {"max_pixels": 100_000}}, (0, 1, 2)),
        ({"sources": [{"name": "folder", "kind": "folder", "uri": "images", "limit": 5}]}, (0, 1, 2)),
    ],
)
def test_a_change_concerns_the_stages_it_reaches(changes: dict, changed: tuple[int, ...]) -> None:
    before, after = prints(qa_recipe()), prints(qa_recipe(**changes))
    assert tuple(stage for stage in range(3) if before[stage] != after[stage]) == changed


def test_thresholds_reach_the_answers_only_where_confidence_is_asked_for() -> None:
    confident = {"answerer__confidence": {"level": 0.9}}
    before, after = (
        prints(qa_recipe(**confident)),
        prints(qa_recipe(**confident, filter={"visual_above": 0.5, "seed": 4})),
    )
    assert before[:2] == after[:2]
    assert before[2] != after[2]
    assert prints(qa_recipe(**confident, filter={"per_image": 2})) == before


def test_the_answerer_shares_prepared_images_and_lets_images_without_questions_pass() -> None:
    vllm = {"kind": "vllm"}
    answer = answer_recipe(qa_recipe(execution__answerer=vllm, execution__gate={"max_share": {"*": 0.1}}), "bb")
    assert answer.execution.engine.extra["mm_processor_cache_gb"] > 0
    assert answer.execution.gate.max_share == {"*": 0.1, "no_question": 1.0}
    told = {"kind": "vllm", "extra": {"mm_processor_cache_gb": 0}}
    gate = {"max_share": {"no_question": 0.5}}
    answer = answer_recipe(qa_recipe(execution__answerer=told, execution__gate=gate), "bb")
    assert answer.execution.engine == EngineExecution.model_validate(told)
    assert answer.execution.gate.max_share == {"no_question": 0.5}
