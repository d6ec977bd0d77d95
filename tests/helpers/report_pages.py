"""Reads pages as a browser does."""

import json
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e<!--"
"""A text of a run that would break a page into which it goes as it is."""


class Page(HTMLParser):
    """The elements of a page, its addresses, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.scripts, self.handlers = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def data_of(text):
    return json.loads(Page(text).scripts[0])
