"""``python -m soc_ft.evaluate``: scores of a model; the same as ``soc-ft evaluate``."""

from soc_ft.commands.evaluate import main

if __name__ == "__main__":
    main()
