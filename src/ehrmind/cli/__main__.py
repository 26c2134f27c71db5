"""`python -m ehrmind.cli`: the command line without an installed script."""

from ehrmind.cli import main

main()
