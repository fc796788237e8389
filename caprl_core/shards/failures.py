"""Which of many errors explains the others."""

from caprl_core.errors import EngineDeadError


def worst(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to report: a dead engine explains all others; a cancellation none."""
    flat = list(_flatten(failures))
    dead = [error for error in flat if isinstance(error, EngineDeadError)]
    return (dead or flat)[0]


def _flatten(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    flat: list[BaseException] = []
    for error in group.exceptions:
        flat += _flatten(error) if isinstance(error, BaseExceptionGroup) else [error]
    return flat
