"""`python -m plankton_embed`, and the command `plankton-embed`."""

from plankton_embed.cli import main

if __name__ == "__main__":
    main()
