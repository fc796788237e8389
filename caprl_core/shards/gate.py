"""The gate: a shard in which too many samples failed for one reason is quarantined, not published."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from caprl_core.data.reasons import Reason
from caprl_core.data.row import Result
from caprl_core.errors import BadInputError, ObjectMissingError
from caprl_core.recipe.models import GateExecution
from caprl_core.storage.layout import QUARANTINE, Attempt, Unit, parse_unit
from caprl_core.storage.store import Store

EXAMPLES = 5
"""Samples shown for each reason that broke its limit."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One reason that claims more of the shard than allowed. Shares are 0 to 1."""

    reason: str
    samples: int
    share: float
    limit: float

    def __str__(self) -> str:
        """`truncated 31.0 % (limit 20.0 %, 310 samples)`."""
        return f"{self.reason} {self.share:.1%} (limit {self.limit:.1%}, {self.samples} samples)"


def breaches(results: Mapping[str, Result], gate: GateExecution) -> list[Breach]:
    """The reasons over their limit, worst first. `*` is the limit of every reason without one of its own.

    Except of `engine_died`: unless it has its own, one such sample is enough, in a shard of any size.
    """
    total = len(results)
    counts = Counter(str(result.ledger["reason"]) for result in results.values() if result.rejected)
    found = []
    for reason, count in counts.items():
        if reason == Reason.ENGINE_DIED:
            limit = gate.max_share.get(reason, 0.0)
        elif total < gate.min_samples:
            continue
        else:
            limit = gate.max_share.get(reason, gate.max_share.get("*", 1.0))
        if count / total > limit:
            found.append(Breach(reason, count, count / total, limit))
    return sorted(found, key=lambda breach: (-breach.share, breach.reason))


def quarantine(store: Store, attempt: Attempt, results: Mapping[str, Result], found: list[Breach]) -> str:
    """Write the verdict beside the data; returns its key."""
    key = f"{attempt.unit.quarantine_prefix}/{attempt.id}.json"
    verdict = {
        "shard": attempt.unit.shard,
        "revision": attempt.unit.revision,
        "attempt": attempt.id,
        "samples": len(results),
        "breaches": [
            {
                "reason": breach.reason,
                "samples": breach.samples,
                "share": round(breach.share, 4),
                "limit": breach.limit,
                "examples": [
                    {"key": result.key, "image": result.ledger["image"], "detail": result.ledger["detail"]}
                    for result in results.values()
                    if result.ledger["reason"] == breach.reason
                ][:EXAMPLES],
            }
            for breach in found
        ],
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    store.put(key, orjson.dumps(verdict, option=orjson.OPT_INDENT_2))
    return key


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an operator decided about a quarantined unit: publish as it is, or forget the logs of some attempts."""

    accepted: bool = False
    ignored: frozenset[str] = frozenset()


def read_ruling(store: Store, unit: Unit) -> Ruling:
    """The operator's decision on a unit; none by default."""
    try:
        ruling = orjson.loads(store.get(_ruling_key(unit)))
    except ObjectMissingError:
        return Ruling()
    return Ruling(bool(ruling["accepted"]), frozenset(ruling["ignored"]))


def accept(store: Store, unit: Unit) -> None:
    """Let a quarantined unit pass the gate when it is run again."""
    _require_quarantined(store, unit)
    ignored = read_ruling(store, unit).ignored
    store.put(_ruling_key(unit), orjson.dumps({"accepted": True, "ignored": sorted(ignored)}))


def redo(store: Store, unit: Unit) -> int:
    """Make the next run of a quarantined unit ask every sample again; returns how many attempts are forgotten."""
    _require_quarantined(store, unit)
    attempts = {item.key.split("/")[2] for item in store.list(unit.attempts_prefix)}
    ignored = sorted(read_ruling(store, unit).ignored | attempts)
    store.put(_ruling_key(unit), orjson.dumps({"accepted": False, "ignored": ignored}))
    store.delete([item.key for item in store.list(unit.quarantine_prefix) if item.key != _ruling_key(unit)])
    return len(attempts)


def quarantined_units(store: Store) -> dict[Unit, list[str]]:
    """Unit -> keys of the verdicts on it. Committed units may still be listed: the caller knows the commits."""
    found: dict[Unit, list[str]] = {}
    for item in store.list(QUARANTINE):
        unit = parse_unit(item.key.split("/")[1])
        if unit is not None and item.key != _ruling_key(unit):
            found.setdefault(unit, []).append(item.key)
    return found


def _ruling_key(unit: Unit) -> str:
    return f"{unit.quarantine_prefix}/ruling.json"


def _require_quarantined(store: Store, unit: Unit) -> None:
    if not any(item.key != _ruling_key(unit) for item in store.list(unit.quarantine_prefix)):
        raise BadInputError(
            f"{store.uri}: shard {unit.shard} is not in quarantine; `caprl status` lists those that are"
        )
