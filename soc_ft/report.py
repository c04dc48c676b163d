"""``python -m soc_ft.report``: state and results of a sweep; the same as ``soc-ft report``."""

from soc_ft.commands.report import main

if __name__ == "__main__":
    main()
