"""The process that compares mathematics: hostile text runs no code, nothing hangs, threads share it."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caprl_core.prism.scorers import equivalence, equivalence_worker
from caprl_core.prism.scorers.equivalence import equivalent, reads, released_equivalence

WORKER = Path(equivalence_worker.__file__)


def in_a_fresh_interpreter(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the worker's module as `worker`."""
    load = (
        "import importlib.util as u\n"
        f"s = u.spec_from_file_location('worker', {str(WORKER)!r}); worker = u.module_from_spec(s)\n"
        "s.loader.exec_module(worker)\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", load + program], capture_output=True, text=True, timeout=120, check=False
    )


HANGS = [
    "9^9^9^9",
    "9^{9^{9^{9}}}",
    "5^{5^{5^{5^5}}}",
    r"\dfrac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}",  # issue 65 of math-verify
    "100000000!",
    "(10^9)!",
    "((10^6)!)!",
    r"\binom{10^9}{5\cdot 10^8}",
    r"\sum_{i=1}^{10^{12}} i^i",
    r"\int_0^\infty e^{-x^2}\sin(x^{99})\cos(x)^{50} dx",
    "(x+y+z+w)^{400}",
    r"\gcd(10^{100000}, 3)",
    "{" * 900,
    "(" * 900 + "1" + ")" * 900,
    r"\frac{" * 250 + "1" + "}{2}" * 250,
    r"\sqrt{" * 300 + "2" + "}" * 300,
    "1+" * 900 + "1",
    "x" * 1900,
    "9" * 1900,
    "\\" * 1500,
    "$" * 1500,
    r"\operatorname{zeros}(1000000, 1000000)",
]


@pytest.mark.long
@pytest.mark.parametrize("text", HANGS)
def test_nothing_hangs(text: str) -> None:
    assert not equivalent("7", text)
    assert not equivalent(text, "7")
    assert equivalent("7", "x = 7")  # and the next question is answered


def test_what_takes_too_long_is_not_the_same_and_the_next_question_is_answered() -> None:
    assert not equivalent("7", HANGS[1])
    assert equivalent("7", "x = 7")


CODE = [
    "__import__('os').system('touch {mark}')",
    "__import__('pathlib').Path('{mark}').touch()",
    r"\text{{__import__('os').system('touch {mark}')}}",
    r"\operatorname{{open}}('{mark}','w')",
    "x_{{__import__('os').system('touch {mark}')}}",
    "open('{mark}','w')",
    "exec(\"open('{mark}','w')\")",
    "[c for c in ().__class__.__base__.__subclasses__()][0]",
    "lambda: open('{mark}','w')",
    "1 if open('{mark}','w') else 0",
    "5 = __import__('os').system('touch {mark}')",
    r"\sum_{{n=1}}^{{\infty}} \operatorname{{exit}}(n)",
    "0.5__import__('os').system('touch {mark}')",
    "1e5.__class__",
]


@pytest.mark.parametrize("text", CODE)
def test_hostile_text_runs_no_code(text: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    hostile = text.format(mark=mark)
    for gold, answer in (("7", hostile), (hostile, "7"), (hostile, hostile + " ")):
        equivalent(gold, answer)
        reads(gold)
        released_equivalence(gold, answer)
    assert not mark.exists()
    assert equivalent("7", "x = 7")


def test_sympys_own_reader_would_have_run_it(tmp_path: Path) -> None:
    # Without this the test above could pass for another reason.
    done = in_a_fresh_interpreter(f"import sympy; sympy.sympify(\"open('{tmp_path}/ran','w')\")")
    assert (tmp_path / "ran").exists(), done.stderr


def test_in_the_worker_sympys_reader_takes_numbers_only(tmp_path: Path) -> None:
    done = in_a_fresh_interpreter(
        "import json, sympy\n"
        "worker.Mathematics()\n"
        "said = []\n"
        f"for text in ['12', '-1.5', '.5', '1e3', '1.5e3', 'x', '1+1', '', '.', \"open('{tmp_path}/ran','w')\"]:\n"
        "    try: said.append(str(sympy.sympify(text)))\n"
        "    except sympy.SympifyError: said.append('refused')\n"
        "print(json.dumps(said))\n"
    )
    numbers = [12, -1.5, 0.5, 1000, 1500]
    said = json.loads(done.stdout)
    assert [float(number) for number in said[:5]] == numbers
    assert said[5:] == ["refused"] * 5
    assert not (tmp_path / "ran").exists()


REFUSED = [
    "eval('1+1')",
    "exec('x = 1')",
    "compile('1', 'a', 'eval')",
    "sympy.lambdify(x, x + 1)",
    "original('x+1')",  # sympy's own reader
    "os.system('true')",
    "os.posix_spawn('/bin/true', ['true'], {})",
    "os.fork()",
    "subprocess.run(['true'])",
    "open('{mark}', 'w')",
    "open('{mark}', 'a')",
    "os.open('{mark}', os.O_CREAT)",
    "os.mkdir('{mark}')",
    "os.remove('{mark}')",
    "os.rename('{mark}', '{mark}2')",
    "socket.create_connection(('127.0.0.1', 9))",
    "ctypes.CDLL(None)",
]


def test_a_sealed_process_makes_no_code_and_touches_nothing(tmp_path: Path) -> None:
    attempts = [attempt.replace("{mark}", str(tmp_path / "ran")) for attempt in REFUSED]
    bodies = "\n".join(f"def attempt{number}(): {attempt}" for number, attempt in enumerate(attempts))
    done = in_a_fresh_interpreter(
        "import ctypes, json, os, socket, subprocess, sympy\n"
        "from sympy.parsing.sympy_parser import parse_expr as original\n"
        "x = sympy.Symbol('x')\n"
        f"{bodies}\n"
        "worker.Mathematics(); worker.seal()\n"
        "said = []\n"
        f"for attempt in ({', '.join(f'attempt{number}' for number in range(len(attempts)))}):\n"
        "    try: attempt(); said.append('done')\n"
        "    except BaseException as error: said.append(type(error).__name__)\n"
        "print(json.dumps(said))\n"
    )
    assert dict(zip(REFUSED, json.loads(done.stdout), strict=True)) == dict.fromkeys(REFUSED, "PermissionError")
    assert list(tmp_path.iterdir()) == []


PAIRS = [
    (r"\frac{1}{2}", "0.5"),
    ("50%", "0.5"),
    (r"50\%", "50"),
    ("1,234.5", "1234.5"),
    ("x=3", "3"),
    ("5 cm", "5"),
    (r"\sqrt{2}", "2^{1/2}"),
    ("(1,2)", "1,2"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\sin^2 x+\cos^2 x", "1"),
    ("A", "B"),
    ("E", "e"),
    (r"\pi", "3.141592653589793"),
    ("2,3", "3,2"),
    ("x<3", "3>x"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    ("0.333333", "1/3"),
    ("2\\frac{1}{2}", "2.5"),
    (r"\int_0^1 x dx", "1/2"),
    (r"\sum_{i=1}^{3} i", "6"),
    ("x+y=3", "y=3-x"),
    (r"\log_2 8", "3"),
    (r"\lim_{x\to 0}\frac{\sin x}{x}", "1"),
    (r"\frac{d}{dx} x^2", "2x"),
    ("x^2=4", "x=2,x=-2"),
    ("3+4i", "4i+3"),
    (r"x\in[0,1]", "[0,1]"),
    ("a^2-b^2", "(a-b)(a+b)"),
    (r"\binom{5}{2}", "10"),
    (r"\gcd(12,18)", "6"),
    (r"e^{\ln 5}", "5"),
    (r"\tan(\pi/4)", "1"),
    (r"\cos 60^\circ", "0.5"),
    ("1.5e3", "1500"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    ("y=2x+1", "2x-y+1=0"),
    ("f(x)=x^2", "x^2"),
    ("1/3", "0.33"),
    (r"\frac{a}{b}", "a/b"),
    (r"\sqrt[3]{27}", "3"),
    ("x \\ge 3", "[3,\\infty)"),
    ("1<x<2", "(1,2)"),
    (r"\$5.00", "5"),
    (r"\emptyset", r"\{\}"),
    (r"\sin(2x)", r"2\sin x\cos x"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\det\begin{pmatrix}1&2\\3&4\end{pmatrix}", "-2"),
    ("1:2", "0.5"),
    ("12:30", "12:31"),
    # words are products of letters: told apart without simplifying
    ("Yes", "No"),
    ("arm", "ram"),
    ("arm", "army"),
    ("see", "se"),
    ("the quick brown fox", "something else"),
    ("john smith 45", "john smith 4"),
    ("2ab", "ab2"),
    ("2ab", "3ab"),
    ("-ab", "ab"),
    ("-ab", "-ba"),
    ("0ab", "0cd"),
    ("abb", "ab^2"),
    ("abc", "ab"),
    ("−5", "-5"),
]


def test_sealed_math_verify_says_what_it_says_in_the_open() -> None:
    done = in_a_fresh_interpreter(
        "import json, math_verify as m\n"
        "read = lambda text: m.parse(f'${text}$', extraction_mode='first_match', fallback_mode='no_fallback',\n"
        "    extraction_config=[m.LatexExtractionConfig()])\n"
        f"print(json.dumps([m.verify(read(gold), read(answer)) for gold, answer in {PAIRS!r}]))\n"
    )
    in_the_open = json.loads(done.stdout)
    assert [equivalent(gold, answer) for gold, answer in PAIRS] == in_the_open
    assert 0.2 < sum(in_the_open) / len(PAIRS) < 1


def test_one_thing_is_lost_by_sealing() -> None:
    # sympy sums an infinite series to a number with code that it writes for the purpose.
    assert not equivalent(r"\sum_{n=1}^{\infty} \frac{1}{n^2}", r"\frac{\pi^2}{6}")


def test_threads_share_the_process() -> None:
    wrong: list[tuple[int, int]] = []

    def ask(thread: int) -> None:
        for number in range(12):
            if equivalent(f"{thread}x+{number}", f"{number}+x+{thread - 1}x") is not True or equivalent(
                f"{thread}y+{number}", f"{number + 1}+{thread}y"
            ):
                wrong.append((thread, number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def worker_pid() -> int:
    """The process that this one has started."""
    assert equivalent("2z+z", "3z")
    process = equivalence._PROCESS._process
    assert process is not None
    return process.pid


def test_the_process_has_little_memory_to_fill() -> None:
    assert resource.prlimit(worker_pid(), resource.RLIMIT_AS) == (equivalence_worker.MEMORY_BYTES,) * 2


def test_a_killed_process_is_started_again() -> None:
    before = worker_pid()
    os.kill(before, signal.SIGKILL)
    assert equivalent("4z+z", "5z")
    assert worker_pid() != before


def test_a_process_killed_in_the_middle_of_a_question_is_asked_again_elsewhere() -> None:
    before = worker_pid()
    os.kill(before, signal.SIGSTOP)
    killer = threading.Timer(0.5, os.kill, (before, signal.SIGKILL))
    killer.start()
    assert equivalent("6z+z", "7z")
    assert worker_pid() != before


def test_the_kernel_ends_what_no_signal_handler_can() -> None:
    # The alarm is taken away; the limit of processor time stays.
    done = in_a_fresh_interpreter(
        "import signal\n"
        "class Busy:\n"
        "    def answer(self, question):\n"
        "        signal.signal(signal.SIGPROF, signal.SIG_IGN)\n"
        "        while True: pass\n"
        "worker.CPU_SECONDS = 0.1; worker.GRACE_SECONDS = 0\n"
        "worker._limited(Busy(), {})\n"
    )
    assert done.returncode == -signal.SIGXCPU


def test_a_process_that_does_not_react_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = worker_pid()
    monkeypatch.setattr(equivalence, "ANSWER_SECONDS", 0.3)
    os.kill(before, signal.SIGSTOP)
    assert not equivalent("8z+z", "9z")
    monkeypatch.undo()
    equivalence._asked.cache_clear()
    assert equivalent("8z+z", "9z")


def test_after_a_fork_the_child_starts_a_process_of_its_own() -> None:
    before = worker_pid()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        right = equivalent("10z+z", "11z") and equivalence._PROCESS._process.pid != before  # type: ignore[union-attr]
        equivalence._PROCESS.close()
        os.write(write, b"1" if right else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    os.close(read)
    os.close(write)
    assert equivalent("12z+z", "13z")
    assert worker_pid() == before


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from caprl_core.prism.scorers import equivalence as e; assert e.equivalent('2x', 'x+x')\n"
            "print(e._PROCESS._process.pid, flush=True)\n"
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.05)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*"0123456789xyab+-*/^_=(){}[]|!,.<>%$ \\", "\\frac", "\\sqrt", "\\sin", "\\text", "\ud800", "½"]
        ),
        max_size=12,
    )
)
def test_any_text_gets_an_answer(parts: list[str]) -> None:
    text = "".join(parts)
    assert equivalent("7", text) in (True, False)
    assert reads(text) in (True, False)
    assert released_equivalence(text, "7").same in (True, False)
