"""Blocks as writers really write them, and what must become of each: the questions, and the reasons of the rest."""
# ruff: noqa: E501 - a table: one row a line

from dataclasses import dataclass

import pytest

from caprl_core.qa.blocks.block import parse_block
from caprl_core.qa.blocks.refusals import checked
from caprl_core.qa.question import LETTERS
from caprl_core.qa.reasons import QuestionReason as R
from caprl_core.recipe.qa import ExtractRecipe

ABCD = "   - A) red\n   - B) blue\n   - C) green\n   - D) grey\n"
CAR = f"#### 1. **What colour is the car?**\n{ABCD}\n**Answer:** D) grey\n------\n"
CAR_READ = "What colour is the car? / red / blue / green / grey -> D"
BUS = "#### 2. **Who drives the bus?**\n   - A) a man\n   - B) a woman\n\n**Answer:** B) a woman\n------\n"
BUS_READ = "Who drives the bus? / a man / a woman -> B"


@dataclass(frozen=True)
class Case:
    """A reply, the questions that are taken over (written `stem / option / … -> letter`), the reasons of the rest."""

    name: str
    text: str
    questions: tuple[str, ...] = ()
    reasons: tuple[R, ...] = ()
    cut: bool = False


def case(name: str, text: str, *expected: str | R, cut: bool = False) -> Case:
    reasons = tuple(item for item in expected if isinstance(item, R))
    return Case(name, text, tuple(item for item in expected if item not in reasons), reasons, cut)


def answered(answer: str, options: str = ABCD) -> str:
    """The car question with another answer line, other options, or both."""
    return f"#### 1. **What colour is the car?**\n{options}\n{answer}\n"


CASES = [
    # The released format and its numbering
    case("released format", CAR, CAR_READ),
    case("two questions", CAR + BUS, CAR_READ, BUS_READ),
    case("no rules between questions", (CAR + BUS).replace("------\n", ""), CAR_READ, BUS_READ),
    case("Windows line ends", (CAR + BUS).replace("\n", "\r\n"), CAR_READ, BUS_READ),
    case("line ends escaped once too often", (CAR + BUS).replace("\n", "\\n"), CAR_READ, BUS_READ),
    case("heading with the word", CAR.replace("#### 1.", "### Question 1:"), CAR_READ),
    case("bold number on a line of its own", CAR.replace("#### 1. **", "**Question 4**\n**"), CAR_READ),
    case("number in brackets", CAR.replace("#### 1. **What", "1) What").replace("?**", "?"), CAR_READ),
    case("Q and number", CAR.replace("#### 1. **What", "Q3. What").replace("?**", "?"), CAR_READ),
    case("bold around number and stem", CAR.replace("#### 1. **", "**1. "), CAR_READ),
    case("only the number bold", CAR.replace("#### 1. **What", "**1.** What").replace("?**", "?"), CAR_READ),
    case("no number", CAR.replace("#### 1. ", ""), CAR_READ),
    case("heading without a number", CAR.replace("#### 1. ", "#### "), CAR_READ),
    case("unnumbered word", CAR.replace("#### 1. **What", "Question: What").replace("?**", "?"), CAR_READ),
    case("number above, word below", CAR.replace("#### 1. **", "### 1\n**Question:** **"), CAR_READ),
    case(
        "unnumbered questions one after the other",
        "Who?\nA) me\nB) you\nAnswer: A\n\nWhere?\nA) here\nB) there\nAnswer: B",
        "Who? / me / you -> A",
        "Where? / here / there -> B",
    ),
    case("quoted", "\n".join("> " + line for line in CAR.splitlines()), CAR_READ),
    case("in a code fence", f"```markdown\n{CAR}```", CAR_READ),
    case("each question in a fence", f"```\n{CAR}```\n\n```\n{BUS}```", CAR_READ, BUS_READ),
    case("rule between stem and options", CAR.replace("car?**\n", "car?**\n---\n"), CAR_READ),
    # Options
    case("letters with points", answered("Answer: D", "A. red\nB. blue\nC. green\nD. grey\n"), CAR_READ),
    case("letters in brackets", answered("Answer: D", "(A) red\n(B) blue\n(C) green\n(D) grey\n"), CAR_READ),
    case("letters with colons", answered("Answer: D", "A: red\nB: blue\nC: green\nD: grey\n"), CAR_READ),
    case("bold letters", answered("Answer: D", "* **A.** red\n* **B.** blue\n* **C.** green\n* **D.** grey\n"), CAR_READ),
    case("bold options", answered("Answer: D", "**A) red**\n**B) blue**\n**C) green**\n**D) grey**\n"), CAR_READ),
    case("small letters", answered("Answer: (d)", "a) red\nb) blue\nc) green\nd) grey\n"), CAR_READ),
    case("full-width letters", answered("Answer: Ｄ", "Ａ）red\nＢ）blue\nＣ）green\nＤ）grey\n"), CAR_READ),
    case("circled letters", answered("Answer: 4", "① red\n② blue\n③ green\n④ grey\n"), CAR_READ),
    case("the word before each", answered("Answer: Option D", "Option A: red\nOption B: blue\nOption C: green\nOption D: grey"), CAR_READ),
    case("figures", answered("Answer: 4", "1. red\n2. blue\n3. green\n4. grey\n"), CAR_READ),
    case("Roman figures", answered("Answer: iv", "i) red\nii) blue\niii) green\niv) grey\n"), CAR_READ),
    case("bare bullets, answer by text", answered("Answer: grey", "- red\n- blue\n- green\n- grey\n"), CAR_READ),
    case("ticked box", answered("", "- [ ] red\n- [ ] blue\n- [ ] green\n- [x] grey\n"), CAR_READ),
    case("in one line", answered("Answer: D", "A) red  B) blue  C) green  D) grey\n"), CAR_READ),
    case("two columns", answered("Answer: D", "A. red    B. blue\nC. green    D. grey\n"), CAR_READ),
    case("in the stem's line", "1. What colour is the car? A) red, B) blue, C) green, D) grey\nAnswer: D", CAR_READ),
    case("all in one line", "What colour is the car? A) red B) blue C) green D) grey Answer: D", CAR_READ),
    case("blank lines between", answered("Answer: D", "A) red\n\nB) blue\n\nC) green\n\nD) grey\n"), CAR_READ),
    case("announced", answered("Answer: D", "**Options:**\n" + ABCD), CAR_READ),
    case("labelled twice", answered("Answer: D", "A) A. red\nB) B. blue\nC) C. green\nD) D. grey\n"), CAR_READ),
    case("Cyrillic twins of Latin letters", answered("Answer: С", "А) red\nВ) blue\nС) green\nD) grey"), CAR_READ[:-1] + "C"),
    case("of several lines", "1. Who?\nA) the man\n   in black\nB) the woman\nAnswer: A", "Who? / the man\nin black / the woman -> A"),
    case("five", "1. Who?\nA) a\nB) b\nC) c\nD) d\nE) e\nAnswer: E", "Who? / a / b / c / d / e -> E"),
    case("six", "1. Who?\nA) a\nB) b\nC) c\nD) d\nE) e\nF) f\nAnswer: F", "Who? / a / b / c / d / e / f -> F"),
    case("seven", "1. Who?\n" + "".join(f"{x}) {x * 2}\n" for x in "ABCDEFG") + "Answer: F", R.TOO_MANY_OPTIONS),
    case("one", "1. Who?\nA) a\nAnswer: A", R.TOO_FEW_OPTIONS),
    case("none", "1. Who drives?\nAnswer: the man", R.TOO_FEW_OPTIONS),
    case("a blank one", "1. Who?\nA) a\nB)\nC) c\nAnswer: A", R.UNREADABLE),
    case("one letter twice", "1. Who?\nA) a\nB) b\nB) c\nAnswer: B", R.UNREADABLE),
    # Stems
    case("of several lines", CAR.replace("What", "See the street.\nWhat"), "See the street.\n" + CAR_READ),
    case(
        "with a numbered list",
        "1. Which hold?\n1) it rains\n2) it snows\nA) the first\nB) the second\nAnswer: B",
        "Which hold?\n1. it rains\n2. it snows / the first / the second -> B",
    ),
    case(
        "with a decimal number and an initial",
        "1. What does\n1.5 mean to\nE. coli?\nA) x\nB) y\nAnswer: A",
        "What does\n1.5 mean to\nE. coli? / x / y -> A",
    ),
    case("missing", f"#### 1.\n{ABCD}\n**Answer:** A) red", R.NO_STEM),
    case("missing: an emphasised nothing", f"#### 1. ****\n{ABCD}\n**Answer:** A) red", R.NO_STEM),
    # Answers
    case("letter", answered("Answer: D"), CAR_READ),
    case("letter in a sentence", answered("The correct answer is D."), CAR_READ),
    case("text", answered("**Answer:** Grey."), CAR_READ),
    case("bold", answered("**Answer: D) grey**"), CAR_READ),
    case("boxed", answered(r"Answer: $\boxed{D}$"), CAR_READ),
    case("in square brackets", answered("[Answer] D"), CAR_READ),
    case("on the next line", answered("### Answer\nD) grey"), CAR_READ),
    case("bold, on the next line", answered("**Answer:**\nD) grey"), CAR_READ),
    case("with an explanation", answered("Answer: D) grey, as the bonnet shows\nExplanation: is it grey? Yes."), CAR_READ),
    case("below a rule", answered("---\n**Answer:** D) grey\n---"), CAR_READ),
    case("before the options", f"1. What colour is the car?\nAnswer: D\n{ABCD}", CAR_READ),
    case("in the last option's line", f"1. What colour is the car?\n{ABCD.rstrip()} **Answer: D**", CAR_READ),
    case("a tick", answered("", ABCD.replace("grey", "grey ✅")), CAR_READ),
    case("marks of right and wrong", answered("", "A) red ❌\nB) blue ❌\nC) green ❌\nD) grey (correct)"), CAR_READ),
    case(
        "a key at the end",
        "1. Who?\nA) me\nB) you\n\n2. Where?\nA) here\nB) there\n\n**Answer key:**\n1. B\n2. A) here\n",
        "Who? / me / you -> B",
        "Where? / here / there -> A",
    ),
    case(
        "a key in one line",
        "1. Who?\nA) me\nB) you\n2. Where?\nA) here\nB) there\nAnswers: 1-B, 2-A",
        "Who? / me / you -> B",
        "Where? / here / there -> A",
    ),
    case("twice the same", answered("Answer: D\nCorrect answer: grey"), CAR_READ),
    case("twice, different", answered("Answer: D\nCorrect answer: red"), R.ANSWER_CONTRADICTS),
    case("letter and text differ", answered("Answer: D) red"), R.ANSWER_CONTRADICTS),
    case("letter and unknown text", answered("Answer: D) purple"), R.ANSWER_CONTRADICTS),
    case("two letters", answered("Answer: A and D"), R.ANSWER_CONTRADICTS),
    case("a letter that is another option's text", "1. Which letter?\nA) B\nB) A\nC) C\nAnswer: A", R.ANSWER_CONTRADICTS),
    case("tick and answer differ", answered("Answer: A", ABCD.replace("grey", "grey ✓")), R.ANSWER_CONTRADICTS),
    case("letter beyond the options", answered("Answer: E"), R.ANSWER_NOT_AN_OPTION),
    case("text of no option", answered("Answer: it is purple"), R.ANSWER_NOT_AN_OPTION),
    case("missing answer", answered(""), R.NO_ANSWER),
    case("blank answer", CAR.replace(" D) grey", "") + BUS, R.NO_ANSWER, BUS_READ),
    # Languages
    case("Chinese", "1. 车是什么颜色？\nＡ）红\nＢ）蓝\n答案：Ｂ\n2、谁？\nA、我\nB、你\n正确答案：A、我",
         "车是什么颜色？ / 红 / 蓝 -> B", "谁？ / 我 / 你 -> A"),
    case("Chinese numerals", "第一题：谁？\nA. 我\nB. 你\n【答案】B", "谁？ / 我 / 你 -> B"),
    case("Japanese", "問題1：色は？\nア）赤\nイ）青\n正解：イ", "色は？ / 赤 / 青 -> B"),
    case("Korean", "질문 1: 색은?\n가) 빨강\n나) 파랑\n정답: 나", "색은? / 빨강 / 파랑 -> B"),
    case("Russian", "Вопрос 1. Кто?\nА) я\nБ) ты\nВ) он\nОтвет: В", "Кто? / я / ты / он -> C"),
    case("Russian by text", "1. Кто?\nА) я\nБ) ты\nПравильный ответ: Б) ты", "Кто? / я / ты -> B"),
    case("French", "Question 1 : Qui ?\nA) moi\nB) toi\nRéponse : B", "Qui ? / moi / toi -> B"),
    case("German", "Frage 1: Wer?\na) ich\nb) du\nRichtige Antwort: b) du", "Wer? / ich / du -> B"),
    case("Spanish", "Pregunta 1: ¿Quién?\nA. yo\nB. tú\nRespuesta correcta: A", "¿Quién? / yo / tú -> A"),
    case("Arabic", "1. من؟\nأ) أنا\nب) أنت\nالإجابة: ب", "من؟ / أنا / أنت -> B"),
    case("Hindi", "1. कौन?\nक) मैं\nख) तुम\nउत्तर: ख", "कौन? / मैं / तुम -> B"),
    # Around the questions
    case("preamble and closing", f"Here are the questions:\n\n---\n\n{CAR}\nLet me know if you want more!", CAR_READ),
    case("a title", f"# Questions about the picture\n\n{CAR}", CAR_READ),
    case("introduction without a rule", "Here you go.\n\nWho?\nA) me\nB) you\nAnswer: B", "Who? / me / you -> B"),
    case("polite question at the end", f"{CAR}\nWould you like more questions?", CAR_READ),
    case("a question without options at the end", f"{CAR}\nAnd what is in the sky?", CAR_READ, R.UNREADABLE),
    case("text of its own between rules", f"{CAR}This is odd.\n------\n{BUS}", CAR_READ, R.UNREADABLE, BUS_READ),
    case("refusal", "I'm sorry, I can't see the image.", R.UNREADABLE),
    case("blank", " \n ", R.UNREADABLE),
    case("tiny model", "red red red circle ( A A ) ) the", R.UNREADABLE),
    # Cut replies
    case("cut in the stem", f"{CAR}#### 2. **Who dri", CAR_READ, R.CUT, cut=True),
    case("cut in the number", f"{CAR}####", CAR_READ, cut=True),
    case("cut in the options", f"{CAR}#### 2. **Who?**\n   - A) m", CAR_READ, R.CUT, cut=True),
    case("cut before the answer", f"{CAR}{BUS.split('**Answer', maxsplit=1)[0]}**Answer:**", CAR_READ, R.CUT, cut=True),
    case("cut in the answer's text", f"{CAR}{BUS.rsplit('woman', 1)[0]}wo", CAR_READ, BUS_READ, cut=True),
    case("cut after a whole question", CAR, CAR_READ, cut=True),
    case("an earlier fault keeps its reason", answered("") + BUS, R.NO_ANSWER, BUS_READ, cut=True),
    # JSON
    case("JSON", '[{"question": "Who?", "options": ["me", "you"], "answer": "B"}]', "Who? / me / you -> B"),
    case("JSON in a fence, labelled", 'Sure:\n```json\n{"questions": [{"question": "Who?", "choices": ["A) me", "B) you"],'
         ' "correct_answer": "B) you"}]}\n```', "Who? / me / you -> B"),
    case("JSON, options by letter", '{"question": "Who?", "options": {"A": "me", "B": "you"}, "answer": "you"}', "Who? / me / you -> B"),
    case("JSON lines", '{"question": "Who?", "A": "me", "B": "you", "answer": "A"}\n{"question": "Where?", "answer": "A"}',
         "Who? / me / you -> A", R.TOO_FEW_OPTIONS),
    case("JSON, option objects", '[{"stem": "Who?", "options": [{"label": "A", "text": "me"}, {"label": "B", "text": "you"}],'
         ' "answer": {"label": "B", "text": "you"}}]', "Who? / me / you -> B"),
    case("JSON, a number as answer", '[{"question": "Who?", "options": ["me", "you"], "answer": 1}]', R.ANSWER_NOT_AN_OPTION),
    case("JSON, an index", '[{"question": "Who?", "options": ["me", "you"], "answer_index": 1}]', "Who? / me / you -> B"),
    case("JSON of wrong types", '[{"question": "Who?", "options": 3, "answer": "A"}, 7]', R.UNREADABLE, R.UNREADABLE),
    case("JSON cut", '[{"question": "Who?", "options": ["me", "you"], "answer": "B"}, {"question": "Wh',
         "Who? / me / you -> B", R.CUT, cut=True),
    # Usable in form, but not taken over
    case("equal options", answered("Answer: A", ABCD.replace("blue", " RED.")), R.EQUAL_OPTIONS),
    case("options equal after normalising", answered("Answer: B", ABCD.replace("blue", "ｒｅｄ")), R.EQUAL_OPTIONS),
    case("option repeats the stem", answered("Answer: A", ABCD.replace("blue", "what colour is the car")), R.OPTION_REPEATS_STEM),
    case("all of the above", answered("Answer: D", ABCD.replace("grey", "All of the above")), R.GOLD_IS_ALL_OR_NONE),
    case("none of these, Chinese", answered("Answer: D", ABCD.replace("grey", "以上都不是")), R.GOLD_IS_ALL_OR_NONE),
    case("none, Russian", answered("Answer: D", ABCD.replace("grey", "Ничего из перечисленного")), R.GOLD_IS_ALL_OR_NONE),
    case("all, Spanish", answered("Answer: D", ABCD.replace("grey", "Todas las anteriores")), R.GOLD_IS_ALL_OR_NONE),
    case("none as a wrong option", answered("Answer: A", ABCD.replace("grey", "None of the above")),
         "What colour is the car? / red / blue / green / None of the above -> A"),
    case("none as a count", answered("Answer: D", ABCD.replace("grey", "None")),
         "What colour is the car? / red / blue / green / None -> D"),
    case("names the caption", CAR.replace("What", "According to the caption, what"), R.NAMES_CAPTION),
    case("names the description", CAR.replace("car?", "car in the image description?"), R.NAMES_CAPTION),
    case("names the text above", CAR.replace("car?", "car in the text above?"), R.NAMES_CAPTION),
    case("names the description, Chinese", CAR.replace("What", "根据图片描述，what"), R.NAMES_CAPTION),
    case("a product's text is no caption", CAR.replace("car?", "product description on the box?"),
         "What colour is the product description on the box? / red / blue / green / grey -> D"),
    case("both A and C", answered("Answer: A", ABCD.replace("grey", "Both A and C")), R.NAMES_LETTER),
    case("names an option", CAR.replace("car?", "car if option B is wrong?"), R.NAMES_LETTER),
    case("a lettered panel is no option", CAR.replace("the car", "panel B"),
         "What colour is panel B? / red / blue / green / grey -> D"),
    case("the same question twice", CAR + CAR.replace("1.", "2.").replace("What", "what"), CAR_READ, R.DUPLICATE),
    case("the same in another order", CAR + answered("Answer: A", "A) grey\nB) blue\nC) green\nD) red"), CAR_READ, R.DUPLICATE),
    case("a stem of a page", CAR.replace("What", "x" * 2000 + " what"), R.OVER_LIMIT),
    case("an option of a page", CAR.replace("red", "red " * 150), R.OVER_LIMIT),
]  # fmt: skip


@pytest.mark.parametrize("given", [pytest.param(one, id=f"{number}: {one.name}") for number, one in enumerate(CASES)])
def test_blocks_as_they_come(given: Case) -> None:
    found = checked(parse_block(given.text, cut=given.cut), ExtractRecipe())
    shown = tuple(
        " / ".join((question.stem, *question.options)) + f" -> {LETTERS[question.gold]}"
        for _, question in found.questions
    )
    assert (shown, tuple(item.reason for item in found.refused)) == (given.questions, given.reasons)


def test_there_are_at_least_sixty_different_blocks() -> None:
    assert len({(one.text, one.cut) for one in CASES}) >= 60


def test_the_recipe_bounds_options_and_questions() -> None:
    recipe = ExtractRecipe(min_options=3, max_options=4, max_questions=1)
    six = "#### 3. **Who?**\n" + "".join(f"- {letter}) {letter * 2}\n" for letter in "ABCDEF") + "Answer: A\n"
    found = checked(parse_block(CAR + BUS + six + CAR.replace("car", "sky"), cut=False), recipe)
    assert [number for number, _ in found.questions] == [1]
    assert [(item.number, item.reason) for item in found.refused] == [
        (2, R.TOO_FEW_OPTIONS),
        (3, R.TOO_MANY_OPTIONS),
        (4, R.OVER_LIMIT),
    ]


def test_refusals_carry_their_place_their_words_and_a_bounded_text() -> None:
    found = parse_block(CAR + answered("Answer: F") + "#### 3. " + "x" * 9000, cut=False)
    first, second = found.refused
    assert (first.number, first.reason) == (2, R.ANSWER_NOT_AN_OPTION)
    assert "'F'" in first.detail
    assert first.text.startswith("#### 1. **What colour is the car?**")
    assert (second.number, len(second.text)) == (3, 2000)


def test_a_flood_of_questions_or_lines_ends_in_one_refusal() -> None:
    many = parse_block(CAR * 300, cut=False)
    assert len(many.questions) == 200
    assert [(item.number, item.reason) for item in many.refused] == [(201, R.OVER_LIMIT)]
    long = parse_block(CAR + "word\n" * 500_000, cut=True)
    assert len(long.questions) == 1
    assert [item.reason for item in long.refused] == [R.OVER_LIMIT]
