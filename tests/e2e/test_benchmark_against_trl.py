"""`benchmarks/vs_trl.py` on a case of one's own, small: both sides make their step and the ratios
are theirs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vs_trl.py"


@pytest.mark.timeout(400)
def test_both_sides_make_the_same_number_of_tokens_and_the_ratio_is_of_their_seconds() -> None:
    shape = "--prompt 24 --group 4 --new 6 --prompts 2 --hidden 64 --layers 1"
    asked = f"{shape} --steps 1 --dtype float32 --json".split()
    run = subprocess.run(
        [sys.executable, str(SCRIPT), *asked], capture_output=True, text=True, env=os.environ, timeout=380
    )

    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)
    assert (found["prompts"], found["length"], found["members"], found["new"]) == (2, 24, 4, 6)
    for part in ("rollout", "update", "step"):
        assert found["ratio"][part] == pytest.approx(found["trl"][f"{part}_s"] / found["ours"][f"{part}_s"])
    for side in ("ours", "trl"):
        assert found[side]["tokens"] == 2 * 4 * 6
        assert found[side]["step_s"] == pytest.approx(found[side]["rollout_s"] + found[side]["update_s"])
        assert found[side]["peak_gb"] > 0
