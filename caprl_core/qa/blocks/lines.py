"""What one line of a block is: a number, an option, an answer, a rule or plain text. Total, with bounded patterns."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re
from dataclasses import dataclass
from enum import StrEnum

from caprl_core.qa.blocks.labels import CIRCLED, LABEL
from caprl_core.qa.blocks.wording import stripped

ANSWER_WORDS = (
    r"(?:(?:final|correct|right|true)\s{1,2})?answers?(?:\s{1,2}key)?|ans\.?|(?:correct|right)\s(?:option|choice|letter)"
    "|(?:正确|正確|参考|標準|标准|最终)?(?:答案|解答)|正解|答え?|正答|정답|답변?"
    "|(?:правильный|верный)?\\s?ответ|(?:правильна\\s)?відповідь"
    "|respuesta(?:\\scorrecta)?|(?:bonne\\s)?réponse(?:\\scorrecte)?|(?:richtige\\s|korrekte\\s)?antwort|lösung"
    "|risposta(?:\\s(?:corretta|esatta))?|resposta(?:\\scorreta)?|(?:(?:prawidłowa|poprawna)\\s)?odpowiedź"
    "|(?:juiste?\\s)?antwoord|(?:(?:rätt|riktig|rigtigt)\\s)?svar|(?:doğru\\s)?(?:cevap|yanıt)|đáp\\sán(?:\\sđúng)?"
    "|jawaban(?:\\s(?:yang\\s)?benar)?|(?:सही\\s)?(?:उत्तर|जवाब)|(?:الإجابة|الجواب)(?:\\sالصحيحة?)?"
    "|(?:ה)?תשובה(?:\\sהנכונה)?|απάντηση|คำตอบ|vastaus|válasz|odpověď|răspuns(?:\\scorect)?"
)
"""What stands before an answer, in the languages of the usual vision-language models."""

_QUESTION_WORDS = (
    "question|quiz|mcq|q|вопрос|питання|frage|pregunta|domanda|pergunta|vraag|pytanie|soru|câu\\shỏi|câu|pertanyaan|soal"
    "|ερώτηση|السؤال|سؤال|प्रश्न|คำถาม|שאלה|问题|問題|题目|題目|质问|質問|질문|문제|문항|第|问|問|题|題"
)
_CHINESE = "[一二三四五六七八九十]{1,3}"
_BULLETS = "-+•·▪◦‣●○–—"
_OPTION_WORDS = "option|choice|选项|選項|вариант|opción|opcja|seçenek"
_CLOSE = r")\]）］】〕"

_QUOTE = re.compile(r"(?:>\s{0,3}){1,4}")
_FENCE = re.compile(r"(?:```|~~~)[\w+-]{0,20}$")
_RULE = re.compile(r"(?:[-–—=*_~]\s?){3,}$")
_NUMBER = re.compile(
    rf"(?P<head>\#{{1,6}}\s{{0,4}})?(?P<em>\*{{1,3}}|_{{1,3}})?\s?"
    rf"(?P<word>(?i:{_QUESTION_WORDS})\.?\s{{0,3}}(?:[\#№]|(?i:no\.?))?\s{{0,2}})?"
    rf"[(\[（]?(?P<n>[0-9０-９]{{1,3}}|{_CHINESE})\s?[题題问問번]?(?(em)[*_]{{0,3}})\s{{0,2}}"
    rf"(?P<delim>[.:、．：,]|[{_CLOSE}][.:：]?|\s?[-–—](?=\s))?(?(em)[*_]{{0,3}})"
)
_UNNUMBERED = re.compile(
    rf"(?:\#{{1,6}}\s{{0,4}})?(?P<em>\*{{1,3}}|_{{1,3}})?[\[【]?(?i:{_QUESTION_WORDS})[\]】]?(?(em)[*_]{{0,3}})"
    r"\s{0,2}[:：](?(em)[*_]{0,3})"
)
_HEADING = re.compile(r"#{1,6}(?=\s|\*|$)\s{0,8}")
_OPTION = re.compile(
    rf"(?P<bullet>[{_BULLETS}]\s{{0,8}}|\*\s{{1,8}})?(?P<box>\[[ xX✓✔]?\]\s{{1,4}})?(?P<em>\*{{1,3}}|_{{1,3}}|`)?"
    rf"(?P<word>(?i:{_OPTION_WORDS})\s{{0,3}})?"
    rf"(?:(?P<circled>[{CIRCLED}])|(?P<open>[(\[（［【〔])?\s{{0,2}}(?P<label>{LABEL})\s{{0,2}}(?(em)[*_`]{{0,3}})"
    rf"(?P<delim>(?(open)[{_CLOSE}][.:：．]?|(?:[{_CLOSE}、]|[.:．：](?=[\s*_`]|$|[^\x00-\x7f])|\s[-–—](?=\s)))))"
    r"(?(em)[*_`]{0,3})"
)
_BULLET = re.compile(rf"(?:[{_BULLETS}]|\*)\s{{1,8}}(?P<box>\[[ xX✓✔]?\]\s{{1,4}})?(?=\S)")
_ANSWER = re.compile(
    rf"(?:[{_BULLETS}]\s{{0,4}}|\*\s{{1,4}}|\#{{1,6}}\s{{0,4}}|[✅✓✔👉]\s?)?(?P<dress>[*_`(\[【（「<]{{0,4}})\s?(?i:the\s)?"
    rf"(?P<word>(?i:{ANSWER_WORDS}))(?P<undress>[*_`)\]】）」>]{{0,4}})\s{{0,3}}"
    r"(?P<sep>[:：=]|[-–—](?=\s)|(?i:is\b|ist\b|est\b|es\b)|是|为|為|は)?[:：]?"
)
_BARE_ANSWER = re.compile(rf"[\s*_]{{0,4}}[(\[（]?{LABEL}[)\]）]?[\s.*_]{{0,4}}$")
_OPTIONS_WORD = re.compile(
    r"[*_#\s]{0,8}(?i:(?:answer\s)?(?:options|choices)|选项|選項|варианты(?:\sответов?)?|opciones|antworten|보기|選択肢)"
    r"[*_]{0,3}\s?(?:[:：][*_]{0,3}|$)"
)
_REMARK = re.compile(
    r"[*_#(\s>-]{0,8}(?i:explanation|rationale|reason(?:ing)?|justification|note|hint|why|evidence|difficulty|category|type"
    r"|解析|解释|解釋|解説|说明|理由|해설|설명|пояснение|объяснение|explicación|explication|erklärung|begründung|spiegazione)"
    r"[*_]{0,3}\s?[:：)]"
)


class Kind(StrEnum):
    """What a line is by itself; what it means depends on the lines before."""

    BLANK = "blank"
    RULE = "rule"
    NUMBER = "number"
    HEADING = "heading"
    OPTION = "option"
    BULLET = "bullet"
    ANSWER = "answer"
    OPTIONS_WORD = "options_word"
    REMARK = "remark"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Line:
    """A line and what was found at its beginning.

    text:   what follows the marker; for plain text the line itself.
    raw:    the line without white space at its ends.
    label:  an option's label, or a number's digits; empty for a question word without one.
    strong: the marker can hardly be anything else: a heading or question word before a number, a bullet or bracket
            beside an option's label.
    ticked: the option's box is ticked.
    """

    kind: Kind
    text: str
    raw: str
    label: str = ""
    strong: bool = False
    ticked: bool = False

    @property
    def number(self) -> int | None:
        """The number in figures of a numbered line."""
        return int(self.label) if self.label.isdecimal() else None


def classified(line: str) -> Line:
    """Tell what a line is."""
    raw = stripped(line)
    if quote := _QUOTE.match(raw):
        raw = stripped(raw[quote.end() :])
    if not raw or _FENCE.match(raw):
        return Line(Kind.BLANK, "", raw)
    if _RULE.match(raw):
        return Line(Kind.RULE, "", raw)
    number = _number(raw)
    found = _answer(raw) or _word(raw)
    if found is None:
        found = number if number is not None and number.strong else _option(raw) or number
    if found is not None:
        return found
    if (match := _HEADING.match(raw)) is not None:
        return Line(Kind.HEADING, raw[match.end() :], raw)
    if (match := _BULLET.match(raw)) is not None:
        return Line(Kind.BULLET, raw[match.end() :].strip(), raw, ticked=_ticked(match))
    return Line(Kind.TEXT, raw, raw)


def _answer(raw: str) -> Line | None:
    match = _ANSWER.match(raw)
    if match is None:
        return None
    rest = raw[match.end() :].strip()
    rest = rest if rest.strip("*_` ") else ""
    bracketed = any(bracket in match["dress"] for bracket in "[【「<")
    bare = match["sep"] is None and (not rest or bracketed or _BARE_ANSWER.match(rest))
    # "Answering…", "Answer the following" are sentences.
    if match["sep"] is None and not bare:
        return None
    plural = "answers" in match["word"].lower() or "key" in match["word"].lower()
    return Line(Kind.ANSWER, rest, raw, strong=plural)


def _word(raw: str) -> Line | None:
    for pattern, kind in ((_OPTIONS_WORD, Kind.OPTIONS_WORD), (_REMARK, Kind.REMARK)):
        if (match := pattern.match(raw)) is not None:
            return Line(kind, raw[match.end() :].strip(), raw)
    if (match := _UNNUMBERED.match(raw)) is not None:
        return Line(Kind.NUMBER, raw[match.end() :].strip(), raw, strong=True)
    return None


def _number(raw: str) -> Line | None:
    match = _NUMBER.match(raw)
    if match is None:
        return None
    rest = raw[match.end() :]
    chinese = not match["n"].isdecimal()
    strong = bool(match["head"] or match["word"]) or chinese
    if match["delim"] is None:
        # "3 cats" is text, "### 3 cats" and "Q3 What …" are numbered; so is a word and number alone on the line.
        alone = not rest or (match["em"] is not None and match["word"] is not None)
        if chinese and not match["word"]:
            return None
        if not (alone or rest[:1].isspace() or match["head"]) or not strong:
            return None
    elif (rest[:1].isdigit() and match["delim"] in ".:,：") or (match["delim"] == "," and not strong):
        return None
    return Line(Kind.NUMBER, rest.strip(), raw, label=match["n"], strong=strong)


def _option(raw: str) -> Line | None:
    match = _OPTION.match(raw)
    if match is None:
        return None
    label = match["circled"] or match["label"]
    sure = bool(match["bullet"] or match["circled"] or match["word"] or match["delim"][:1] in ")]）］】〕")
    if label.isdecimal() and not (match["bullet"] or match["circled"] or match["word"]):
        return None  # a number: whether of a question or of an option, the lines around it tell
    rest = raw[match.end() :].strip()
    return Line(Kind.OPTION, rest, raw, label=label, strong=sure, ticked=_ticked(match))


def _ticked(match: re.Match[str]) -> bool:
    return match["box"] is not None and any(mark in match["box"] for mark in "xX✓✔")
