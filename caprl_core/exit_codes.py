"""What `caprl`'s exit codes mean, and which code each error of the factory ends with."""

from enum import IntEnum

from caprl_core.errors import BadInputError, CaprlError, IdentityMismatchError, ShardQuarantinedError


class ExitCode(IntEnum):
    """Exit codes of every `caprl` command. Scripts rely on them: never renumber."""

    OK = 0
    FAILURE = 1
    BAD_INPUT = 2  # also what a shell convention, and the option parser, use for wrong usage
    INCOMPLETE = 3
    VERIFICATION_FAILED = 4
    QUARANTINED = 5
    INTERRUPTED = 130  # 128 + SIGINT, the shells' convention


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed; the message says why, and the same command again resumes",
    ExitCode.BAD_INPUT: "wrong usage, or an input, recipe or identity that cannot be used",
    ExitCode.INCOMPLETE: "incomplete: samples are still pending",
    ExitCode.VERIFICATION_FAILED: "verification failed: what is stored is not what was committed",
    ExitCode.QUARANTINED: "shards were quarantined: too many of their samples failed",
    ExitCode.INTERRUPTED: "interrupted; the same command again resumes",
}


def exit_code(error: CaprlError) -> ExitCode:
    """The code a command ends with when `error` reaches the top."""
    if isinstance(error, BadInputError | IdentityMismatchError):
        return ExitCode.BAD_INPUT
    if isinstance(error, ShardQuarantinedError):
        return ExitCode.QUARANTINED
    return ExitCode.FAILURE
