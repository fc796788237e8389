"""Text that every format can carry."""


def storable(text: str) -> str:
    """`text` as UTF-8 can hold it: halves of a surrogate pair that stand side by side are joined, as JSON means them;
    lone ones, which JSON can carry and no other format can, become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
