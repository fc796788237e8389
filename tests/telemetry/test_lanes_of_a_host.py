"""Two lanes of one host, as processes of a real run, both to be seen while they work."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from caprl_core.world.stub_server import StubBehaviour
from support.drawn_dataset import recipe_for
from support.stub_thread import running_stub
from support.watched_lane import Scrape, scrape, value

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_each_lane_has_a_port_of_the_range_and_writes_to_the_one_log(images: Path, tmp_path: Path, port: int) -> None:
    logs = tmp_path / "logs.jsonl"
    seen: dict[int, list[Scrape]] = {port: [], port + 1: []}
    with running_stub(StubBehaviour(median_s=1.5, sigma=0.3)) as stub:
        engine = {"kind": "openai", "urls": [stub.url], "served_name": "stub", "concurrency": 4}
        recipe = recipe_for(
            images,
            str(tmp_path / "out"),
            dataset__shard_samples=5,
            execution__engine=engine,
            execution__metrics={"port": port},
            execution__logs={"format": "json", "file": str(logs)},
            execution__runner={"flush_s": 0.2, "decode_workers": 1, "shards_in_flight": 2},
        )
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        environment = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT")}
        with subprocess.Popen(
            [sys.executable, "-m", "flows.caption_dataset", "--config", str(path), "--lanes", "2", "--json"],
            env=environment | {"PREFECT_HOME": str(tmp_path / "prefect")},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as run:
            while run.poll() is None:
                for at, scrapes in seen.items():
                    try:
                        scrapes.append(scrape(at))
                    except OSError:
                        continue  # not yet, or no longer
                time.sleep(0.2)
            assert run.stderr is not None
            assert run.returncode == 0, run.stderr.read().decode()
    for scrapes in seen.values():
        assert max(value(one, "caprl_requests_in_flight") for one in scrapes) > 1
        tokens = [value(one, "caprl_completion_tokens_total") for one in scrapes]
        assert tokens == sorted(tokens)
        assert tokens[-1] > 0
        assert value(scrapes[-1], "caprl_engine_starts_total") == 1
    rows = [value(scrapes[-1], "caprl_samples_total", outcome="row") for scrapes in seen.values()]
    # Each counts its own. At the end an idle lane joins in what the other has begun, so up to the four shards of five
    # samples that the two can have open may be counted by both.
    assert max(rows) < 60
    assert sum(rows) <= 60 + 4 * 5
    lines = [json.loads(line) for line in logs.read_text().splitlines()]
    assert len({line["lane"] for line in lines if "shard" in line}) == 2
    assert {line["shard"] for line in lines if line.get("step") == "committed"} == set(range(12))
