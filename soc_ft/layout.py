"""The names of all files and folders of a run and of a sweep, each once."""

from __future__ import annotations

# Of a run.
CONFIG_FILE = "config.yaml"
EXPORT_FOLDER = "model"
CHECKPOINT_FOLDER = "checkpoints"
LAST_CHECKPOINT = "last.ckpt"
OVERRIDES_FILE = "overrides.yaml"
CHOICES_FILE = "choices.yaml"
JOURNAL_FILE = "metrics.jsonl"
RESULTS_FILE = "results.json"
STATISTICS_FILE = "reward_statistics.yaml"
"""Mean and deviation of each part of the reward, if it is standardised by them."""
CURVES_FILE = "curves.png"
EVALUATION_FOLDER = "evaluation"
METRICS_FILE = "metrics.csv"
"""Of an evaluation: means and errors of every sampling, model and metric."""
EXACT_FILE = "exact.json"
"""Of an evaluation: the optimum at each lambda, and the run beside it."""
BASE_REWARDS_FILE = "base_rewards.safetensors"
"""Beside it: what it was computed from, for runs of the same law."""
BUFFER_FOLDER = "buffer"
"""Below the checkpoints: the samples that each process held when the last one was written."""
FEEDBACK_FOLDER = "feedback"
"""Answers of the reward about pictures that it was asked about, stage by stage."""
BEST_WEIGHTS = "best.safetensors"
SAMPLE_FOLDER = "samples"
BASE_PICTURES, LATEST_PICTURES = "base", "latest"
"""Below the sample folder: single pictures of the sheet, for sheets that compare runs."""
SHEET_PROMPTS_FILE = "prompts.json"
RUN_LOCK = ".running"
"""Locked by the process that trains in the folder; see :mod:`.lock`."""

# Of a run's delivery to MLflow, below its folder.
TRACKING_FOLDER = "tracking"
OUTBOX_FILE = "outbox.jsonl"
DELIVERY_FILE = "state.json"
DELIVERY_LOCK = "lock"

# Of a run that is a job of a sweep.
JOB_FILE = "job.yaml"
STATUS_FILE = "status.json"
SUBMISSIONS_FILE = "submissions.jsonl"
LOG_FILE = "log.txt"

# Of a sweep.
SWEEP_FILE = "sweep.json"
CODE_FOLDERS = "code-"
"""Followed by a number: copies of the code that jobs run."""
CODE_TAGS_FILE = "tags.json"
LAUNCHER_LOCK = ".launcher"
"""Locked by the process that runs the jobs of a sweep on this machine, one after the other."""
SWEEP_RUN_FILE = ".mlflow_sweep"
SWEEP_JOBS_FILE = f"{SWEEP_RUN_FILE}.jobs"
SWEEP_RUN_LOCK = f"{SWEEP_RUN_FILE}.lock"


def sheet_name(step: int) -> str:
    """File of the sample sheet of an optimizer step."""
    return f"step-{step:06d}.png"


def weights_name(step: int) -> str:
    """File of the weights that are kept of an optimizer step."""
    return f"step-{step:06d}.safetensors"
