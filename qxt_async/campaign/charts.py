"""Bar charts as inline SVG, made by pygal (extra ``report``).

Pygal does the layout. Colours and fonts come from the page's CSS, so that the charts follow its dark mode. Everything
that pygal would load or run is removed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from qxt_async.errors import InvalidConfigurationError
from qxt_async.runtime.words import missing_extra

if TYPE_CHECKING:
    from collections.abc import Sequence

_FONT = 12


def bars(
    series: Sequence[tuple[str, Sequence[int]]],
    labels: Sequence[str],
    ticks: Sequence[str],
    *,
    title: str,
    width: int,
    height: int,
    kind: str,
) -> str:
    """Draw stacked bars.

    Args:
        series: names with values, one for each label.
        labels: of the bars, shown when the mouse is over one.
        ticks: the labels on the axis, one for each bar; empty for most of them if there are many.
        title: what the chart shows, for screen readers.
        width: in units of the SVG, which are pixels at this width.
        height: in the same units.
        kind: classes for the CSS.

    Returns:
        An ``<svg>`` element, safe to put into a page: all text in it is escaped.

    Raises:
        InvalidConfigurationError: the extra is missing.
    """
    pygal, style = _pygal()
    chart: Any = pygal.StackedBar(
        width=width,
        height=height,
        css=[],
        js=[],
        no_prefix=True,
        margin=2,
        spacing=10,
        rounded_bars=2,
        show_legend=False,
        truncate_label=-1,
        min_scale=3,
        max_scale=5,
        value_formatter=_counted,
        style=style.Style(label_font_size=_FONT, major_label_font_size=_FONT, font_family="inherit"),
    )
    chart.x_labels = list(ticks)
    for name, values in series:
        chart.add(name, list(values))
    root: ET.Element = chart.render_tree()
    _strip(root, labels, [name for name, _ in series])
    root.set("class", f"chart {kind}")
    root.set("role", "img")
    root.set("aria-label", title)
    root.attrib.pop("id", None)
    return ET.tostring(root, encoding="unicode", method="xml")


def _counted(value: float) -> str:
    return f"{value:,.0f}"


def _pygal() -> tuple[Any, Any]:
    try:
        # By name, since it comes without types.
        found = import_module("pygal"), import_module("pygal.style")
    except ImportError:
        raise InvalidConfigurationError(missing_extra("report", "a report")) from None
    # It adds a finder without find_spec, which would make every later import in this process warn.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    return found


def _strip(root: ET.Element, labels: Sequence[str], names: Sequence[str]) -> None:
    """Remove everything but the shapes and the axes; the values of the bars become plain titles."""
    for parent in list(root.iter()):
        for child in list(parent):
            # A comment's tag is a function.
            if child.tag in {"defs", "title", "desc", ET.Comment} or "overlay" in child.get("class", ""):
                _tell(parent, child)
                parent.remove(child)
    for number, name in enumerate(names):
        for group in root.iter("g"):
            if f"serie-{number}" in group.get("class", "").split():
                for bar, label in zip(group.iter("rect"), labels, strict=False):
                    told = ET.SubElement(bar, "title")
                    told.text = f"{label}: {bar.attrib.pop('data-value', '')} {name}"


def _tell(parent: ET.Element, child: ET.Element) -> None:
    if child.tag == "desc" and child.get("class") == "value":
        for bar in parent.iter("rect"):
            bar.set("data-value", (child.text or "").strip())
