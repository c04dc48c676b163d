"""One of two processes that train methods together: ``python -m tests.methods.two_processes``.

Started with the variables that Lightning expects of processes that somebody else has started.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.methods.test_contract import TWO_PASSES, replayed, trained


def main() -> None:
    """Train each of the named methods in a folder of its own below the one that is given."""
    import torch

    torch.set_num_threads(1)
    top, *names = sys.argv[1:]
    for name in names:
        folder = Path(top) / name
        trained(name, folder, *replayed(name), *TWO_PASSES, "trainer.devices=2")


if __name__ == "__main__":
    main()
