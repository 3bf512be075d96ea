"""Links as readers of mail could click them."""

import pytest

from gateway.smtp.links import MAX_LINKS, links_in_html, links_in_text


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see http://example.net/a.", ("http://example.net/a",)),
        ("<https://example.net/?a=b&c=d>", ("https://example.net/?a=b&c=d",)),
        ("HTTP://Example.NET (ftp://x.example/y)", ("HTTP://Example.NET", "ftp://x.example/y")),
        ("http://a http://b http://a", ("http://a", "http://b")),
        ("http://). http://;", ()),
        ("http:// nothing, mailto:a@b.example, //c.example", ()),
        ("http://bücher.example/ü", ("http://bücher.example/ü",)),
        ("", ()),
    ],
)
def test_links_in_text(text: str, links: tuple[str, ...]):
    assert links_in_text(text) == links


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ('<a href="http://a.example/?x=1&amp;y=2">', ("http://a.example/?x=1&y=2",)),
        ("<A HREF = 'https://a.example/b c'>x</A>", ("https://a.example/b c", "https://a.example/b")),
        ("<img src=http://a.example/p.png>", ("http://a.example/p.png",)),
        ('<a href="ht\ntp://a.exam\tple/">', ("http://a.example/",)),
        ('<a href="&#104;ttp://a.example/">', ("http://a.example/",)),
        ('<a href="&#%s104;ttp://a.example/">' % ("0" * 4000), ("http://a.example/",)),
        (f"&#{'9' * 5000}; http://a.example/", ("http://a.example/",)),
        (f'<a href="http://a.example/&#{"9" * 4000}">', ("http://a.example/\ufffd",)),
        (f"&#{'0' * 5000}; &#x{'f' * 5000}; http://a.example/", ("http://a.example/",)),
        ('<a href="//a.example/x">', ("http://a.example/x",)),
        ('<a href="http:\\\\a.example\\x">', ("http://a.example/x",)),
        ('<a href="javascript:alert(1)"><a href="#x"><a href="mailto:a@b.example">', ()),
        ('<form action="https://a.example/f">http://b.example', ("https://a.example/f", "http://b.example")),
        ('<a href="http://never.example/closed', ("http://never.example/closed",)),
    ],
)
def test_links_in_html(text: str, links: tuple[str, ...]):
    assert links_in_html(text) == links


def test_there_is_an_end_to_links():
    text = " ".join(f"http://{number}.example/" for number in range(2 * MAX_LINKS))
    assert len(links_in_text(text)) == len(links_in_html(text)) == MAX_LINKS


def test_there_is_an_end_to_a_link():
    (link,) = links_in_html('<a href="http://' + "x" * 3000 + '">')[:1]
    assert len(link) == 2048


@pytest.mark.parametrize("piece", ["href=", 'href="', "href='", "http://", "&#", "&lt", "href   ", "<a "])
def test_nothing_is_looked_through_twice(piece: str):
    """Quadratic, a quarter of a million of them would take hours."""
    assert len(links_in_html(piece * 250_000)) <= MAX_LINKS
