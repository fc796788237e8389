"""What every measurement shares: the machine and versions it ran with, medians, and how results are kept and shown."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with `--quick`, which every measurement has: small sizes, to see that it runs, not to be published."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it runs, not to be published")
    return parser


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory, load before the run, interpreter."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Installed versions."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


class Report:
    """Collects one measurement's figures; `finish` shows and keeps them, and ends the process."""

    def __init__(self, name: str, method: str, *, quick: bool, packages: Sequence[str]) -> None:
        self._content: dict[str, Any] = {
            "name": name,
            "method": " ".join(method.split()),
            "quick": quick,
            "machine": machine(),
            "versions": versions(*packages),
            "figures": {},
            "requirements": [],
        }

    def figure(self, name: str, value: float, unit: str) -> None:
        """One figure, shown as it comes. `KeyError` for a name used before, whose figure would be lost."""
        if name in self._content["figures"]:
            raise KeyError(name)
        self._content["figures"][name] = {"value": round(value, 4), "unit": unit}
        print(f"  {name:52} {value:>14,.3f} {unit}", flush=True)

    def require(self, what: str, value: float, least: float | None = None, most: float | None = None) -> None:
        """A figure with a bound; at the quick sizes a miss is shown but does not count."""
        met = (least is None or value >= least) and (most is None or value <= most)
        bound = f">= {least:g}" if least is not None else f"<= {most:g}"
        self._content["requirements"].append({"what": what, "value": round(value, 4), "bound": bound, "met": met})
        print(f"  {what}: {value:.3f} (wanted {bound}): {'met' if met else 'MISSED'}", flush=True)

    def finish(self) -> None:
        """Write `bench/results/<name>.json`; exit code 1 if a requirement was missed at full size."""
        RESULTS.mkdir(exist_ok=True)
        suffix = ".quick.json" if self._content["quick"] else ".json"
        path = RESULTS / f"{self._content['name']}{suffix}"
        path.write_text(json.dumps(self._content, indent=1) + "\n")
        print(f"  {json.dumps(self._content['machine'])}\n  {json.dumps(self._content['versions'])}\n  {path}")
        missed = [item for item in self._content["requirements"] if not item["met"]]
        sys.exit(1 if missed and not self._content["quick"] else 0)


def peak_mib() -> float:
    """Highest resident memory so far. Not ru_maxrss: a child's starts at what its parent had when it was started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
