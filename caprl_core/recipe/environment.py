"""Environment variables in a recipe: only where something lies may come from the machine, never what it is."""

import re
from collections.abc import Mapping
from typing import Any

from caprl_core.recipe.strict_yaml import KeyPath

_REWARDS: tuple[tuple[str, ...], ...] = (("reward",), ("evaluation", "second_reader"))
"""Where a training recipe holds the recipes of rewards."""
_TRAINING: tuple[tuple[str, ...], ...] = (
    *((*reward, "execution", "engine", "model_path") for reward in _REWARDS),
    *((*reward, "execution", "storage", "endpoint") for reward in _REWARDS),
    ("questions", "held_out"),
    ("execution", "work"),
    ("execution", "model_path"),
    ("execution", "accelerate_config"),
    ("execution", "rollouts", "server_url"),
)

ENGINES = ("engine", "writer", "answerer", "captioner", "judge")
"""Names of engines below `execution`, over all kinds of recipe."""

LOCATIONS: tuple[tuple[str, ...], ...] = (
    ("sources", "*", "uri"),
    ("sources", "*", "roots", "*"),
    ("benchmarks", "*", "uri"),
    ("benchmarks", "*", "images", "*"),
    ("captions", "uri"),
    ("work",),
    ("publish", "output"),
    ("publish", "baseline"),
    ("storage", "endpoint"),
    ("execution", "output"),
    *(("execution", engine, "urls", "*") for engine in ENGINES),
    *(("execution", engine, "model_path") for engine in ENGINES),
    ("filter", "decontaminate"),
    ("execution", "runner", "spool_dir"),
    ("execution", "storage", "endpoint"),
    ("questions", "train"),
    *((*reward, "execution", "engine", "urls", "*") for reward in _REWARDS),
    *_TRAINING,
)
"""Fields in which `${NAME}` and `${NAME:-default}` are replaced; `*` is any list position or key. All are execution."""

OPTIONAL: tuple[tuple[str, ...], ...] = (
    ("publish", "baseline"),
    ("storage", "endpoint"),
    *(("execution", engine, "model_path") for engine in ENGINES),
    ("filter", "decontaminate"),
    ("execution", "runner", "spool_dir"),
    ("execution", "storage", "endpoint"),
    *_TRAINING,
)
"""Those of `LOCATIONS` that may be left out: expanded to nothing they are None, as if they were not there."""

_REFERENCE = re.compile(r"(?P<escape>\$\$\{)|\$\{(?P<inside>[^{}]*)(?P<end>\}?)")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)

Problem = tuple[KeyPath, str]


def expand(value: Any, environment: Mapping[str, str]) -> tuple[Any, list[Problem]]:
    """Replace variables in the `LOCATIONS` of a parsed recipe.

    Returns the recipe and the problems found, by path: an unset variable without a default, a malformed reference, or
    a reference in any other field but the prompt's texts (there it is text like any other). As in a shell, `:-` also
    covers a variable that is set but empty. `$${` stands for a literal `${`. What was put in is not expanded again.
    """
    problems: list[Problem] = []
    return _expand(value, (), environment, problems), problems


def _expand(value: Any, path: KeyPath, environment: Mapping[str, str], problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, (*path, key), environment, problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, (*path, index), environment, problems) for index, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    if any(_matches(path, pattern) for pattern in LOCATIONS):
        expanded = _expand_text(value, path, environment, problems)
        return None if not expanded and path in OPTIONAL else expanded
    if "prompt" not in path:
        message = "environment variables are only read in locations (uri, roots, output, urls, …); write the value here"
        problems.append((path, message))
    return value


def _matches(path: KeyPath, pattern: tuple[str, ...]) -> bool:
    return len(path) == len(pattern) and all(want in ("*", have) for have, want in zip(path, pattern, strict=True))


def _expand_text(text: str, path: KeyPath, environment: Mapping[str, str], problems: list[Problem]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match["escape"]:
            return "${"
        reference = _NAME.fullmatch(match["inside"])
        if reference is None or not match["end"]:
            problems.append(
                (path, f"{match[0]!r} is not `${{NAME}}` or `${{NAME:-default}}`; `$${{` is a literal `${{`")
            )
            return match[0]
        name, default = reference["name"], reference["default"]
        found = environment.get(name)
        if default is not None:
            return found or default
        if found is None:
            problems.append((path, f"environment variable {name} is not set; set it, or write `${{{name}:-default}}`"))
            return match[0]
        return found

    return _REFERENCE.sub(replace, text)
