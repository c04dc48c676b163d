"""``python -m soc_ft``: the same as ``soc-ft``."""

from soc_ft.commands.main import main

if __name__ == "__main__":
    main()
