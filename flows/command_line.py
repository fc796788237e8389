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
    parser = _parser("flows.caption_dataset", "Caption a dataset as its recipe says, or what is left of it.")
    parser.add_argument(
        "--lanes",
        type=_lanes,
        metavar="N",
        help="engines at once, each in a process (lane) of its own; 0: one for each visible GPU. Default: one, in this",
    )
    parser.add_argument(
        "--lane-deployment", metavar="FLOW/NAME", help="run the lanes as flow runs of this deployment, on its workers"
    )
    options = parser.parse_args(arguments)
    parameters = {
        "config": options.config,
        "output": options.output,
        "max_shards": options.max_shards,
        "lanes": options.lanes,
        "lane_deployment": options.lane_deployment,
    }
    _run("flows.caption_dataset", "caption_dataset", parameters, options)


def caption_shards_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.caption_shards`; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.caption_shards",
        description="Caption these shards of a planned dataset, as far as they are not done.",
        epilog=_codes(),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument("--shards", required=True, metavar="SHARDS", help="numbers and ranges, such as 0-3,7")
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    options = parser.parse_args(arguments)
    parameters = {"config": options.config, "output": options.output, "shards": options.shards}
    _run("flows.caption_shards", "caption_shards", parameters, options)


def sweep_dataset_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.sweep_dataset`; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.sweep_dataset",
        description="Delete what losing and dead attempts left beside a dataset's published shards.",
        epilog=_codes(),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument("--dry-run", action="store_true", help="only say how much would be deleted")
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    options = parser.parse_args(arguments)
    parameters = {"config": options.config, "output": options.output, "dry_run": options.dry_run}
    _run("flows.sweep_dataset", "sweep_dataset", parameters, options)


def curate_qa_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.curate_qa`; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.curate_qa",
        description="Curate a question set as its recipe says, or what is left of it.",
        epilog=_codes(),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument(
        "--stage",
        action="append",
        choices=("generate", "extract", "answer", "filter"),
        help="only this stage; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    options = parser.parse_args(arguments)
    parameters = {"config": options.config, "output": options.output, "stages": options.stage}
    _run("flows.curate_qa", "curate_qa", parameters, options, load_qa_recipe)


def evaluate_captions_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.evaluate_captions`; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.evaluate_captions",
        description="Evaluate captions as a recipe says, or what is left of it.",
        epilog=_codes(),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument(
        "--stage", action="append", choices=("captions", "judge", "score"), help="only this stage; repeatable"
    )
    parser.add_argument("--captions", metavar="URI", help="judge this file of captions instead")
    parser.add_argument("--captions-name", metavar="NAME", help="whose they are; default: the file's name")
    parser.add_argument(
        "--match", choices=("path", "name", "stem", "id"), default="path", help="how the file names its images"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    options = parser.parse_args(arguments)
    parameters = {"config": options.config, "output": options.output, "stages": options.stage}
    if options.captions is not None:
        name = options.captions_name or options.captions.rstrip("/").rpartition("/")[2]
        parameters["captions"] = {"name": name, "uri": options.captions, "match": options.match}
    _run("flows.evaluate_captions", "evaluate_captions", parameters, options, load_prism_recipe)


def build_factory_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.build_factory`; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.build_factory",
        description="Curate, train, annotate, verify, evaluate, and publish what is not worse; or what is left of it.",
        epilog=_codes(),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    options = parser.parse_args(arguments)
    module = "flows.build_factory"
    display = TrainingDisplay(as_json=options.json, live=sys.stderr.isatty(), resume=_resume(module))
    TRAINING_WATCHER.set(display.training)
    _run(module, "build_factory", {"config": options.config}, options, load_factory_recipe, display=display)


def train_captioner_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.train_captioner`; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.train_captioner",
        description="Train a captioner as its recipe says, from its newest checkpoint on, and register it.",
        epilog=_codes(),
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    options = parser.parse_args(arguments)
    parameters = {"config": options.config, "output": options.output}
    module = "flows.train_captioner"
    display = TrainingDisplay(as_json=options.json, live=sys.stderr.isatty(), resume=_resume(module))
    TRAINING_WATCHER.set(display.training)
    _run(module, "train_captioner", parameters, options, load_training_recipe, display=display)


def retry_rejected_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.retry_rejected`; ends the process."""
    parser = _parser("flows.retry_rejected", "Ask rejected samples again, in superseding revisions of their shards.")
    parser.add_argument(
        "--reason", action="append", metavar="REASON", help="only samples rejected for this reason; repeatable"
    )
    options = parser.parse_args(arguments)
    parameters = {
        "config": options.config,
        "reasons": options.reason,
        "output": options.output,
        "max_shards": options.max_shards,
    }
    _run("flows.retry_rejected", "retry_rejected", parameters, options)


def resume_failed_command(arguments: list[str] | None = None) -> NoReturn:
    """`python -m flows.resume_failed`; ends the process."""
    parser = _parser(
        "flows.resume_failed", "Find from the bucket what is missing, quarantined or rejected, and run just that."
    )
    parser.add_argument(
        "--reason", action="append", metavar="REASON", help="only samples rejected for this reason; repeatable"
    )
    parser.add_argument(
        "--max-revisions", type=_positive, default=3, metavar="N", help="times a shard's rejected samples are redone"
    )
    options = parser.parse_args(arguments)
    parameters = {
        "config": options.config,
        "output": options.output,
        "reasons": options.reason,
        "max_revisions": options.max_revisions,
        "max_shards": options.max_shards,
    }
    _run("flows.resume_failed", "resume_failed", parameters, options)


def _parser(module: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description, epilog=_codes())
    parser.add_argument("--config", required=True, metavar="FILE", help="recipe file (YAML)")
    parser.add_argument("--output", metavar="URI", help="folder or s3:// prefix instead of the recipe's")
    parser.add_argument("--max-shards", type=_positive, metavar="N", help="end after so many shards")
    parser.add_argument("--json", action="store_true", help="print JSON lines on standard output")
    return parser


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
    flow: str,
    parameters: dict[str, Any],
    options: argparse.Namespace,
    load: Callable[[str], object] = load_recipe,
    *,
    display: RunDisplay | None = None,
) -> NoReturn:
    from flows.embedded import run_embedded  # noqa: PLC0415

    display = display or RunDisplay(as_json=options.json, live=sys.stderr.isatty(), resume=_resume(module))
    try:
        load(options.config)  # a misspelt key is told before the seconds a server takes to start
    except CaprlError as error:
        display.error(str(error))
        sys.exit(exit_code(error))
    sys.exit(run_embedded(module, flow, parameters, display))


def _resume(module: str) -> str:
    """The command that goes on with this run."""
    return shlex.join([sys.executable, "-m", module, *sys.argv[1:]])
