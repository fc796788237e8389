"""S3 endpoint, region and credentials from the usual AWS places, for obstore."""

import datetime as dt
import os
from collections.abc import Callable
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError

from caprl_core.errors import BadInputError
from caprl_core.recipe.models import StorageExecution

CREDENTIALS_FOR = dt.timedelta(minutes=10)
"""How long a set of credentials is used before botocore is asked again; instance roles hand out hours."""


def s3_settings(
    settings: StorageExecution,
) -> tuple[dict[str, Any], dict[str, Any], Callable[[], dict[str, Any]]]:
    """Configuration, client options and credential provider of an obstore `S3Store`.

    Environment variables, shared configuration files, profiles, SSO and instance roles are all resolved by botocore.
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
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise BadInputError(f"cannot read the AWS credentials: {error}") from error
    if credentials is None:
        raise BadInputError("no AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")

    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": dt.datetime.now(dt.UTC) + CREDENTIALS_FOR,
        }

    return config, client, provide
