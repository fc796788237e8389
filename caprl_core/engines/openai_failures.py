"""What went wrong with one HTTP request to an OpenAI-compatible server, and whose fault that is."""

import email.utils
import time
from enum import Enum
from urllib.parse import urlsplit

import openai


class Blame(Enum):
    """Who is to blame for a failed attempt, which decides what happens next."""

    REQUEST = "request"  # the server refuses this request: no retry helps
    SETTINGS = "settings"  # key, address or model name are wrong: no request can succeed
    UNREACHABLE = "unreachable"  # no connection came about: the request has not even been tried
    UNKNOWN = "unknown"  # overload, a server error, a time-out, a lost connection or a reply given up on: try again


class AttemptFailedError(Exception):
    """One attempt failed. `retry_after_s` is what the server asked for, or None."""

    def __init__(self, blame: Blame, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.blame = blame
        self.text = text
        self.retry_after_s = retry_after_s


# 408, 409 and 425 ask for the same request again; 429 and all 5xx speak of the server's state.
RETRIED_STATUSES = frozenset({408, 409, 425, 429})
LEAST_KEY = 8  # characters; "none" and the like are words, not keys
LONGEST_RETRY_AFTER_S = 120.0  # a server that wants a longer pause is asked again earlier all the same


def shown_url(url: str) -> str:
    """An address as texts may name it: without user, password and query, which can be secret."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def attempt_failure(error: Exception, url: str) -> AttemptFailedError:
    """Judge what the `openai` client raised for a request to `url`. No credential gets into the text."""
    url = shown_url(url)
    if isinstance(error, openai.APIStatusError):
        return _status_failure(error, url)
    # The client wraps its HTTP library's errors; versions 2 and 3 use libraries whose classes only share their names.
    cause = type(error.__cause__).__name__
    if cause in ("ConnectError", "ConnectTimeout"):
        return AttemptFailedError(Blame.UNREACHABLE, f"{url}: no connection ({error.__cause__ or error})")
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return AttemptFailedError(Blame.UNKNOWN, f"{url}: no reply in time")
    return AttemptFailedError(Blame.UNKNOWN, f"{url}: {type(error).__name__} ({cause}): {error.__cause__ or error}")


def _status_failure(error: openai.APIStatusError, url: str) -> AttemptFailedError:
    status = error.status_code
    message = str(error.message)
    key = error.response.request.headers.get("authorization", "").rpartition(" ")[2]
    if len(key) >= LEAST_KEY:
        message = message.replace(key, "…")  # some servers repeat the key they refuse
    text = f"{url}: HTTP {status}: {message[:500]}"
    if status in RETRIED_STATUSES or status >= 500:
        return AttemptFailedError(Blame.UNKNOWN, text, retry_after(error.response.headers.get("retry-after")))
    if status in (401, 403):
        return AttemptFailedError(Blame.SETTINGS, f"{text} - check the API key")
    if status == 404:
        return AttemptFailedError(
            Blame.SETTINGS,
            f"{text} - check that the URL ends in /v1 and execution.engine.served_name is a served model",
        )
    return AttemptFailedError(Blame.REQUEST, text)


def retry_after(value: str | None) -> float | None:
    """Seconds a `Retry-After` header asks for (a number, or a date), or None where it says nothing usable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    # The comparison is false for nan, too.
    return min(seconds, LONGEST_RETRY_AFTER_S) if seconds >= 0 else None
