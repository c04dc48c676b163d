"""Links that open MLflow's page where the jobs of a sweep are side by side.

MLflow's page keeps a view that somebody shares (columns, filter, grouping) in a tag of the
experiment, and finds it again by the key in the address. Such a tag is written here for each sweep:
its table and its curves then show the sweep's jobs alone, with means over the seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from soc_ft.records.identity import deciding, is_below
from soc_ft.tracking.headline import HEADLINE
from soc_ft.tracking.store import PARENT_TAG, TrackedRun

VIEW_TAG = "mlflow.sharedViewState."
METRICS = ("reward", "gain", "control_cost", "diversity", "accuracy")
MAX_COMPARED = 20
MAX_VARIED = 3

_MEASURED = "^val/((?!_error).)*$"
_PAGE = "workflowType=machine_learning"  # the half of MLflow's page that is about training


def sweep_view(parent: str, jobs: Sequence[TrackedRun]) -> tuple[str, str]:
    """Tag of the experiment, key and value, that says how the page shows the jobs of a sweep."""
    varied = varied_params([job.params for job in jobs])
    state = {
        "searchFilter": f"tags.`{PARENT_TAG}` = '{parent}'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": [
            *(f"params.`{name}`" for name in [*varied, "seed"]),
            *(f"metrics.`val/{name}`" for name in METRICS),
        ],
        "chartsSearchFilter": _MEASURED,
    }
    settings = {tuple(job.params.get(name) for name in varied) for job in jobs}
    if varied and len(settings) < len(jobs):
        keys = [{"mode": "param", "groupByData": name} for name in varied]
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": keys}
    return f"{VIEW_TAG}{parent}", json.dumps(state)


def varied_params(params: Sequence[Mapping[str, str]]) -> list[str]:
    """What tells jobs apart, besides the seed: a few params, those of every run first.

    Params below a varied one are left out: ``cfg_mode`` says what ``cfg_mode.guidance_scale`` does.
    """
    names = [*HEADLINE, *sorted({name for each in params for name in deciding(each)})]
    found: list[str] = []
    for name in dict.fromkeys(names):
        differs = len({each.get(name) for each in params}) > 1
        if differs and not is_below(name, [*found, "seed"]):
            found.append(name)
    return found[:MAX_VARIED]


def links(experiment_id: str, parent: str, jobs: Sequence[TrackedRun], report: str) -> str:
    """Markdown for the page of a sweep: its report, its jobs as a table and as curves, compared.

    Args:
        experiment_id: of the experiment that all these runs are in.
        parent: id of the sweep's run.
        jobs: its jobs' runs; more than ``MAX_COMPARED`` are not compared by all parameters.
        report: path of the report among the artifacts of the sweep's run.
    """
    runs = f"#/experiments/{experiment_id}/runs"
    shared = f"viewStateShareKey={parent}&{_PAGE}"
    pages = {
        "report": f"{runs}/{parent}/artifacts/{report}?{_PAGE}",
        "table of the jobs": f"{runs}?{shared}",
        "curves": f"{runs}?{shared}&compareRunsMode=CHART",
    }
    if len(jobs) <= MAX_COMPARED:
        pages["all parameters"] = compare_page(experiment_id, [job.run_id for job in jobs])
    return " · ".join(f"[{name}]({page})" for name, page in pages.items())


def compare_page(experiment_id: str, run_ids: Sequence[str]) -> str:
    """Address of MLflow's page that compares runs, after that of the server."""
    runs, experiments = _quoted(run_ids), _quoted([experiment_id])
    return f"#/compare-runs?runs={runs}&experiments={experiments}&{_PAGE}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Address of the page of a run, after that of the server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_PAGE}"


def _quoted(items: Sequence[str]) -> str:
    return quote(json.dumps(list(items), separators=(",", ":")))
