"""Labels of points stay readable where points are crowded."""

from __future__ import annotations

import itertools

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from soc_ft.plotting.labels import place_labels
from soc_ft.plotting.plots import new_figure


def crowd() -> tuple[Axes, list[tuple[float, float, str]]]:
    """Nine labels within a fifth of each axis."""
    axes = new_figure(6, 4).add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = itertools.product((0.4, 0.5, 0.6), (0.4, 0.5, 0.6))
    return axes, [(x, y, f"setting={n}") for n, (x, y) in enumerate(points)]


def test_labels_cover_neither_each_other_nor_points() -> None:
    """Breaks if labels are written to the right of their points whatever is there."""
    axes, labels = crowd()
    boxes = place_labels(axes, labels)
    assert len(boxes) == len(labels) == len(axes.texts)
    for one, other in itertools.combinations(boxes, 2):
        assert Bbox.intersection(one, other) is None
    for x, y, _ in labels:
        point = axes.transData.transform((x, y))
        assert not any(box.contains(*point) for box in boxes)
    for box, text in zip(boxes, axes.texts, strict=True):
        text.arrowprops = text.arrow_patch = None  # a line would count as part of the text
        written = text.get_window_extent()
        assert box.x0 <= written.x0 < written.x1 <= box.x1
        assert box.y0 <= written.y0 < written.y1 <= box.y1


def test_labels_stay_inside_the_frame() -> None:
    """Breaks if the label of the rightmost point is cut off at the edge of the picture."""
    axes, _ = crowd()
    (box,) = place_labels(axes, [(0.99, 0.99, "a long label in the corner")])
    frame = axes.get_window_extent()
    assert box.x1 <= frame.x1
    assert box.y1 <= frame.y1


def test_labels_keep_away_from_those_that_are_there() -> None:
    """Breaks if a second round of labels is written over the first."""
    axes, labels = crowd()
    first = place_labels(axes, labels[:1])
    both = place_labels(axes, labels[:1], taken=first)
    assert Bbox.intersection(both[0], both[1]) is None
