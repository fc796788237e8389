"""Keeps credentials out of log lines, whoever wrote them into a message."""

import os
import re
from collections.abc import Iterable, Mapping

HIDDEN = "…"
LEAST_SECRET = 8
"""Characters of a value that is hidden wherever it appears: shorter ones are words such as `none` or `test`."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|AUTH_STRING|CREDENTIAL|CONNECTION_URL|DSN", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(_FILE|_PATH|_DIR|_ENV|ACCESS_KEY_ID)$", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)[^\s/?#'\"@]+(?:@[^\s/?#'\"@]+)*@")
_IN_HEADER = re.compile(r"\b(Bearer|Basic|AWS4-HMAC-SHA256)\s+[^\s'\",][^'\"\n]*", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"([?&](?:X-Amz-[A-Za-z-]+|AWSAccessKeyId|Signature|sig|token|key|api_key|access_token)=)[^\s&#'\"]+", re.IGNORECASE
)


class Redaction:
    """Hides the values of secret environment variables, and what stands where URLs and headers carry credentials.

    `names` are further variables that hold secrets. Values are read once, when it is made.
    """

    def __init__(self, names: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        wanted = set(names)
        secrets: set[str] = set()
        for name, value in environment.items():
            if name in wanted or (_SECRET_NAME.search(name) and not _NOT_SECRET.search(name)):
                # `user:password`, and the password in a database's URL, are secrets of their own.
                parts = [value, value.rpartition(":")[2], *_IN_URL.findall(value)]
                parts += [part.rstrip("@").rpartition(":")[2] for part in parts[2:]]
                secrets.update(part for part in parts if len(part) >= LEAST_SECRET)
        longest_first = sorted(secrets, key=lambda secret: (-len(secret), secret))
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """The text without credentials."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        if "://" in text:
            text = _IN_URL.sub("", text)
            text = _IN_QUERY.sub(rf"\1{HIDDEN}", text)
        return _IN_HEADER.sub(rf"\1 {HIDDEN}", text)
