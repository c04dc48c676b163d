"""Labels in a plot that keep out of each other's way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_DISTANCES = (7.0, 12.0, 18.0, 26.0, 36.0, 48.0, 64.0)
_DIRECTIONS = (0, 45, -45, 90, -90, 135, -135, 180)
_LEADER_FROM = 18.0
_HORIZONTAL: dict[int, Any] = {1: "left", 0: "center", -1: "right"}
_VERTICAL: dict[int, Any] = {1: "bottom", 0: "center", -1: "top"}
_BEFORE = {1: 0.0, 0: -0.5, -1: -1.0}
"""Share of a label's size that lies left of, or below, where it is written."""


def place_labels(
    axes: Axes,
    labels: Sequence[tuple[float, float, str]],
    obstacles: Sequence[tuple[float, float]] = (),
    taken: Sequence[Bbox] = (),
    **style: Any,
) -> list[Bbox]:
    """Write each label near its point, where it covers neither labels nor points.

    Labels are placed one by one, the first have the choice. A thin line leads to a label that had
    to go far away.

    Args:
        axes: of a figure whose layout and limits are final.
        labels: (x, y, text) in data coordinates.
        obstacles: further points that stay visible.
        taken: where labels stand already.
        style: of the text.

    Returns:
        Where labels stand now.
    """
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    frame = axes.get_window_extent()
    points = [axes.transData.transform(point) for point in obstacles]
    points += [axes.transData.transform((x, y)) for x, y, _ in labels]
    boxes = list(taken)
    for x, y, text in labels:
        note = axes.annotate(text, (x, y), **style)
        size = note.get_window_extent()
        place = axes.transData.transform((x, y))
        best, box, cost = (0.0, 0.0), size, math.inf
        for distance, angle in itertools.product(_DISTANCES, _DIRECTIONS):
            offset = _offset(distance, angle)
            left = place[0] + offset[0] * pixels + _BEFORE[_side(offset[0])] * size.width
            low = place[1] + offset[1] * pixels + _BEFORE[_side(offset[1])] * size.height
            tried = Bbox.from_bounds(left, low, size.width, size.height).padded(1.5 * pixels)
            covered = _covered(tried, boxes, points, frame)
            if covered + distance / 1000 < cost:
                best, box, cost = offset, tried, covered + distance / 1000
            if covered == 0:
                break
        note.remove()
        boxes.append(box)
        far = math.hypot(*best) >= _LEADER_FROM
        axes.annotate(
            text,
            (x, y),
            best,
            textcoords="offset points",
            ha=_HORIZONTAL[_side(best[0])],
            va=_VERTICAL[_side(best[1])],
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": "#9aa0a6"} if far else None,
            **style,
        )
    return boxes


def _offset(distance: float, angle: float) -> tuple[float, float]:
    radians = math.radians(angle)
    return distance * math.cos(radians), distance * math.sin(radians)


def _side(offset: float) -> int:
    """Of its point a label is on: 1 right or above, -1 left or below, 0 neither."""
    return 0 if abs(offset) < 1 else int(math.copysign(1, offset))


def _covered(box: Bbox, taken: Sequence[Bbox], points: Sequence[Any], frame: Bbox) -> float:
    """How bad a place is: labels and points below the box, and what sticks out of the frame."""
    overlaps = sum(2.0 for other in taken if box.overlaps(other))
    hidden = sum(1.0 for point in points if box.contains(*point))
    outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    return overlaps + hidden + (3.0 if outside else 0.0)
