"""References to images inside containers: `<container>#<member or row>`, relative so that data can move."""

from caprl_core.data.files.uris import base_folder
from caprl_core.errors import BadInputError

PARQUET = (".parquet",)
TAR = (".tar",)


def container_name(base: str, uri: str) -> str:
    """The container's address relative to the source's base folder.

    Raises `BadInputError` where the name would make references ambiguous.
    """
    prefix = base if not base or base.endswith("/") else f"{base}/"
    name = uri.removeprefix(prefix)
    if "#" in name:
        raise BadInputError(f"{uri}: `#` in the name of a container separates it from its members; rename the file")
    return name


def reference(container: str, inner: str | int) -> str:
    """`<container>#<member or row>`."""
    return f"{container}#{inner}"


def split_reference(image: str) -> tuple[str, str]:
    """(container, member or row). Raises `ValueError` where there is no `#`."""
    container, mark, inner = image.partition("#")
    if not mark or not container or not inner:
        raise ValueError(f"{image!r} is not <container>#<member or row>")
    return container, inner


__all__ = ["PARQUET", "TAR", "base_folder", "container_name", "reference", "split_reference"]
