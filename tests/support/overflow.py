"""Whether a page in a browser shows everything: nothing wider than the window, nothing cut off in its box."""

from __future__ import annotations

from typing import Any

WIDTHS = (1280, 390)
"""A laptop and a phone, in CSS pixels."""

_MEASURE = """() => {
    const window_ = document.documentElement.clientWidth, found = [];
    const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
    const named = (element) => element.tagName.toLowerCase() + (element.id ? "#" + element.id : "") +
        (element.getAttribute("class") ? "." + element.getAttribute("class").trim().split(/\\s+/).join(".") : "");
    function walk(element, boxed) {
        const style = getComputedStyle(element);
        if (style.display === "none" || style.visibility === "hidden" || element.matches(SKIPPED)) return;
        const place = element.getBoundingClientRect();
        if (place.right <= 0 && place.width || place.width === 1) return;
        const own = boxed || scrolls(element);
        if (!boxed && place.width && (place.right > window_ + 1 || place.left < -1))
            found.push(`${named(element)} spans ${Math.round(place.left)} to ${Math.round(place.right)} px`);
        if (!own && element.clientWidth && style.display !== "inline" && element.scrollWidth > element.clientWidth + 1)
            found.push(`${named(element)} is ${element.scrollWidth} px wide in ${element.clientWidth} px`);
        for (const child of element.children) walk(child, own);
    }
    walk(document.body, false);
    const whole = document.documentElement.scrollWidth;
    if (whole > window_) found.push(`the document is ${whole} px wide in ${window_} px`);
    return found;
}"""


def overflow(page: Any, *, skipped: str = "script") -> list[str]:
    """The elements of an open page that reach out of the window, or whose content is wider than they are.

    What lies in a box that scrolls is left out, and so is what only screen readers get (out of the window on the left,
    or one pixel wide) and elements that match `skipped`, with their content.
    """
    return list(page.evaluate(_MEASURE.replace("SKIPPED", repr(skipped))))
