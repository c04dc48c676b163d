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
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    frame = axes.get_window_extent()
    points = [axes.transData.transform(point) for point in obstacles]
    points += [axes.transData.transform((x, y)) for x, y, _ in labels]
    boxes = list(taken)
    for x, y, text in labels:
        best, cost = None, math.inf
        note = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", **style)
        for distance, angle in itertools.product(_DISTANCES, _DIRECTIONS):
            offset = _offset(distance, angle)
            note.set_position(offset)
            note.set_horizontalalignment(_side(offset[0], "left", "right"))
            note.set_verticalalignment(_side(offset[1], "bottom", "top"))
            box = note.get_window_extent().padded(1.5 * pixels)
            covered = _covered(box, boxes, points, frame)
            if covered + distance / 1000 < cost:
                best, cost = (offset, box), covered + distance / 1000
            if covered == 0:
                break
        assert best is not None
        note.remove()
        offset, box = best
        boxes.append(box)
        far = math.hypot(*offset) >= _LEADER_FROM
        axes.annotate(
            text,
            (x, y),
            offset,
            textcoords="offset points",
            ha=_side(offset[0], "left", "right"),
            va=_side(offset[1], "bottom", "top"),
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": "#9aa0a6"} if far else None,
            **style,
        )
    return boxes


def _offset(distance: float, angle: float) -> tuple[float, float]:
    radians = math.radians(angle)
    return distance * math.cos(radians), distance * math.sin(radians)


def _side(offset: float, positive: str, negative: str) -> Any:
    if abs(offset) < 1:
        return "center"
    return positive if offset > 0 else negative


def _covered(box: Bbox, taken: Sequence[Bbox], points: Sequence[Any], frame: Bbox) -> float:
    """How bad a place is: labels and points below the box, and what sticks out of the frame."""
    from matplotlib.transforms import Bbox

    overlaps = sum(2.0 for other in taken if Bbox.intersection(box, other) is not None)
    hidden = sum(1.0 for point in points if box.contains(*point))
    outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    return overlaps + hidden + (3.0 if outside else 0.0)
