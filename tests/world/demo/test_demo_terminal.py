"""The demo's terminal: lines that scripts and people can read, progress only where it can be drawn over."""

import pytest

from support.demo_parts import ReadTerminal


def test_a_chapter_has_its_number_its_title_and_what_it_is_about() -> None:
    terminal = ReadTerminal()
    terminal.chapter(2, "Questions", "Written, answered and filtered.")
    terminal.ended(12.4)
    lines = terminal.text.splitlines()
    assert lines[1].startswith("2. Questions ")
    assert lines[2:] == ["Written, answered and filtered.", "  12 s"]


def test_text_of_others_is_shown_as_it_is() -> None:
    terminal = ReadTerminal()
    terminal.say("[red]not markup[/red] :smile:\nsecond line")
    terminal.command("caprl status '[bold]'")
    with terminal.busy("[blue]busy") as busy:
        busy.tell("[green]still[/green]", 1, 2)
    assert terminal.text.splitlines() == ["  [red]not markup[/red] :smile:", "  second line", "$ caprl status '[bold]'"]


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = ReadTerminal()
    now = [0.0]
    monkeypatch.setattr("caprl_core.world.demo.terminal.time.monotonic", lambda: now[0])
    with terminal.busy("starting") as busy:
        for now[0] in (1.0, 4.9, 5.0, 6.0, 9.9, 10.1):
            busy.tell(f"at {now[0]}", now[0], 10)
        for now[0] in (16.0, 22.0):
            busy.tell("at 10.1", now[0], 10)
    assert terminal.text.splitlines() == ["  … at 5.0", "  … at 10.1"]


def test_progress_on_a_terminal_is_drawn_over_and_leaves_no_line() -> None:
    terminal = ReadTerminal(live=True)
    with terminal.busy("starting") as busy:
        busy.tell("half way", 1, 2)
    assert "half way" in terminal.text
    erased = "\x1b[2K"
    assert erased in terminal.text[terminal.text.rindex("half way") :]


def test_a_table_has_its_title_headings_and_figures() -> None:
    terminal = ReadTerminal()
    terminal.table("Before and after", ("", "before", "after"), [("answered", "0.100", "0.900"), ("[b]", "1", "2")])
    lines = [line.split() for line in terminal.text.splitlines() if line.strip()]
    assert lines[0] == ["Before", "and", "after"]
    assert lines[1] == ["before", "after"]
    assert ["answered", "0.100", "0.900"] in lines
    assert ["[b]", "1", "2"] in lines
