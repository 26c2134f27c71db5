"""Command line: verbs, no logic. `main` is the entry point; each verb imports the libraries it
uses."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code (`app.main`).

    A broken package, or Ctrl-C before the first command, is reported here in one sentence.
    """
    try:
        if arguments is None:  # the process is ours
            from ehrmind.cli.quiet import withhold_texts

            withhold_texts()
        from ehrmind.cli.app import main as run
    except ImportError as error:
        package = (error.name or "").partition(".")[0] or "that is needed"
        sys.stderr.write(
            f"ehrmind: the package {package} is missing or broken; install ehrmind again, with constraints.txt.\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("ehrmind: stopped by the keyboard; nothing was begun, so give the same command again.\n")
        sys.exit(130)
    run(arguments)


__all__ = ["main"]
