"""The `caprl` command: registers each command group, and turns errors into one message and a meaningful exit code.

Command modules import nothing heavier than typer at their top: everything else is imported inside the command, so that
`caprl --help` answers at once.
"""

import sys
from typing import Annotated

import typer

from caprl_core.cli import (
    annotate,
    build,
    card,
    config,
    doctor,
    download,
    export,
    init_vlm,
    plan,
    prism,
    qa,
    release,
    reward,
    status,
    sweep,
    train,
    urls,
    verify,
    world,
)
from caprl_core.errors import CaprlError
from caprl_core.exit_codes import MEANINGS, ExitCode, exit_code

EPILOG = "Exit codes:\n\n" + "\n\n".join(f"{code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="caprl",
    help="The CapRL dataset factory: real pictures in, captioned WebDataset shards out, exactly once.",
    epilog=EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    # A traceback with local variables could show credentials.
    pretty_exceptions_enable=False,
)
app.add_typer(config.app, name="config")
app.add_typer(qa.app, name="qa")
app.add_typer(prism.app, name="prism")
app.add_typer(world.app, name="world")
app.command("reward")(reward.reward)
app.command("train")(train.train)
app.command("train-show")(train.train_show)
app.command("train-page")(train.train_page)
app.command("plan")(plan.plan)
app.command("annotate")(annotate.annotate)
app.command("status")(status.status)
app.command("verify")(verify.verify)
app.command("resume-failed")(annotate.resume_failed)
app.command("retry-rejected")(annotate.retry_rejected)
app.command("release")(release.release)
app.command("sweep")(sweep.sweep)
app.command("urls")(urls.urls)
app.command("export")(export.export)
app.command("download")(download.download)
app.command("init-vlm")(init_vlm.init_vlm)
app.command("card")(card.card)
app.command("build")(build.build)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"caprl {version('caprl-factory')}")
        raise typer.Exit


@app.callback()
def caprl(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """The CapRL dataset factory: real pictures in, captioned WebDataset shards out, exactly once."""


def main() -> None:
    """Run the command line and end the process with one of `ExitCode`."""
    try:
        app()
    except CaprlError as error:
        typer.secho(f"caprl: {error}", fg=typer.colors.RED, err=True)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        typer.secho("caprl: interrupted; the same command again resumes", fg=typer.colors.RED, err=True)
        sys.exit(ExitCode.INTERRUPTED)
