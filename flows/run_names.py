"""Names of flow runs: what runs is told by its recipe's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from prefect.runtime import deployment, flow_run

from caprl_core.errors import BadInputError


class Named(Protocol):
    """A recipe of any kind."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


def named_by(load: Callable[[str], Named], what: str = "") -> Callable[[], str]:
    """For `flow_run_name`: the name in the recipe that the parameter `config` names, or else that of the file.

    `what` is done comes first. A run that another submitted, with a name and with work, keeps that name.
    """

    def run_name() -> str:
        config = str(flow_run.parameters["config"])
        if flow_run.parameters.get("work") and deployment.id and (given := flow_run.get_name()):
            return given
        try:
            name = load(config).name
        except BadInputError:
            name = Path(config).stem  # the flow itself says what is wrong
        return f"{what} {name}".strip()

    return run_name
