"""Reports of sweeps: runs read from disk, averaged over seeds, drawn, and written.

:mod:`.reading` takes a sweep from its folder, :mod:`.settings` finds the runs that repeat each
other, :mod:`.aggregating` averages these, :mod:`.curves` their journals. :mod:`.reward_plots`,
:mod:`.curve_plots` and :mod:`.pictures` draw, :mod:`.content` says what a report consists of, as a
:mod:`.document`, which :mod:`.markdown` and :mod:`.html` write. Nothing is imported here: every
command knows :mod:`.callback`, and few need the rest.
"""
