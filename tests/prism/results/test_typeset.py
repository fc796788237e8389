"""Tables as text, Markdown and LaTeX: aligned, complete, and harmless whatever the names in them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caprl_core.prism.results.typeset import TextTable, as_latex, as_markdown, as_text

HOSTILE = "a|b & c_d $e$ 50% #1 {x} \\input{/etc/passwd} ~ ^ `rm` <b>* [l](u)\n\u202e\x1b[31m"
TABLE = TextTable("Scores", ["name", "mean"], [["charts", "48.3"], ["日本", "9.1"], ["all", "28.7"]], summary=1)


def test_text_is_aligned_also_beside_wide_letters() -> None:
    assert as_text(TABLE) == (
        "Scores\nname    mean\n------------\ncharts  48.3\n日本     9.1\n------------\nall     28.7\n"
    )


def test_markdown_is_a_pipe_table_with_its_summary_in_bold() -> None:
    assert as_markdown(TABLE) == (
        "**Scores**\n\n| name | mean |\n|:--|--:|\n| charts | 48.3 |\n| 日本 | 9.1 |\n| **all** | **28.7** |\n"
    )


def test_latex_is_a_booktabs_table() -> None:
    lines = as_latex(TABLE).splitlines()
    assert lines[0] == r"% needs \usepackage{booktabs}"
    assert lines[4:9] == [r"\begin{tabular}{lr}", r"\toprule", r"name & mean \\", r"\midrule", r"charts & 48.3 \\"]
    assert lines[-5:] == [r"\midrule", r"all & 28.7 \\", r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    assert lines.count(r"\midrule") == 2


def test_a_table_without_rows_or_summary_is_one_too() -> None:
    empty = TextTable("Nothing", ["name", "mean"], [])
    assert as_text(empty).splitlines()[1] == "name  mean"
    assert as_markdown(empty).endswith("|:--|--:|\n")
    assert as_latex(empty).count(r"\midrule") == 1


def latex_cells(table: str) -> list[list[str]]:
    """Cells of the rows, split where LaTeX would; fails on what it would not typeset as text."""
    body = table.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line and line != r"\midrule"]
    for row in rows:
        assert row.endswith(r" \\")
        bare = re.sub(r"\\(?:text[a-z]+\{\}|[{}$&#%_])|\$-\$", "", row[:-3])
        # The last four are other characters in LaTeX's usual fonts.
        assert not re.search(r"[\\{}$#%_~^<>|\"]", bare), row
    return [re.split(r"(?<!\\)&", row[:-3]) for row in rows]


def markdown_cells(table: str) -> list[list[str]]:
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]


@given(st.text(max_size=40))
@pytest.mark.parametrize("name", [HOSTILE])
def test_no_name_breaks_out_of_its_cell(name: str, drawn: str) -> None:
    for text in (name, drawn):
        table = TextTable(text, ["name", text], [[text, "1"], ["all", text]], summary=1)
        assert [len(cells) for cells in latex_cells(as_latex(table))] == [2, 2, 2]
        assert [len(cells) for cells in markdown_cells(as_markdown(table))] == [2, 2, 2, 2]
        shown = as_text(table)
        assert len(shown.split("\n")) == 7
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)


def test_markdown_shows_markup_as_text() -> None:
    shown = as_markdown(TextTable("x", ["name", "n"], [[HOSTILE, "1"]]))
    assert r"\<b\>" in shown and r"\[l\]" in shown and r"a\|b" in shown and r"\`rm\`" in shown
