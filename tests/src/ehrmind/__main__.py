"""`python -m ehrmind`: the command line, as torchrun starts it."""

from ehrmind.cli import main

if __name__ == "__main__":
    main()
