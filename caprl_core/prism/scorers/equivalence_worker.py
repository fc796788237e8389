"""The process that compares mathematics: reads questions as JSON lines, answers each with one line.

Started by `equivalence` as a script of its own. It exists because of three things that math-verify 0.9.0 does, read in
its source:

- Its time limits are alarms: off the main thread `parse` and `verify` raise ValueError, without them they run for ever
  (its issue 65: `5^{5^{5^{5^5}}}` hangs in spite of them, as no signal interrupts one multiplication of two integers).
  Here each question has a limit of processor time that the kernel enforces, and the address space is limited too.
- It evaluates text: every number that it finds goes through `sympy.Number(text)`, which is `sympify`, which is `eval`.
  Only what its grammar takes for a number comes that far, but that is no reason to keep an interpreter of model output.
  Here that evaluator is replaced by one that reads numbers and nothing else.
- What it depends on is large. So once everything is imported, no code can be made from text, no process started, no
  file written and no connection opened: an audit hook, which cannot be taken away again, refuses it.
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import re
import resource
import signal
import sys
import typing
from collections import Counter
from types import FrameType
from typing import Any

CPU_SECONDS = 3.0
"""Processor time for one question; processor time, so that a busy machine changes no score. math-verify's own limit is
5 s of wall time for each of parsing and comparing. Usual answers take 1 to 20 ms, words most."""

GRACE_SECONDS = 2
"""After so much more the kernel kills the process: one operation on huge integers cannot be interrupted otherwise."""

MEMORY_BYTES = 2 << 30
"""Address space; with everything imported the process has about 0.1 GiB."""

_NUMBER = re.compile(r"\s*[+-]?(?:\d{1,2000}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,3})?\s*", re.ASCII)

_HARMLESS = frozenset({"os.listdir", "os.scandir"})
"""What looking for a module on disk does."""

_REFUSED = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "pty.",
    "mmap.",
    "tempfile.",
    "urllib.",
    "code.__new__",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class OutOfTimeError(BaseException):
    """The question has had its processor time. No `Exception`: sympy and math-verify catch those."""


def seal() -> None:
    """From here on this process makes no code from text, starts nothing, writes no file and opens no connection.

    Importing modules stays possible (sympy does so late), and so do the few makers of code that never see an answer:
    dataclasses, named tuples, annotations, and sympy's functions on the exponents of polynomials.
    """
    from sympy.polys import monomials  # noqa: PLC0415 - heavy

    sys.dont_write_bytecode = True
    makers = {str(module.__file__) for module in (collections, dataclasses, typing, monomials)}
    makers |= {"<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("compile", "exec"):
            refused = sys._getframe(1).f_code.co_filename not in makers
        elif event == "open":
            _, mode, flags = arguments
            refused = bool((flags or 0) & _WRITES) or any(letter in (mode or "r") for letter in "wax+")
        else:
            refused = event.startswith(_REFUSED) and event not in _HARMLESS
        if refused:
            raise PermissionError(f"{event}: not in the process that compares answers")

    sys.addaudithook(refuse)


def only_a_number(text: str, *_: object, **__: object) -> Any:
    """What stands in for `sympy.parsing.sympy_parser.parse_expr`. Raises SyntaxError for all but decimal numbers."""
    import sympy  # noqa: PLC0415 - heavy

    if _NUMBER.fullmatch(text) is None:
        raise SyntaxError("not a number")
    number = text.strip()
    return sympy.Integer(int(number)) if number.lstrip("+-").isdigit() else sympy.Float(number)


def different_products(one: Any, other: Any) -> bool:
    """True for two products of whole numbers, symbols and e with other factors: as polynomials they are not the same.

    math-verify reads words so, and takes 50 ms to simplify the difference of two of them; this takes 0.05 ms.
    """
    factors = _factors(one)
    return factors is not None and (others := _factors(other)) is not None and factors != others


def _factors(expression: Any) -> Counter[Any] | None:
    """How often each symbol and e is a factor, and the whole number; None for what is no such product."""
    import sympy  # noqa: PLC0415 - heavy

    if not isinstance(expression, sympy.Mul):
        return None
    found: Counter[Any] = Counter()
    number = 1
    pending = list(expression.args)
    while pending:
        factor = pending.pop()
        if isinstance(factor, sympy.Mul):
            pending.extend(factor.args)
        elif isinstance(factor, sympy.Integer):
            number *= int(factor)
        elif isinstance(factor, sympy.Symbol) or factor is sympy.E:
            found[factor] += 1
        else:
            return None
    found[None] = number
    return found if number else None


class Mathematics:
    """math-verify, with sympy's evaluator of text replaced."""

    def __init__(self) -> None:
        import math_verify  # noqa: PLC0415 - takes a second or two
        import math_verify.parser  # noqa: PLC0415
        import sympy.physics.units  # noqa: F401, PLC0415 - sympy would import it late, and it reads its own texts then
        from latex2sympy2_extended import latex2sympy2  # noqa: PLC0415
        from sympy.parsing import sympy_parser  # noqa: PLC0415

        for module in (sympy_parser, latex2sympy2, math_verify.parser):
            module.parse_expr = only_a_number
        logging.disable(logging.CRITICAL)  # it warns of every limit, and we set our own
        self._parse, self._verify = math_verify.parse, math_verify.verify
        # The one setting of the released script: LaTeX in dollar signs, first match (fact sheet 4).
        self._extraction = [math_verify.LatexExtractionConfig()]

    def answer(self, question: dict[str, str]) -> dict[str, Any]:
        """The answer to one question, see `equivalence`."""
        match question["ask"]:
            case "reads":
                return {"reads": bool(self._read(question["gold"]))}
            case "same":
                gold, answer = self._read(question["gold"]), self._read(question["answer"])
                return {"same": bool(gold and answer) and self._same(gold, answer)}
            case _:
                return self._released(question["gold"], question["answer"])

    def _released(self, gold: str, answer: str) -> dict[str, Any]:
        """As the released `verify_math`, which hands gold and answer over the wrong way round."""
        parsed = self._read(gold, texts=True)
        found = self._read(answer, texts=True)
        last = found[-1] if found else ""
        if not isinstance(last, str):
            last = ""
        return {
            "reads": bool(parsed),
            "same": bool(parsed) and (self._same(answer, parsed) or self._same(found, parsed)),
            "last": last,
        }

    def _read(self, text: str, *, texts: bool = False) -> list[Any]:
        """Expressions in a text; `texts`: where there are any, the text itself too, to be compared as text."""
        return list(
            self._parse(
                f"${text}$",
                extraction_mode="first_match",
                extraction_config=self._extraction,
                fallback_mode="first_match" if texts else "no_fallback",
                parsing_timeout=None,
            )
        )

    def _same(self, gold: Any, answer: Any) -> bool:
        """True when one of the readings of one is the same as one of the other."""
        return any(
            not different_products(one, other) and self._verify(one, other, timeout_seconds=None)
            for one, other in itertools.product(*(it if isinstance(it, list) else [it] for it in (gold, answer)))
        )


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError


def _limited(mathematics: Mathematics, question: dict[str, str]) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    last = int(used.ru_utime + used.ru_stime + CPU_SECONDS) + 1 + GRACE_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (last, most))
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            return mathematics.answer(question)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except OutOfTimeError:
        return {"failed": "time"}
    except Exception as error:  # whatever it is: the answer is not one that can be compared
        return {"failed": type(error).__name__}


def main() -> None:
    """Answer questions until there are no more."""
    signal.signal(signal.SIGPROF, _out_of_time)
    mathematics = Mathematics()
    mathematics.answer({"ask": "same", "gold": "\\frac{1}{2}", "answer": "x^2"})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # not every system lets itself be limited
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    seal()
    _say({"ready": True})
    for line in sys.stdin.buffer:
        _say(_limited(mathematics, json.loads(line)))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
