"""Numbers as answers write them: `1,234`, `$5.2 million`, `45 %`, `-3 °C`, `1/2`, `about 12 km`. Total, linear."""
# ruff: noqa: RUF001 - signs of other scripts are meant

import functools
import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

from caprl_core.prism.scorers.match import NUMBER_WORDS

MAX_DIGITS = 40
"""A longer number is a serial number, compared as text."""


class Number(NamedTuple):
    """A number with its dress.

    value:    as it is written: 5.2 of `$5.2 million`.
    factor:   what a percent sign (0.01) or a word such as `million` multiplies it by; None without one.
    currency: `$`, `€` …; empty without one.
    unit:     other words after it, in the singular; empty without any.
    bare:     digits and nothing else, as years are written.
    """

    value: Decimal
    factor: Decimal | None
    currency: str
    unit: str
    bare: bool


_HUNDREDTH, _THOUSAND = Decimal("0.01"), Decimal(1000)
_FACTORS = {
    **dict.fromkeys(("%", "percent", "per cent", "pct", "percentage points", "percentage point", "pp"), _HUNDREDTH),
    **dict.fromkeys(("hundred",), Decimal(100)),
    **dict.fromkeys(("thousand", "thousands", "k"), _THOUSAND),
    **dict.fromkeys(("lakh", "lakhs"), Decimal(10**5)),
    **dict.fromkeys(("million", "millions", "mn", "mln", "mio", "m"), _THOUSAND**2),
    **dict.fromkeys(("crore", "crores"), Decimal(10**7)),
    **dict.fromkeys(("billion", "billions", "bn", "bln", "b"), _THOUSAND**3),
    **dict.fromkeys(("trillion", "trillions", "tn", "trn", "t"), _THOUSAND**4),
    "万": Decimal(10**4),
    "亿": Decimal(10**8),
    "億": Decimal(10**8),
}
_CURRENCIES = {
    **dict.fromkeys(("$", "us$", "usd", "dollar", "us dollar", "u.s. dollar"), "$"),
    **dict.fromkeys(("€", "eur", "euro"), "€"),
    **dict.fromkeys(("£", "gbp", "pound", "pound sterling"), "£"),
    **dict.fromkeys(("¥", "jpy", "yen", "cny", "rmb", "yuan"), "¥"),
    **dict.fromkeys(("₹", "inr", "rs", "rs.", "rupee"), "₹"),
    **dict.fromkeys(("₩", "krw", "won"), "₩"),
    **dict.fromkeys(("₽", "rub", "ruble"), "₽"),
}
_UNITS = {
    **dict.fromkeys(("yr",), "year"),
    **dict.fromkeys(("hr", "h"), "hour"),
    **dict.fromkeys(("min",), "minute"),
    **dict.fromkeys(("sec", "s"), "second"),
    **dict.fromkeys(("mo",), "month"),
    **dict.fromkeys(("km", "kilometre"), "kilometer"),
    **dict.fromkeys(("metre",), "meter"),
    **dict.fromkeys(("cm", "centimetre"), "centimeter"),
    **dict.fromkeys(("mm", "millimetre"), "millimeter"),
    **dict.fromkeys(("kg",), "kilogram"),
    **dict.fromkeys(("g",), "gram"),
    **dict.fromkeys(("person", "people"), "person"),
    **dict.fromkeys(("°c", "c", "degree celsiu", "degree celsius"), "celsius"),
    **dict.fromkeys(("°f", "degree fahrenheit"), "fahrenheit"),
    **dict.fromkeys(("°",), "degree"),
}

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]{1,4}")
_APPROXIMATELY = re.compile(
    r"(?:(?:about|approximately|approx\.?|around|roughly|nearly|almost|circa|ca\.?|some)\s|[~≈∼])\s{0,3}"
)
_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3}){1,12}(?![\d,])(?:\.\d{1,40})?"  # 1,234,567.8
    r"|\d{1,2}(?:,\d{2}){1,8},\d{3}(?![\d,])(?:\.\d{1,40})?"  # 12,34,567
    r"|\d{1,3}(?:[ '’]\d{3}){1,12}(?!\d)(?:[.,]\d{1,40})?"  # 1 234 567,8
    r"|\d{1,3}(?:\.\d{3}){2,12}(?!\d)(?:,\d{1,40})?|\d{1,3}\.\d{3},\d{1,2}(?!\d)"  # 1.234.567,8
    r"|0,\d{1,40}|\d{1,40},\d{1,2}(?![\d,])"  # 12,5
    r"|\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})"
)
_SIGN = r"(?:[-−–+]\s?)?"
_SYMBOLS = "|".join(re.escape(name) for name in sorted(_CURRENCIES, key=len, reverse=True) if not name[-1].isalpha())
_CODES = "|".join(name for name in _CURRENCIES if name.isalpha() and len(name) < 4)
_WORDS = "|".join(re.escape(word) for word in sorted(_FACTORS, key=len, reverse=True) if word.isascii() and word != "%")
_NUMBER = re.compile(
    rf"(?P<sign>{_SIGN})(?:(?P<currency>{_SYMBOLS}|(?:{_CODES})(?=[\s\d]))\s?)?(?P<sign2>{_SIGN})"
    rf"(?:(?:(?P<whole>\d{{1,9}})\s)?(?P<top>\d{{1,9}})\s?/\s?(?P<bottom>\d{{1,9}})(?![\d/.,])|(?P<digits>{_DIGITS})"
    r"(?:e(?P<e>[+-]?\d{1,2})(?![\d.])|\s?[x×*·]\s?10\s?\^\s?\{?(?P<ten>-?\d{1,2})\}?)?)"
    rf"(?:\s{{0,2}}(?P<factor>%|[万亿億]|(?:-?(?:{_WORDS}))(?![^\W_]|[\^/])))?"
)
_UNIT = re.compile(
    r"(?:of\s|per\s|/\s?)?[^\W\d_°]{0,30}°?[^\W\d_]{0,30}(?:\^?[23])?(?:[\s/.-]{1,2}[^\W\d_]{1,30}(?:\^?[23])?){0,4}\.?"
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th|s)(?![^\W_])")
_DIGIT = re.compile(r"\d")


@functools.lru_cache(maxsize=50_000)
def read_number(text: str) -> Number | None:
    """The number that the whole of `text` is: sign, currency, digits, percent sign or factor, up to five words of unit,
    and a word such as `about` before it; None for any other text.

    A comma before three digits groups thousands (`1,234`, Indian `12,34,567`), before one, two or after a single 0 it
    is a decimal comma; spaces, apostrophes and repeated points group too. Ordinals (`3rd`), decades (`1990s`), ranges
    (`2010-2015`), times and ratios (`3:2`) are no numbers.
    """
    plain = _prepared(text)
    plain = plain[match.end() :] if (match := _APPROXIMATELY.match(plain)) is not None else plain
    if plain in NUMBER_WORDS:
        return Number(Decimal(NUMBER_WORDS[plain]), None, "", "", bare=False)
    match = _NUMBER.match(plain)
    if match is None:
        return None
    rest = plain[match.end() :].strip()
    glued = plain[match.end() : match.end() + 1].strip()
    # "2010-present" is a range, "7 Eleven" a name.
    if _UNIT.fullmatch(rest) is None or rest.startswith("-") or not NUMBER_WORDS.keys().isdisjoint(rest.split()):
        return None
    if glued and _ORDINAL.match(plain, match.end()) is not None:
        return None
    return _number(match, plain, rest.rstrip("."))


@functools.lru_cache(maxsize=50_000)
def only_number(text: str) -> Number | None:
    """The number in a sentence that holds exactly one (`It fell to 12% then`), without unit; else None."""
    plain = _prepared(text)
    matches = list(_NUMBER.finditer(plain))
    if len(matches) != 1:
        return None
    match = matches[0]
    start, end = match.start(), match.end()
    if _DIGIT.search(plain[:start]) or _DIGIT.search(plain[end:]) or _ORDINAL.match(plain, end) is not None:
        return None
    # "Q3", "covid-19": part of a word.
    before = plain[:start].rstrip("-–") if plain[start : start + 1] not in "-–" else plain[:start]
    if before[-1:].isalnum() and (start == 0 or not plain[start - 1].isspace()):
        return None
    return _number(match, plain, "")


def _prepared(text: str) -> str:
    text = _RAISED.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    # "2½" is two and a half: NFKC alone would make it twenty-one halves.
    text = "".join(
        f" {sign} " if unicodedata.category(sign) == "No" and "VULGAR" in _name(sign) else sign for sign in text
    )
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/").replace("−", "-")
    return " ".join(text.casefold().split())


def _name(sign: str) -> str:
    return unicodedata.name(sign, "")


def _number(match: re.Match[str], plain: str, rest: str) -> Number | None:
    value = _value(match)
    if value is None:
        return None
    negative = (match["sign"] + match["sign2"]).strip().startswith(("-", "–"))
    factor = _FACTORS[match["factor"].removeprefix("-")] if match["factor"] else None
    unit = _singular(rest)
    currency = _CURRENCIES[match["currency"]] if match["currency"] else ""
    if not currency and unit in _CURRENCIES:
        currency, unit = _CURRENCIES[unit], ""
    return Number(-value if negative else value, factor, currency, unit, bare=plain.isdecimal())


def _value(match: re.Match[str]) -> Decimal | None:
    if match["digits"] is None:
        bottom = Decimal(match["bottom"])
        return Decimal(match["whole"] or 0) + Decimal(match["top"]) / bottom if bottom else None
    digits = match["digits"].replace(" ", "").replace("'", "").replace("’", "")
    if sum(letter.isdigit() for letter in digits) > MAX_DIGITS:
        return None
    value = Decimal(_pointed(digits))
    return value.scaleb(int(match["e"] or match["ten"] or 0))


def _pointed(digits: str) -> str:
    """Grouping taken out and the decimal sign made a point."""
    head, comma, tail = digits.rpartition(",")
    if not comma:
        return digits.replace(".", "") if digits.count(".") > 1 else digits
    if "." in head or (len(tail) < 3 and "," not in head) or (head == "0"):
        return f"{head.replace('.', '')}.{tail}"
    return digits.replace(",", "")


def _singular(rest: str) -> str:
    words = [word.removesuffix("s") if len(word) > 2 and not word.endswith("ss") else word for word in rest.split()]
    unit = " ".join(words)
    return _UNITS.get(rest, _UNITS.get(unit, unit))
