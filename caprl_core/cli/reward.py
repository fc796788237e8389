"""`caprl reward`: score captions by how well a reader answers questions from them."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caprl_core.cli.become import JsonOption, RecipeArgument

if TYPE_CHECKING:
    from caprl_core.recipe.reward import RewardRecipe
    from caprl_core.reward.questions import QuestionBank
    from caprl_core.reward.score_file import Totals


def reward(
    recipe: RecipeArgument,
    *,
    questions: Annotated[
        str, typer.Option(help="Questions: `questions-train.jsonl` or .parquet of a curated set, or CapRL-QA-75K.")
    ],
    captions: Annotated[str, typer.Option(help="Captions: JSON lines with `key` or `image`, and `caption`.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Scores to write: a local path or an `s3://` address.")],
    step: Annotated[int, typer.Option(min=0, help="Training step the draws are those of.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Score a JSONL of captions. Each line gets a score, or the reason why it has none."""
    import asyncio

    from caprl_core.recipe.load import load_reward_recipe
    from caprl_core.reward.questions import read_questions

    loaded = load_reward_recipe(recipe)
    bank = read_questions(questions, loaded.execution.storage)
    if bank.refused:
        first = bank.refused[0]
        typer.secho(
            f"caprl: {len(bank.refused):,} questions or rows were not taken over, the first: {first.where}: "
            f"{first.reason}",
            fg=typer.colors.YELLOW,
            err=True,
        )
    live = sys.stderr.isatty() and not as_json
    totals = asyncio.run(_score(loaded, bank, captions, out, step=step, live=live)).as_json()
    if as_json:
        typer.echo(json.dumps(totals, indent=2))
        return
    for line in _lines(totals):
        typer.echo(line)
    typer.echo(out)


async def _score(
    recipe: "RewardRecipe", bank: "QuestionBank", captions: str, out: str, *, step: int, live: bool
) -> "Totals":
    from caprl_core.engines.open import engine_for
    from caprl_core.reward.score_file import score_file

    def progress(done: int) -> None:
        if live:
            typer.echo(f"{done:,} captions", err=True)

    engine = engine_for(recipe.reader.model, recipe.execution.engine)
    try:
        await engine.start()
        return await score_file(captions, out, bank, engine, recipe, step=step, progress=progress)
    finally:
        await engine.close()


def _lines(totals: dict[str, Any]) -> list[str]:
    def shown(name: str) -> str:
        return "none" if totals[name] is None else f"{totals[name]:.3f}"

    shares = ", ".join(f"{name} {shown(name)}" for name in ("abstained", "unread", "failed"))
    lines = [
        f"{totals['captions']:,} captions, {totals['scored']:,} with a reward",
        f"mean reward {shown('mean_reward')}, accuracy {shown('accuracy')}",
        f"{totals['draws']:,} draws: {shares}",
    ]
    return lines + [f"without a reward: {reason} {count:,}" for reason, count in totals["without_reward"].items()]
