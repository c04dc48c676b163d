"""Deliver a run to MLflow in the background of its training."""

from __future__ import annotations

import logging
import shlex
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soc_ft.options import NonNegative, Positive, builds
from soc_ft.records.provenance import without_password
from soc_ft.tracking.address import TrackingURI, check_variable, default_uri, display_uri
from soc_ft.tracking.delivery import Delivery, backlog
from soc_ft.tracking.outbox import End, Outbox, Start
from soc_ft.tracking.store import RUN_DIR_TAG, reason

_MIN_PAUSE = 0.5
_MAX_PAUSE = 60.0
_ATTEMPTS = 3
"""That fail before the end of a run stops waiting: a full disk does not mend in seconds."""

_log = logging.getLogger(__name__)


class MLflowTracker:
    """Appends to the run folder, and lets a thread deliver it.

    Training never waits: a store that is dead, slow or not there yet only delays the delivery,
    which goes on when it answers, if need be in the next process that resumes the run.
    """

    def __init__(
        self,
        experiment: str = "soc_ft",
        uri: TrackingURI | None = None,
        path: str = "runs",
        run_name: str | None = None,
        interval: Positive = 2.0,
        flush_timeout: NonNegative = 30.0,
    ) -> None:
        """Say where to deliver; nothing is asked of MLflow before :meth:`start`.

        Args:
            experiment: name of the MLflow experiment.
            uri: tracking URI; None takes ``MLFLOW_TRACKING_URI``, or else an SQLite database.
            path: folder of that database; artifacts go beside it.
            run_name: None lets MLflow invent one.
            interval: seconds between deliveries; after a failure the wait doubles up to a minute.
            flush_timeout: seconds that the end of a run waits for the delivery; a store that keeps
                failing is not waited for.
        """
        self.uri = uri or default_uri(Path(path))
        self.experiment = experiment
        self.run_name = run_name
        self._interval = interval
        self._flush_timeout = flush_timeout
        self._run_dir = Path()
        self._outbox: Outbox | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._requested = 0
        self._delivered = 0
        self._failures = 0
        self._flushing = False
        self._closing = False
        self._problem: str | None = None

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str) -> None:
        """Check the address that the environment gives, where the configuration gives none.

        Args:
            arguments: of the constructor, whose types are checked already.
            key: of the tracker in the configuration.

        Raises:
            ConfigError: MLflow has no store for it.
        """
        if not arguments.get("uri"):
            check_variable()

    def start(
        self,
        run_dir: Path,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        resumed: bool = False,
        sweep_folder: Path | None = None,
    ) -> None:
        """Write down that the run begins, and start the thread that delivers.

        Args:
            run_dir: the run folder.
            params: flat; passwords in addresses are left out of what is kept.
            tags: flat, likewise.
            resumed: whether the run goes on; if not, what other params left there is forgotten.
            sweep_folder: of the sweep that the run is a job of.
        """
        self._run_dir = run_dir
        self._outbox = Outbox(run_dir)
        params = {key: without_password(value) for key, value in params.items()}
        tags = dict(tags) | {RUN_DIR_TAG: str(run_dir.absolute())}
        if not resumed and self._outbox.last_params() != params:
            self._outbox.clear()
        self._outbox.put(
            Start(
                uri=without_password(self.uri),
                experiment=self.experiment,
                run_name=self.run_name and without_password(self.run_name),
                sweep_folder=None if sweep_folder is None else str(sweep_folder.absolute()),
                params=params,
                tags={key: without_password(value) for key, value in tags.items()},
            )
        )
        # It sleeps until there is a first record, so that the seconds which importing MLflow
        # takes do not compete with the imports of the start.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Wake the thread; returns at once."""
        with self._changed:
            self._requested += 1
            self._changed.notify_all()

    def upload(self, path: Path, folder: str | None = None, name: str | None = None) -> None:
        """Queue a file, which goes to ``folder`` among the artifacts, as ``name`` or its own."""
        assert self._outbox is not None
        self._outbox.put_file(path, folder, name)

    def end(self, status: str) -> None:
        """Queue the end: FINISHED, FAILED or KILLED."""
        assert self._outbox is not None
        self._outbox.put(End(status))

    def flush(self, timeout: float | None = None) -> str:
        """Wait up to ``timeout`` seconds for the delivery, None as long as configured.

        Returns:
            One line: where everything is, or what is missing and the command that delivers it.
        """
        self.notify()
        timeout = self._flush_timeout if timeout is None else timeout
        with self._changed:
            request = self._requested
            hopeless = self._failures + _ATTEMPTS
            self._flushing = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._delivered >= request or self._failures >= hopeless, timeout
            )
            done = self._delivered >= request
            self._flushing = False
        if done:
            shown = display_uri(self.uri)
            local = shown.startswith("sqlite:")
            browse = f"; to browse it: mlflow ui --backend-store-uri {shown}" if local else ""
            return f"MLflow: everything is delivered to {shown}{browse}"
        cause = self._problem or f"not done within {timeout:g} s"
        return (
            f"MLflow: {backlog(self._run_dir)} are not delivered ({cause}); to deliver them: "
            f"python -m soc_ft.tracking {shlex.quote(str(self._run_dir))}"
        )

    def close(self) -> None:
        """Stop the thread; a request that is under way gets one more second."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _work(self) -> None:
        delivery = Delivery(self._run_dir, self.uri)
        pause = self._interval
        while self._awaits_work(pause):
            request = self._requested
            try:
                delivery.deliver()
            except Exception as error:  # whatever it is, it must not reach the training
                self._report(error)
                pause = min(2 * pause, _MAX_PAUSE)
            else:
                self._confirm(request)
                pause = self._interval
        delivery.close()

    def _awaits_work(self, pause: float) -> bool:
        """Wait for something to deliver, and then for more of it; False when closing."""
        with self._changed:
            if self._problem is not None:
                self._changed.wait_for(lambda: self._closing, _MIN_PAUSE)
            self._changed.wait_for(lambda: self._closing or self._requested > self._delivered)
            self._changed.wait_for(lambda: self._closing or self._flushing, pause)
            return not self._closing

    def _confirm(self, request: int) -> None:
        with self._changed:
            if self._problem is not None:
                _log.info("MLflow answers again")
            self._problem = None
            self._delivered = request
            self._changed.notify_all()

    def _report(self, error: Exception) -> None:
        with self._changed:
            first_time = self._problem is None
            self._problem = reason(error)
            self._failures += 1
            self._changed.notify_all()
        if first_time:
            _log.warning(
                "MLflow at %s: %s. Training goes on; delivery will be tried again.",
                display_uri(self.uri),
                self._problem,
            )


@builds("tracker")
def no_tracker() -> None:
    """The tracker of ``tracking=none``: the run folder alone."""
