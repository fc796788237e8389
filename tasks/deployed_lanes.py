"""Lanes as flow runs of a deployment: any worker of its pool takes the next one, however late it joined."""

import logging
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from caprl_core.errors import BadInputError
from tasks.lanes import LaneState

PAGE = 200
"""Flow runs a server gives in one answer, unless its `PREFECT_API_DEFAULT_LIMIT` is another; more is refused."""

_STATES = {
    StateType.SCHEDULED: LaneState.WAITING,
    StateType.PENDING: LaneState.TAKEN,
    StateType.RUNNING: LaneState.RUNNING,
    StateType.PAUSED: LaneState.RUNNING,
    StateType.CANCELLING: LaneState.RUNNING,
    StateType.COMPLETED: LaneState.DONE,
    StateType.FAILED: LaneState.FAILED,
    StateType.CRASHED: LaneState.CRASHED,
    StateType.CANCELLED: LaneState.CRASHED,
}


class DeployedLanes:
    """At most `lanes` flow runs of `deployment` at once, those that wait for a worker included.

    A server that cannot be reached for a while changes nothing: lanes keep the state last seen, and none is started.
    Raises `BadInputError` when there is no such deployment.
    """

    def __init__(
        self,
        deployment: str,
        parameters: dict[str, Any],
        *,
        name: str,
        lanes: int,
        logger: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self._deployment = deployment
        self._parameters = parameters
        self._name = name
        self._most = lanes
        self._logger = logger
        self._runs: dict[int, FlowRun] = {}
        self._stopped: set[int] = set()
        with get_client(sync_client=True) as client:
            try:
                client.read_deployment_by_name(deployment)
            except (ObjectNotFound, ValueError) as error:
                raise BadInputError(
                    f"lane_deployment: the server has no deployment {deployment!r}; deploy it first "
                    "(`prefect deploy --all`), or leave it out and the lanes run on this machine"
                ) from error

    def free(self) -> int:
        """Runs that may be submitted. One that was told to stop no longer counts: its host may be gone."""
        live = [n for n, run in self._runs.items() if n not in self._stopped and not _state(run).ended]
        return self._most - len(live)

    def start(self, number: int, units: str, work: str) -> None:
        """Submit a run; it waits until a worker takes it."""
        self._runs[number] = run_deployment(  # type: ignore[assignment]
            self._deployment,
            parameters=self._parameters | {"shards": units, "work": work},
            flow_run_name=f"{self._name} lane {number}",
            tags=["caprl", "lane"],
            timeout=0,
        )

    def states(self) -> dict[int, LaneState]:
        """As the server has them, in a request for every 200 of those that have not ended."""
        numbers = {run.id: number for number, run in self._runs.items() if not _state(run).ended}
        if numbers:
            try:
                with get_client(sync_client=True) as client:
                    found = [run for some in _pages(list(numbers)) for run in _read(client, some)]
            except Exception as error:
                self._logger.warning("the states of the lanes are not known now: %s", error)
            else:
                self._runs |= {numbers[run.id]: run for run in found}
        return {number: _state(run) for number, run in self._runs.items()}

    def last_words(self, number: int) -> str:
        """The message of its state."""
        state = self._runs[number].state
        return "" if state is None else f"{state.name}: {state.message or ''}"

    def stop(self, number: int) -> None:
        """Cancel a run: its worker sends it SIGTERM, or it never starts."""
        if number in self._stopped or _state(self._runs[number]).ended:
            return
        self._stopped.add(number)
        self._cancel(self._runs[number].id)

    def close(self) -> None:
        """Cancel every run that has not ended. Its worker ends it; a lane cut off ends when nothing more comes."""
        for number in self._runs:
            self.stop(number)

    def _cancel(self, run: UUID) -> None:
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run, State(type=StateType.CANCELLING))
        except Exception as error:
            self._logger.warning("flow run %s could not be cancelled, it ends when nothing more comes: %s", run, error)


def _pages(runs: list[UUID]) -> list[list[UUID]]:
    return [runs[at : at + PAGE] for at in range(0, len(runs), PAGE)]


def _read(client: SyncPrefectClient, runs: list[UUID]) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=runs)), limit=len(runs))


def _state(run: FlowRun) -> LaneState:
    return LaneState.WAITING if run.state is None else _STATES[run.state.type]
