"""``python -m soc_ft.weights``: download what is needed; the same as ``soc-ft weights``."""

from soc_ft.commands.weights import main

if __name__ == "__main__":
    main()
