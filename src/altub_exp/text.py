"""Texts from outside, such as the names of categories, files and experiments, made fit for the place they go to."""

from __future__ import annotations

import hashlib
import re
import sys

FORMULA = tuple("=+-@\t\r\n")
"""The beginnings of a cell that a spreadsheet computes, see https://owasp.org/www-community/attacks/CSV_Injection."""

MARKDOWN = {ord(character): f"\\{character}" for character in "\\|*_`<[~$&"} | {ord("\n"): " "}
"""Characters that Markdown, or GitHub's version of it, reads otherwise."""


def printable(text: object) -> str:
    r"""Return a text without control characters and without bytes that are not UTF-8: each becomes an escape.

    >>> print(printable("Münze \x1b[31m.png"), printable("M\udcfcnze.png"))
    Münze \x1b[31m.png M\udcfcnze.png
    """
    text = str(text)
    return text if text.isprintable() else "".join(_escaped(each) for each in text)


def printable_lines(text: object) -> str:
    r"""Return a text like :func:`printable`, with its line breaks and tabs.

    >>> print(printable_lines("one\x1b[2J\ntwo"))
    one\x1b[2J
    two
    """
    text = str(text)
    return text if text.isprintable() else "".join(each if each in "\n\t" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def say(text: object, *, error: bool = False) -> None:
    """Print a text to stdout, or to stderr, at once and without control codes, which a terminal would obey."""
    print(printable_lines(text), file=sys.stderr if error else sys.stdout, flush=True)


def file_name(text: str, longest: int = 100) -> str:
    """Return a text as a part of a file's name; unless it is fit as it is, a hash distinguishes it from similar ones.

    Args:
        text: any text.
        longest: bytes of the result without the hash.

    >>> file_name("metal_nut"), file_name("a b"), file_name("..")
    ('metal_nut', 'a-b-7faae47c', 'e6fc5bb9')
    """
    plain = re.sub(r"[^\w.=-]+", "-", text).lstrip(".-").encode()[:longest].decode(errors="ignore")
    if plain == text:
        return text
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return "-".join(filter(None, (plain.rstrip("-"), digest)))


def csv_cell(value: object) -> object:
    """Return a value for a CSV file; an apostrophe keeps a spreadsheet from computing a text that is not a number.

    >>> csv_cell("=1+1"), csv_cell("-rf"), csv_cell("-0.5"), csv_cell(-0.5)
    ("'=1+1", "'-rf", '-0.5', -0.5)
    """
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    return value if re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", value) else f"'{value}"


def markdown(text: object) -> str:
    r"""Return a text for Markdown, in one line, whose characters stand for themselves.

    >>> print(markdown("a|b <i>"))
    a\|b \<i>
    """
    return printable(str(text).translate(MARKDOWN))


def code_span(text: str) -> str:
    """Return a text as code in Markdown, between more backticks than it has in a row.

    >>> code_span("make"), code_span("a`b")
    ('`make`', '`` a`b ``')
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{printable(text)}{space}{fence}"
