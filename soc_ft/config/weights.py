"""Downloading the weights that a configuration needs, ahead of the run."""

from __future__ import annotations

from soc_ft.config.checks import scorers_of
from soc_ft.config.components import component_class, components_in
from soc_ft.config.schema import RunConfig
from soc_ft.models.availability import locate
from soc_ft.rewards.base import Downloads


def download_all(run: RunConfig) -> None:
    """Download what is not there: weights of the reward, of the metrics and of the model.

    Raises:
        ConfigError: they cannot be had.
    """
    for value, section, kind in scorers_of(run):
        for key, component in components_in(value, section):
            found = component_class(component, key, kind)
            if isinstance(found, Downloads):
                print(f"{key}: {component.target}", flush=True)
                found.download(component.arguments)
    given = run.model.model_extra or {}
    path, revision, variant = given["path"], given.get("revision"), given.get("variant")
    if locate(path, revision, variant).kind == "hub":
        print(f"model.path={path}", flush=True)
        from soc_ft.models.pipelines import download

        download(path, revision, variant)
    print("all weights are here")
