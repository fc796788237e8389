"""What `python -m flows.…` understands. Imports nothing of Prefect, so `--help` and wrong usage answer at once."""

import argparse
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from caprl_core.cli.run_display import RunDisplay
from caprl_core.cli.training_display import TrainingDisplay
from caprl_core.errors import CaprlError
from caprl_core.exit_codes import MEANINGS, exit_code
from caprl_core.recipe.load import (
    load_factory_recipe,
    load_prism_recipe,
    load_qa_recipe,
    load_recipe,
    load_training_recipe,
)
from flows.training_watching import TRAINING_WATCHER


def caption_dataset_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.caption_dataset`; ends the process."""
    module = "flows.caption_dataset"
    parser = _parser(module, "Caption a dataset as its recipe says, or what is left of it.", output=True)
    _add_max_shards(parser)
    parser.add_argument(
        "--lanes",
        type=_lanes,
        metavar="N",
        help="engines at once, each in a process (lane) of its own; 0: one for each visible GPU. Default: one, in this",
    )
    parser.add_argument(
        "--lane-deployment", metavar="FLOW/NAME", help="run the lanes as flow runs of this deployment, on its workers"
    )
    _run(module, parser, arguments)


def caption_shards_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.caption_shards`; ends the process."""
    module = "flows.caption_shards"
    parser = _parser(module, "Caption these shards of a planned dataset, as far as they are not done.", output=True)
    parser.add_argument("--shards", required=True, metavar="SHARDS", help="numbers and ranges, such as 0-3,7")
    parser.add_argument(
        "--work", metavar="KEY", help="object of the dataset's store that says what else there is to do"
    )
    _run(module, parser, arguments)


def sweep_dataset_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.sweep_dataset`; ends the process."""
    module = "flows.sweep_dataset"
    what = "Delete what losing and dead attempts left beside a dataset's published shards."
    parser = _parser(module, what, output=True)
    parser.add_argument("--dry-run", action="store_true", help="only say how much would be deleted")
    _run(module, parser, arguments)


def retry_rejected_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.retry_rejected`; ends the process."""
    module = "flows.retry_rejected"
    what = "Ask rejected samples again, in superseding revisions of their shards."
    parser = _parser(module, what, output=True)
    _add_max_shards(parser)
    _add_reasons(parser)
    _run(module, parser, arguments)


def resume_failed_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.resume_failed`; ends the process."""
    module = "flows.resume_failed"
    what = "Find from the bucket what is missing, quarantined or rejected, and run just that."
    parser = _parser(module, what, output=True)
    _add_max_shards(parser)
    _add_reasons(parser)
    parser.add_argument(
        "--max-revisions", type=_positive, default=3, metavar="N", help="times a shard's rejected samples are redone"
    )
    _run(module, parser, arguments)


def curate_qa_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.curate_qa`; ends the process."""
    module = "flows.curate_qa"
    parser = _parser(module, "Curate a question set as its recipe says, or what is left of it.", output=True)
    _add_stages(parser, ("generate", "extract", "answer", "filter"))
    _run(module, parser, arguments, load_qa_recipe)


def evaluate_captions_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.evaluate_captions`; ends the process."""
    module = "flows.evaluate_captions"
    parser = _parser(module, "Evaluate captions as a recipe says, or what is left of it.", output=True)
    _add_stages(parser, ("captions", "judge", "score"))
    parser.add_argument("--captions", metavar="URI", help="judge this file of captions instead")
    parser.add_argument("--captions-name", metavar="NAME", help="whose they are; default: the file's name")
    parser.add_argument(
        "--match", choices=("path", "name", "stem", "id"), default="path", help="how the file names its images"
    )

    def parameters(options: dict[str, Any]) -> dict[str, Any]:
        uri, name, match = (options.pop(key) for key in ("captions", "captions_name", "match"))
        if uri is None:
            return options
        return options | {"captions": {"name": name or uri.rstrip("/").rpartition("/")[2], "uri": uri, "match": match}}

    _run(module, parser, arguments, load_prism_recipe, parameters=parameters)


def train_captioner_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.train_captioner`; ends the process."""
    module = "flows.train_captioner"
    what = "Train a captioner as its recipe says, from its newest checkpoint on, and register it."
    _run(module, _parser(module, what, output=True), arguments, load_training_recipe, trains=True)


def build_factory_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.build_factory`; ends the process."""
    module = "flows.build_factory"
    what = "Curate, train, annotate, verify, evaluate, and publish what is not worse; or what is left of it."
    _run(module, _parser(module, what, output=False), arguments, load_factory_recipe, trains=True)


def _parser(module: str, description: str, *, output: bool) -> argparse.ArgumentParser:
    """Options are called as the parameters of the flow are, `--json` apart."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description, epilog=_codes())
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    if output:
        parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    return parser


def _add_max_shards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-shards", type=_positive, metavar="N", help="end after so many shards")


def _add_reasons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason",
        dest="reasons",
        action="append",
        metavar="REASON",
        help="only samples rejected for this reason; repeatable",
    )


def _add_stages(parser: argparse.ArgumentParser, stages: tuple[str, ...]) -> None:
    parser.add_argument("--stage", dest="stages", action="append", choices=stages, help="only this stage; repeatable")


def _codes() -> str:
    codes = "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items())
    return f"Exit codes: {codes}; 143 as 130, by SIGTERM."


def _lanes(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _run(
    module: str,
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    load: Callable[[str], object] = load_recipe,
    *,
    parameters: Callable[[dict[str, Any]], dict[str, Any]] = lambda options: options,
    trains: bool = False,
) -> NoReturn:
    """Run the flow of a module, called as the module is; `trains` shows the steps of a training."""
    from flows.embedded import run_embedded  # noqa: PLC0415

    options = vars(parser.parse_args(arguments))
    shown = {"as_json": options.pop("json"), "live": sys.stderr.isatty(), "resume": _resume(module)}
    display = RunDisplay(**shown)
    if trains:
        display = course = TrainingDisplay(**shown)
        TRAINING_WATCHER.set(course.training)
    try:
        load(options["config"])  # a misspelt key is told before the seconds a server takes to start
    except CaprlError as error:
        display.error(str(error))
        sys.exit(exit_code(error))
    sys.exit(run_embedded(module, module.rpartition(".")[2], parameters(options), display))


def _resume(module: str) -> str:
    """The command that goes on with this run."""
    return shlex.join([sys.executable, "-m", module, *sys.argv[1:]])
