"""`python -m caprl_core.training --recipe FILE`: one process of a training run (`accelerate launch` starts several)."""

import argparse
import os
import sys

from caprl_core.errors import CaprlError
from caprl_core.exit_codes import ExitCode, exit_code
from caprl_core.recipe.load import load_training_recipe
from caprl_core.training.events import print_event


def main() -> int:
    """The exit code; events go to standard output, one JSON line each, from the main process alone."""
    parser = argparse.ArgumentParser(prog="python -m caprl_core.training", description=__doc__)
    parser.add_argument("--recipe", required=True, help="training recipe (YAML)")
    arguments = parser.parse_args()
    main_process = os.environ.get("RANK", "0") == "0"
    try:
        from caprl_core.training.run import train  # noqa: PLC0415 - seconds to import

        ended = train(load_training_recipe(arguments.recipe), print_event if main_process else _silent)
    except CaprlError as error:
        print_event({"event": "error", "kind": type(error).__name__, "error": str(error)})
        return exit_code(error)
    return ExitCode.OK if ended else ExitCode.INTERRUPTED


def _silent(_: dict[str, object]) -> None:
    """Other processes tell nothing."""


if __name__ == "__main__":
    sys.exit(main())
