"""`python -m tests.kills --n 200 --seed 0`: strikes commands at drawn moments, prints a table,
exits 1 if any did not come through.

With `unshare --map-root-user --mount` before it, where that is allowed, some commands meet a file
system that is really too small.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.kills.draws import run_draws


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--n", type=int, default=20, help="how many strikes")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", default="", help="commands whose name holds this")
    asked.add_argument("--without-models", action="store_true", help="leave out commands that open a model")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        tallies = run_draws(Path(folder), given.n, given.seed, given.only, torch=not given.without_models)
    print("| command | struck | resumed | refused | failed |\n| --- | --- | --- | --- | --- |")
    for name, tally in tallies.items():
        print(f"| {name} | {tally.struck} | {tally.resumed} | {tally.refused} | {len(tally.failed)} |")
    every = [sum(getattr(tally, key) for tally in tallies.values()) for key in ("struck", "resumed", "refused")]
    failed = [said for tally in tallies.values() for said in tally.failed]
    print(f"| all | {every[0]} | {every[1]} | {every[2]} | {len(failed)} |")
    print(*failed, sep="\n", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
