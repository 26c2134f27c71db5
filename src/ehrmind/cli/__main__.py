"""Runs the command line without an installed script: `python -m ehrmind.cli`."""

from ehrmind.cli import main

if __name__ == "__main__":
    main()
