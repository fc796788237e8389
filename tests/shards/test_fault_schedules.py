"""A thousand random fault schedules: several hosts with wrong clocks race for the same units while they die, sleep and
lose requests at every step; nothing is lost, doubled, changed or seen too early. A failure names its seed.

Everything is drawn from the seed and runs on a clock of its own, so a schedule can be repeated:
`PYTHONPATH=tests:. python -m support.fault_schedules SEED`.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from caprl_core.storage import publish
from support.fault_hosts import STEPS, HostStore
from support.fault_schedules import Ground, lay_ground, play


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = lay_ground(tmp_path_factory.mktemp("ground"))
    yield made
    made.reader.close()


def play_all(ground: Ground, seeds: range) -> Counter[str]:
    met: Counter[str] = Counter()
    for seed in seeds:
        played = play(ground, seed)
        assert not played.violations, f"schedule {seed}: " + "; ".join(played.violations)
        met += played.met
    return met


def test_sixty_schedules_break_nothing(ground: Ground) -> None:
    met = play_all(ground, range(60))
    assert sum(count for what, count in met.items() if what.startswith("death")) >= 20
    assert met["a commit lost its race"] >= 20


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_schedules_break_nothing_and_die_at_every_step(ground: Ground) -> None:
    met = play_all(ground, range(1000))
    for step in STEPS:
        assert met[f"death at {step}"], f"no host died at {step}"
        assert met[f"sleep at {step}"], f"no host slept at {step}"
    for action in ("put", "create", "copy", "delete", "get", "list", "head"):
        assert met[f"refused {action}"]
        assert met[f"lost reply of {action}"]


def test_the_same_seed_gives_the_same_schedule(ground: Ground) -> None:
    for seed in range(5):
        assert play(ground, seed).trace == play(ground, seed).trace


class UnconditionalStore(HostStore):
    """Whoever commits last is the commit."""

    def create(self, key: str, data: bytes) -> None:
        self.put(key, data)


class CheckingStore(HostStore):
    """Looks first and writes then: two who look at the same moment both write."""

    def create(self, key: str, data: bytes) -> None:
        if self.size(key) is None:
            self.put(key, data)
        else:
            super().create(key, data)


@pytest.mark.parametrize("broken", [UnconditionalStore, CheckingStore])
def test_a_store_without_conditional_create_is_found_out(ground: Ground, broken: type[HostStore]) -> None:
    found = [violation for seed in range(30) for violation in play(ground, seed, broken).violations]
    assert any("commits/" in violation and "changed" in violation for violation in found)


def test_a_sweep_of_what_is_not_published_yet_is_found_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "is_published", lambda record, sizes: True)
    found = [violation for seed in range(60) for violation in play(ground, seed).violations]
    assert any("is committed and lies nowhere" in violation for violation in found)
