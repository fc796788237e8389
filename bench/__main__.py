"""`python -m bench [--quick] [NAME...]`: run the measurements one after the other, each in a process of its own."""

import subprocess
import sys
import time

from bench.measuring import options

NAMES = (
    "packing",
    "stores",
    "plan_scale",
    "runner",
    "factory",
    "qa",
    "refilter",
    "reward",
    "training_step",
    "learning",
    "paired",
    "export",
    "cluster",
    "orchestration",
)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no measurement {', '.join(sorted(unknown))}")
    failed = []
    for name in arguments.names or NAMES:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        command = [sys.executable, "-m", f"bench.{name}", *(["--quick"] if arguments.quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"  took {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        sys.exit(f"missed or failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
