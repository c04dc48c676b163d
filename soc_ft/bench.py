"""``python -m soc_ft.bench``: what an optimizer step costs; the same as ``soc-ft bench``."""

from soc_ft.commands.bench import main

if __name__ == "__main__":
    main()
