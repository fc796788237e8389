"""S3 endpoint, region and credentials from the usual AWS places, for obstore."""

import datetime as dt
import os
import threading
import time
from typing import Any

import botocore.credentials
import botocore.session
from botocore.exceptions import BotoCoreError

from caprl_core.errors import BadInputError
from caprl_core.recipe.models import StorageExecution

RESOLVED_FOR_S = 60.0
"""Seconds until credentials from a file are read again: whoever renews them a minute before they expire is in time."""
_SHORT = dt.timedelta(seconds=1)


class Credentials:
    """What obstore asks for credentials, before every request but no more than ten times a second.

    Environment variables, shared configuration files, profiles, `credential_process`, SSO, web identities and instance
    roles are all resolved by botocore. What renews itself (roles, processes) does so in time; a file that somebody
    rewrites is read again every minute, and at once after `renew`. Thread-safe.
    """

    def __init__(self, session: botocore.session.Session) -> None:
        """Raises `BadInputError` when no credentials are found anywhere."""
        self._lock = threading.Lock()
        self._found = _resolve(session)
        self._until = time.monotonic() + RESOLVED_FOR_S

    @property
    def advice(self) -> str:
        """How credentials from this place are renewed."""
        method = self._found.method
        if method == "env":
            return (
                "those in the environment cannot change while a process runs: start it with new ones, or let it take "
                "them from a place that is renewed (a profile, AWS_SHARED_CREDENTIALS_FILE, credential_process, a role)"
            )
        return f"they come from {method}, which is asked again: renew them there"

    def renew(self) -> None:
        """Resolve anew at the next request: the store has refused the present ones."""
        with self._lock:
            self._until = 0.0

    def __call__(self) -> dict[str, Any]:
        """Access key, secret key and token, good for one second: obstore keeps longer-lived ones for minutes."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._resolve_again()
            found = self._found.get_frozen_credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": dt.datetime.now(dt.UTC) + _SHORT,
        }

    def _resolve_again(self) -> None:
        refused = self._until == 0.0
        self._until = time.monotonic() + RESOLVED_FOR_S
        if isinstance(self._found, botocore.credentials.RefreshableCredentials) and not refused:
            return
        try:
            self._found = _resolve(botocore.session.get_session())
        except BadInputError:
            return  # a file that is being rewritten; those at hand may do until the next look


def s3_settings(settings: StorageExecution) -> tuple[dict[str, Any], dict[str, Any], Credentials]:
    """Configuration, client options and credential provider of an obstore `S3Store`.

    Raises `BadInputError` when no credentials are found anywhere.
    """
    session = botocore.session.get_session()
    endpoint = (
        settings.endpoint
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or session.get_scoped_config().get("endpoint_url")
    )
    region = settings.region or session.get_config_variable("region") or "us-east-1"
    config: dict[str, Any] = {"region": region, "conditional_put": "etag"}
    client: dict[str, Any] = {"timeout": dt.timedelta(seconds=settings.timeout_s)}
    if endpoint:
        # Other stores than AWS rarely have a DNS name per bucket.
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": "false"}
        client["allow_http"] = endpoint.startswith("http://")
    return config, client, Credentials(session)


def _resolve(session: botocore.session.Session) -> Any:
    try:
        found = session.get_credentials()
    except BotoCoreError as error:
        raise BadInputError(f"cannot read the AWS credentials: {error}") from error
    if found is None:
        raise BadInputError("no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    return found
