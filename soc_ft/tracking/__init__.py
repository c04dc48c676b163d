"""Record a run on disk and deliver the record to MLflow, which nothing else here depends on.

The run folder is the source of truth: ``metrics.jsonl`` holds the curves (:mod:`.journal`), the
folder ``tracking`` what MLflow is to be told and how far that got (:mod:`.outbox`,
:mod:`.delivery`). Training only ever appends to files; a background thread delivers
(:mod:`.mlflow_tracker`), and ``python -m soc_ft.tracking <run folder>`` delivers what is left.
"""
