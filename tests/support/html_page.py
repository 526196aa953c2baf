"""Content of an HTML page as a browser reads it."""

from html.parser import HTMLParser
from pathlib import Path

ADDRESSES = ("src", "href", "xlink:href", "srcset")
VOID = ("meta", "br", "img", "source", "col", "hr")


class Page(HTMLParser):
    """Tags, addresses, ids and words of a page; every tag that is opened is closed, and nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]
        self.sources += [value for name, value in attributes if name in ADDRESSES]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def parse_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def read_page(path: Path) -> Page:
    return parse_page(path.read_text(encoding="utf-8"))
