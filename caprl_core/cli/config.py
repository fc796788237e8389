"""`caprl config`: check recipes, show one with every default filled in, and list what a recipe may say."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from caprl_core.errors import BadInputError
from caprl_core.exit_codes import ExitCode

if TYPE_CHECKING:
    from caprl_core.recipe.fields import RecipeField

app = typer.Typer(help="Check, show and describe recipes.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command("check")
def check(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files (YAML).", metavar="RECIPE...")],
    as_json: JsonOption = False,
) -> None:
    """Check recipes: each problem with its line, dotted path and the nearest valid name. Ends with 2 if any is bad."""
    from caprl_core.recipe.identity import fingerprint, identity
    from caprl_core.recipe.load import load_any_recipe

    results: list[dict[str, Any]] = []
    for path in recipes:
        try:
            recipe = load_any_recipe(path)
        except BadInputError as error:
            results.append({"file": str(path), "ok": False, "problems": str(error).splitlines()})
        else:
            digest = fingerprint(identity(recipe))
            results.append({"file": str(path), "ok": True, "name": recipe.name, "fingerprint": digest, "problems": []})
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            if result["ok"]:
                typer.echo(f"{result['file']}: ok: {result['name']}, fingerprint {result['fingerprint']}")
            for problem in result["problems"]:
                typer.secho(problem, fg=typer.colors.RED, err=True)
    if not all(result["ok"] for result in results):
        raise typer.Exit(ExitCode.BAD_INPUT)


@app.command("show")
def show(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    only_identity: Annotated[
        bool, typer.Option("--identity", help="Only what is fingerprinted: what changes the bytes of a row.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a recipe with every default filled in and variables expanded, and its fingerprint."""
    import yaml

    from caprl_core.recipe.identity import fingerprint, identity
    from caprl_core.recipe.load import load_any_recipe

    loaded = load_any_recipe(recipe)
    identified = identity(loaded)
    digest = fingerprint(identified)
    if as_json:
        whole = {} if only_identity else {"recipe": loaded.model_dump(mode="json")}
        typer.echo(json.dumps({"fingerprint": digest, "identity": identified, **whole}, indent=2, ensure_ascii=False))
        return
    shown = identified if only_identity else loaded.model_dump(mode="json")
    typer.echo(f"# {recipe}\n# fingerprint {digest}")
    typer.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120), nl=False)


@app.command("schema")
def schema(
    kind: Annotated[
        Literal["caption", "qa", "reward", "training", "prism", "factory"], typer.Option(help="Kind of recipe.")
    ] = "caption",
    as_json: JsonOption = False,
) -> None:
    """List every field of a recipe with its default, its unit, and whether it is identity (`--json`: JSON Schema)."""
    from caprl_core.recipe.factory import FactoryRecipe
    from caprl_core.recipe.fields import walk
    from caprl_core.recipe.models import CaptionRecipe, Strict
    from caprl_core.recipe.prism import PrismRecipe
    from caprl_core.recipe.qa import QaRecipe
    from caprl_core.recipe.reward import RewardRecipe
    from caprl_core.recipe.training import TrainingRecipe

    kinds: dict[str, type[Strict]] = {
        "caption": CaptionRecipe,
        "qa": QaRecipe,
        "reward": RewardRecipe,
        "training": TrainingRecipe,
        "prism": PrismRecipe,
        "factory": FactoryRecipe,
    }
    model = kinds[kind]
    if as_json:
        typer.echo(json.dumps(model.model_json_schema(), indent=2))
        return
    for field in walk(model):
        if field.model is None:
            typer.echo(_describe(field))


def _describe(field: "RecipeField") -> str:
    kind = "execution" if field.execution else "identity"
    if field.info.is_required():
        default = "required"
    else:
        value = field.info.get_default(call_default_factory=True, validated_data={})
        default = f"default {json.dumps(value.model_dump() if hasattr(value, 'model_dump') else value)}"
    return f"{'.'.join(field.path)}  [{kind}, {default}]\n    {field.info.description or ''}"
