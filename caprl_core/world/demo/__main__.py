"""`python -m caprl_core.world.demo`: see the package."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from caprl_core.errors import CaprlError
from caprl_core.world.demo.files import Sizes
from caprl_core.world.demo.story import tell_story
from caprl_core.world.demo.terminal import Terminal


def main() -> None:
    """Run the demo; whatever ends it, everything it started is stopped."""
    parser = argparse.ArgumentParser(prog="python -m caprl_core.world.demo", description=__doc__)
    usual = Sizes()
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="what the demo makes; default: .demo")
    parser.add_argument("--curated", type=_positive, default=usual.curated, help="pictures that questions are about")
    parser.add_argument("--steps", type=_positive, default=usual.steps, help="steps of training")
    parser.add_argument("--watched", type=_positive, default=usual.watched, help="pictures watched during training")
    parser.add_argument("--captioned", type=_positive, default=usual.captioned, help="pictures of each dataset")
    parser.add_argument(
        "--engine", choices=("transformers", "vllm"), default="transformers", help="what captions the datasets"
    )
    options = parser.parse_args()
    sizes = Sizes(options.curated, options.watched, options.captioned, options.steps)
    # The default action would leave the commands behind.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        tell_story(options.folder.resolve(), sizes, options.engine, Terminal())
    except CaprlError as error:
        sys.exit(f"\ndemo: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    main()
