"""`caprl build`: the whole factory, from pictures to a published dataset."""

from caprl_core.cli.become import JsonOption, RecipeArgument, become


def build(recipe: RecipeArgument, as_json: JsonOption = False) -> None:
    """Curate questions, train a captioner on them, annotate, verify, evaluate; publish if it is no worse than before.

    The same command resumes, in whichever part it ended. `python -m flows.build_factory` is the same.
    """
    become("flows.build_factory", ["--config", recipe, *(["--json"] if as_json else [])])
