"""Building HTML that is escaped by construction: whatever is not `Html` already is text."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"img", "input", "meta", "br", "line", "circle", "rect", "path", "polyline", "polygon"})
_SELF_CLOSED = _VOID - {"img", "input", "meta", "br"}  # SVG shapes: `<path/>`


class Html(str):
    """Markup that is safe to print as it is."""

    __slots__ = ()


Child = Html | str | None
Value = str | float | None


def element(tag: str, *children: Child, **attributes: Value) -> Html:
    """`<tag …>children</tag>`; plain strings are escaped, `None` is left out.

    An attribute's trailing underscore is dropped and other underscores become hyphens: `class_`, `stroke_width`.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}{'/' if tag in _SELF_CLOSED else ''}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Children one after the other, plain strings escaped."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escape(child, quote=False) for child in children if child is not None
        )
    )


def _text(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
