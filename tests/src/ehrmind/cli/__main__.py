"""`python -m ehrmind.cli`: the command line without an installed script."""

from ehrmind.cli import main

if __name__ == "__main__":
    main()
