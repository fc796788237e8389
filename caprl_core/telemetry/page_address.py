"""Where a page in a store can be opened: an address a browser takes, without any credential in it."""

from pathlib import Path
from urllib.parse import quote, urlsplit

from caprl_core.recipe.models import StorageExecution
from caprl_core.storage.aws import s3_settings


def page_address(uri: str, settings: StorageExecution) -> str:
    """`file://…` of a local page, `https://…` of one on S3, by its endpoint or AWS's.

    A signed address would open for whoever reads it, so this one opens only for those who may read the bucket. Raises
    `BadInputError` where no AWS credentials are found.
    """
    if not uri.startswith("s3://"):
        return Path(uri.removeprefix("file://")).expanduser().resolve().as_uri()
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    config = s3_settings(settings)[0]
    endpoint = config.get("endpoint")
    if endpoint is None:
        return f"https://{bucket}.s3.{config['region']}.amazonaws.com/{quote(key)}"
    parts = urlsplit(endpoint.rstrip("/"))
    base = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return f"{base}/{bucket}/{quote(key)}"
