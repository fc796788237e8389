"""Phrases that spoil a question, in the languages writers reply in: all of the above, the caption, option B."""
# ruff: noqa: RUF001 - letters and punctuation of other scripts are meant

import re

from caprl_core.qa.blocks.labels import LATIN

ALL_OR_NONE = re.compile(
    "|".join(
        (
            r"(?:both|all|none|neither|any|each|every one|some)(?: one)? of (?:the |these |those )?(?:\w+ )?"
            r"(?:above|these|those|them|options|choices|answers|listed)(?: \w+){0,3}",
            r"(?:all|none)(?: the)? above|(?:the )?above all",
            r"(?:以上|上述|上面|前面)(?:选项|選項|答案)?(?:全部|全|都|皆|均|所有|是|不|非|对|错|正确|没有|无){1,6}",
            r"(?:都|全)(?:是|不是|对|不对|正确)|皆(?:是|非)",
            r"(?:上記|以上)の?(?:すべて|全て|いずれでもない|どれでもない|どれも.{0,8})|(?:すべて|全て)正しい",
            r"위의?\s?(?:모두|모든 것|보기 모두)|모두 (?:정답|해당)|(?:위에|보기에|정답)\s?없음|해당 없음",
            r"tod[ao]s l[ao]s anteriores|ningun[ao] de l[ao]s anteriores",
            r"todas as anteriores|nenhuma das anteriores|tutt[ei] le precedenti|nessuna delle precedenti",
            r"tout(?:es)? (?:ces|les) réponses.{0,24}|aucune (?:de ces|des) réponses.{0,24}|tout ce qui précède",
            r"(?:alle|keine[rs]?)(?: der)? (?:oben )?(?:genannten|aufgeführten)(?: \w+)?",
            r"(?:nichts|keine[rs]?|alles) davon",
            r"все (?:варианты )?(?:из )?(?:вышеперечисленн|перечисленн|указанн)\w{2,4}(?: \w+)?",
            r"всё (?:из )?(?:вышеперечисленн|перечисленн|указанн)\w{2,4}|(?:ничего|ни один|ни одно) из .{2,30}",
            r"wszystkie (?:z )?powyższ\w+|żadn\w+ z powyższych|(?:yukarıdakilerin )?(?:hepsi|hiçbiri)",
            r"semua (?:di|yang di) atas|semua benar|tất cả (?:các )?(?:đáp án|đều).{0,16}",
            r"(?:كل|جميع) ما سبق|(?:جميع|كل) .{0,12} (?:السابقة|أعلاه)|لا شيء مما سبق",
            r"उपरोक्त सभी|(?:इनमें|उपरोक्त में) से कोई नहीं",
        )
    )
)
"""Compared with the folded text of the right option, as a whole."""

CAPTION = re.compile(
    "|".join(
        (
            r"\b(?:the|this|that|given|provided|above|your|image|picture|photo|figure|accompanying|original|detailed)\s"
            r"(?:(?:image|picture|photo|given|provided|above|detailed|written|text|visual|scene|video)\s){0,2}"
            r"(?:caption|description)s?\b",
            r"\b(?:caption|description)s? (?:above|below|provided|given|says?|states?|mentions?|describes?)\b",
            r"\bcaption\b|\b(?:text|passage|paragraph|context|information) (?:given |provided )?above\b",
            r"\babove (?:text|passage|paragraph|context|information)\b",
            r"\bin the (?:given|provided) (?:text|passage|paragraph|context)\b",
            r"\b(?:according to|based on) the (?:passage|paragraph)\b",
            r"(?:根据|依据|按照|从|在|由)(?:以上|上述|上面|上文|所给|给出|提供|图片|图像|该|这段|的){0,4}(?:文字)?"
            r"(?:描述|文字说明|图片说明|说明文字|段落|短文)",
            r"图片描述|图像描述|文字描述|描述中|上文(?:中|提到|所述)|説明文|キャプション|上の文章",
            r"캡션|설명에 (?:따르면|의하면)|설명에서|위 (?:글|설명|지문)",
            r"по описанию|(?:согласно|исходя из|в|из) (?:данно\w+ |приведенно\w+ |этого |этому )?описани\w+",
            r"(?:según|de acuerdo con|en) (?:la|esta) (?:descripción|leyenda)",
            r"(?:selon|d'après|dans) (?:la|cette) (?:description|légende)",
            r"\b(?:laut|gemäß|nach|in)(?: der| dieser)? (?:bild)?beschreibung|bild(?:unterschrift|beschreibung)",
            r"(?:secondo|nella|in base alla) (?:la )?(?:descrizione|didascalia)",
            r"(?:segundo|de acordo com|na) (?:a )?descrição",
        )
    )
)
"""Searched in folded stems and options. `Caption` alone is enough; a description only where it is a known one."""

_OPTION_WORD = (
    r"[Oo]ptions?|[Cc]hoices?|[Aa]nswers?|[Aa]lternatives?|选项|選項|答案|вариант\w{0,3}|ответ\w{0,3}"
    "|[Oo]pción|[Oo]pciones"
)
OPTION_LETTER = re.compile(
    rf"(?:\b|(?<=[\u4e00-\u9fff]))(?:{_OPTION_WORD})\s{{0,2}}[(\[（「\"]?[A-FА-Е](?![^\W_\u4e00-\u9fff])(?!['’])"
)
"""Searched in stems and options: `option B`, `choices A and C`. Capital letters only: `an option a user has`."""

_ONE = rf"[(\[（]?[{LATIN}А-Еа-е][)\]）.]?"
_JOINT = (
    r"\s{0,2}(?:[,，、&+/]|\b(?:и|and|or|nor|y|und|oder|et|ou|e)\b|和|与|與|及|或|と|와|과)"
    r"\s{0,2}(?:(?:and|or|и)\b\s{0,2})?"
)
LETTERS_ONLY = re.compile(
    r"(?:(?:[Bb]oth|[Nn]either|[Ee]ither|[Oo]nly|[Aa]ll of|[Nn]one of|[Aa]ll|只有|仅|[Оо]ба|[Тт]олько)\s{0,2})?"
    rf"(?:(?:{_OPTION_WORD})\s{{0,2}})?{_ONE}(?:{_JOINT}{_ONE}){{1,5}}"
    r"(?:\s{0,2}(?:only|both|are correct|are both correct|are right|都是|都对|皆是|均正确|都正确|верны))?[.。]?"
)
"""An option as a whole: `A and B`, `Both (A) and (C)`, `A、B都对`."""
