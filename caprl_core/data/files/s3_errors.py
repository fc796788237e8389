"""What the errors of s3fs and botocore mean to us."""

import aiohttp
from botocore import exceptions as boto
from s3fs.core import S3_RETRYABLE_ERRORS

from caprl_core.data.files.errors import ObjectRefusedError, ObjectUnreadableError
from caprl_core.errors import BadInputError, CaprlError, ObjectMissingError, StoreAwayError, StoreError

# Error codes of the S3 API, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_MISSING = {"NoSuchKey", "NoSuchVersion", "KeyTooLongError", "404"}
_REFUSED = {"AccessDenied", "AllAccessDisabled", "403"}
_WRONG_SETTINGS = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret access key is wrong",
    "InvalidToken": "the session token is wrong",
    "AuthorizationHeaderMalformed": "the region is wrong: set execution.storage.region",
    "PermanentRedirect": "the region or endpoint is wrong: set execution.storage.region and .endpoint",
    "301": "the region or endpoint is wrong: set execution.storage.region and .endpoint",
    "NoSuchBucket": "the bucket does not exist",
    "InvalidBucketName": "the bucket's name is not valid",
}
_PASSING = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalError"}
# The credentials were right and may be right again: the shard is retried later.
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestTimeTooSkewed"}


class PastTheEndError(CaprlError):
    """The range begins at or after the end of the object."""


def _client_error(error: Exception) -> tuple[str, int] | None:
    """(code, HTTP status) of the S3 answer behind an error of s3fs, which translates them to `OSError`."""
    cause = error if isinstance(error, boto.ClientError) else error.__cause__
    if not isinstance(cause, boto.ClientError):
        return None
    code = str(cause.response.get("Error", {}).get("Code", ""))
    return code, int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed in a moment: 5xx, 429, throttling, time-outs, lost connections."""
    answer = _client_error(error)
    if answer is not None:
        code, status = answer
        return status >= 500 or status == 429 or code in _PASSING
    return isinstance(
        error,
        (
            *S3_RETRYABLE_ERRORS,
            boto.HTTPClientError,
            boto.ConnectionError,
            aiohttp.ClientError,
            TimeoutError,
            ConnectionError,
        ),
    )


def have_expired(error: Exception) -> bool:
    """Whether the credentials were good once, so that new ones may be found where they came from."""
    answer = _client_error(error)
    return answer is not None and answer[0] in _EXPIRED


def translated(uri: str, error: Exception) -> Exception:
    """The error to raise instead, naming the address and, where there is one, the remedy."""
    if isinstance(error, CaprlError):
        return error
    answer = _client_error(error)
    if answer is not None:
        return _from_answer(uri, error, *answer)
    if is_passing(error):
        return StoreError(f"{uri}: the store does not answer ({error})")
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return BadInputError(f"{uri}: no AWS credentials found: {remedy}")
    if isinstance(error, boto.BotoCoreError):
        return BadInputError(f"{uri}: {error}")
    return ObjectUnreadableError(f"{uri}: {error}")


def _from_answer(uri: str, error: Exception, code: str, status: int) -> Exception:
    what = f"{uri}: {error} ({code}, HTTP {status})"
    kinds: tuple[tuple[bool, Exception], ...] = (
        (status == 416 or code == "InvalidRange", PastTheEndError(uri)),
        (code in _WRONG_SETTINGS, BadInputError(f"{uri}: {_WRONG_SETTINGS.get(code)} ({code})")),
        (code in _MISSING, ObjectMissingError(f"{uri} does not exist")),
        (code in _REFUSED, ObjectRefusedError(f"{uri}: access denied ({code})")),
        (code in _EXPIRED, StoreAwayError(what)),
        (is_passing(error), StoreError(what)),
    )
    return next((kind for applies, kind in kinds if applies), ObjectUnreadableError(what))
