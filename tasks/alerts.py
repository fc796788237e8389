"""Tells Prefect what an operator may want to hear of, as events; automations (docs/alerts) act on them."""

import logging
from typing import Any

from prefect.events import emit_event

from caprl_core.errors import EngineDeadError, ShardQuarantinedError
from caprl_core.recipe.models import AlertsExecution
from caprl_core.shards.tally import RunStart, Snapshot
from caprl_core.storage.layout import Unit
from caprl_core.telemetry.alarms import ENGINE_GIVEN_UP, LANE_STALLED, SHARD_QUARANTINED, Alarm, Alarms
from caprl_core.telemetry.redaction import Redaction

EVENTS_A_KIND = 100
"""Events of one kind a run raises at most: after that many quarantined shards nobody learns from the next."""
_ONCE = (ENGINE_GIVEN_UP,)
"""Told once a run: every shard that needs the engine ends with the same."""
RESOURCE = "caprl.dataset"
"""An event is about the resource `caprl.dataset.<name>`, and its flow run is related to it."""


class RunAlerts:
    """The events of one flow run, `caprl.<kind>`. Used from the flow's thread, whose run they are related to.

    A lane that works a slice for another run tells of its engine alone: of everything else that run tells.
    """

    def __init__(
        self,
        settings: AlertsExecution,
        start: RunStart,
        logger: logging.Logger | logging.LoggerAdapter[Any],
        *,
        slice_of_a_run: bool = False,
    ) -> None:
        self._start = start
        self._logger = logger
        self._slice = slice_of_a_run
        self._alarms = Alarms(settings, start)
        self._told: dict[str, int] = {}
        self._redact = Redaction()

    def look(self, now: Snapshot) -> None:
        """Now and then: is the run well?"""
        if not self._slice:
            for alarm in self._alarms.look(now):
                self._tell(alarm)

    def failed(self, unit: Unit, error: Exception) -> None:
        """A unit is given up for this run."""
        if isinstance(error, ShardQuarantinedError) and not self._slice:
            self._tell(Alarm(SHARD_QUARANTINED, str(error), {"shard": unit.shard, "revision": unit.revision}))
        if isinstance(error, EngineDeadError):
            self._tell(Alarm(ENGINE_GIVEN_UP, str(error), {"shard": unit.shard, "revision": unit.revision}))

    def lane_stalled(self, number: int, why: str) -> None:
        """A lane is not waited for any more."""
        self._tell(Alarm(LANE_STALLED, f"lane {number}: {why}", {"lane": number}))

    def _tell(self, alarm: Alarm) -> None:
        told = self._told[alarm.kind] = self._told.get(alarm.kind, 0) + 1
        if told > (1 if alarm.kind in _ONCE else EVENTS_A_KIND):
            return
        message = self._redact(alarm.message)
        self._logger.warning("alert %s: %s", alarm.kind, message)
        name = self._start.name
        try:
            emit_event(
                event=f"caprl.{alarm.kind}",
                resource={
                    "prefect.resource.id": f"{RESOURCE}.{name}",
                    "prefect.resource.name": name,
                    "caprl.alert": alarm.kind,
                },
                payload={"message": message, "uri": self._start.uri, **alarm.figures},
            )
        except Exception as error:
            # As with artifacts: a server that is away must not end a run.
            self._logger.warning("no %s event: %s", alarm.kind, error)
