"""``python -m soc_ft.sample``: pictures from a run; the same as ``soc-ft sample``."""

from soc_ft.commands.sample import main

if __name__ == "__main__":
    main()
