"""HTML that is escaped by construction: text becomes markup only through `tag`.

Names, settings and messages of runs may hold anything. A plain string is text, of which addresses
lose their secrets and control characters are escaped; only `tag` and `join` make `Html`.
"""

import html
from collections.abc import Iterable

from md2dist.console import make_presentable

_VOID = {"meta", "img", "br"}
_SHORT = 12  # letters of a cell that is not wrapped


class Html(str):
    """Markup; a plain `str` is text."""

    __slots__ = ()


def tag(name: str, *content: object, **attributes: object) -> Html:
    """Returns an element; its plain content and attributes are escaped.

    Args:
        name: name of the element.
        *content: markup, or text of any type.
        **attributes: by name; `class_` is `class`, other underscores are hyphens, True has no
            value, and None is left out.
    """
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not None:
            words.append(f'{key}="{escape(value)}"')
    start = f"<{' '.join(words)}>"
    return Html(start if name in _VOID else f"{start}{join(content)}</{name}>")


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Joins markup and text, which is escaped."""
    return Html(separator.join(part if isinstance(part, Html) else escape(part) for part in parts))


def escape(text: object) -> str:
    """Returns text of any origin in a form that is harmless in elements and quoted attributes."""
    return html.escape(make_presentable(str(text)).replace("\t", " "), quote=True)


def _cell(content: object) -> Html:
    is_short = len(str(content)) <= _SHORT
    return tag("td", content, class_="short" if is_short else None)


def table(heading: Iterable[object], rows: Iterable[Iterable[object]], caption: str) -> Html:
    """Returns a table that scrolls where the window is narrow; the first cell of a row names it."""
    head = tag("tr", *(tag("th", cell, scope="col") for cell in heading))
    body = [tag("tr", tag("th", first, scope="row"), *map(_cell, cells)) for first, *cells in rows]
    content = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", content, class_="scroll", role="region", tabindex=0, aria_label=caption)
