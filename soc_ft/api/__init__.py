"""The Python API: what the commands do, from a script or a notebook.

Nothing heavy is imported before it is used.
"""

from soc_ft.api.fine_tuning import FineTuned, fine_tune
from soc_ft.api.loading import load_model
from soc_ft.api.measuring import Evaluation, evaluate
from soc_ft.api.sampling import sample

__all__ = ["Evaluation", "FineTuned", "evaluate", "fine_tune", "load_model", "sample"]
