"""Reads a report page as a browser would, and proves that it can neither run nor fetch anything."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "nav", "article"),
    *("a", "h1", "h2", "h3", "p", "ul", "li", "dl", "dt", "dd", "div", "span", "small", "strong", "bdi", "mark", "pre"),
    *("figure", "figcaption", "svg", "g", "rect", "line", "polyline", "circle", "text", "img", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}
URLS = ("src", "href", "action", "data", "poster", "srcset", "xlink:href", "background", "formaction")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Read(HTMLParser):
    """Collects elements and text, and fails where a tag closes another than the last one opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing that is open"

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self._open[-1:]):
            self.text.append(data)

    def tags(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self) -> str:
        """All text in order, in one line, without tooltips."""
        return re.sub(r"\s+", " ", " ".join(self.text))

    def charts(self) -> dict[str, str]:
        """Title -> text alternative of every chart."""
        told = [svg["aria-label"] or "" for svg in self.tags("svg") if svg.get("role") == "img"]
        return {one.partition(".")[0]: one for one in told}


def read_harmless(page: bytes) -> Read:
    """The page read, if it is well-formed, holds elements of ours alone and has no way to run or fetch anything."""
    text = page.decode()
    read = Read(text)
    assert {tag for tag, _ in read.elements} <= ALLOWED, {tag for tag, _ in read.elements} - ALLOWED
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in URLS:
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), (tag, name, value)
        assert "url(" not in (attributes.get("style") or "")
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|expression\(|<", style)
    assert [meta["content"] for meta in read.tags("meta") if meta.get("http-equiv") == "Content-Security-Policy"] == [
        POLICY
    ]
    _check_named(read)
    return read


def _check_named(read: Read) -> None:
    """Pictures and charts have a text, names are unique, and what refers to a name finds it."""
    assert all(image.get("alt") for image in read.tags("img"))
    for svg in read.tags("svg"):
        seen = svg.get("role") == "img" and svg.get("aria-label")
        assert seen or svg.get("aria-hidden") == "true" or svg.get("viewbox"), svg
    names = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [(attributes.get("href") or "").removeprefix("#") for attributes in read.tags("a")]
    targets += [
        attributes["aria-labelledby"] or "" for _, attributes in read.elements if "aria-labelledby" in attributes
    ]
    assert set(targets) <= set(names)
