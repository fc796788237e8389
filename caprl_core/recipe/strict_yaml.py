"""YAML as a recipe may use it: plain data of bounded size, no repeated keys, the line of each value kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from caprl_core.errors import BadInputError

MAX_BYTES = 2**20
"""Bytes of a recipe at most. The shipped ones have 2 to 5 KB."""
MAX_VALUES = 10_000
"""Values of a recipe at most, counting again what an alias repeats: nested aliases grow exponentially."""
MAX_DEPTH = 32
"""Levels of nesting at most. A recipe has 5; the parser recurses, so unbounded depth would exhaust its stack."""

KeyPath = tuple[str | int, ...]
"""Where a value lies: keys and 0-based list positions, from the top."""

_STR = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its name for messages, its value, and the 1-based line of each value by path."""

    file: str
    value: Any
    lines: dict[KeyPath, int]

    def place(self, path: KeyPath) -> str:
        """`file:line` of the value at `path`, or of the nearest value around it; `file` if there is none."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return f"{self.file}:{line}"
        return self.file


def dotted(path: KeyPath) -> str:
    """`("sources", 0, "uri")` as `sources.0.uri`."""
    return ".".join(str(part) for part in path)


def parse(text: str, *, file: str) -> Document:
    """Parse one YAML document.

    Raises `BadInputError` naming `file` and the line for a syntax error, a repeated key, a key that is not text, a tag
    beyond plain data, and for more than `MAX_BYTES`, `MAX_VALUES` or `MAX_DEPTH`.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise BadInputError(f"{file}: larger than {MAX_BYTES} bytes: this is not a recipe")
    try:
        loader = _BoundedLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(file, None, {})
        if _expanded_size(node, {}, set()) > MAX_VALUES:
            raise BadInputError(f"{file}: more than {MAX_VALUES} values once aliases are expanded")
        problems = [f"{file}:{line}: {problem}" for line, problem in _key_problems(node, ())]
        if problems:
            raise BadInputError("\n".join(problems))
        lines = dict(_lines(node, ()))
        return Document(file, loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        raise BadInputError(f"{place}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError: an impossible date, or an integer of more digits than Python converts.
        raise BadInputError(f"{file}: not valid YAML: {' '.join(str(error).split())[:200]}") from error


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader that refuses nesting deeper than `MAX_DEPTH`."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels deep", problem_mark=self.get_mark())
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _expanded_size(node: yaml.Node, known: dict[int, int], open_nodes: set[int]) -> int:
    """Values below `node` as a tree. Each node is visited once, so a bomb costs no more than its file's size."""
    identity = id(node)
    if identity in open_nodes:
        raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
    if identity not in known:
        open_nodes.add(identity)
        known[identity] = 1 + sum(_expanded_size(child, known, open_nodes) for child in _children(node))
        open_nodes.discard(identity)
    return known[identity]


def _key_problems(node: yaml.Node, path: KeyPath) -> Iterator[tuple[int, str]]:
    """(line, problem) of each repeated key and each key that is not text."""
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            yield from _key_problems(child, (*path, position))
    if not isinstance(node, yaml.MappingNode):
        return
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (_STR, _MERGE):
            yield line, f"{dotted(path) or 'top level'}: keys must be text; put quotes around this one"
            continue
        inner = (*path, key.value)
        if key.value in first_lines:
            yield line, f"{dotted(inner)}: given twice, first on line {first_lines[key.value]}; keep one"
        first_lines.setdefault(key.value, line)
        yield from _key_problems(value, inner)


def _lines(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            inner: KeyPath = (*path, position)
            yield inner, child.start_mark.line + 1
            yield from _lines(child, inner)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
