"""Messages among workers, in processes of their own over gloo."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ehrmind.types import InputError
from ehrmind.world import ALONE, World, current
from tests.torchrun import torchrun

TALK = """
import json, sys
from pathlib import Path
from ehrmind.types import InputError
from ehrmind.world import current, joined

def refuse():
    raise InputError("The file is not there; bring it.")

with joined("cpu") as world:
    heard = {"who": [world.rank, world.size, world.first, list(world.block(6))]}
    heard["gathered"] = world.gather({"of": world.rank, "figures": [0.1] * world.rank})
    heard["bytes"] = [len(message) for message in world.gather(b"x" * (world.rank * 70000))]
    heard["made"] = world.from_first(lambda: {"by": world.rank, "alone": current().size, "within": current().gather(1)})
    try:
        world.from_first(refuse)
    except InputError as error:
        heard["refused"] = str(error)
    heard["after"] = world.gather(world.rank)
    Path(sys.argv[1], f"{world.rank}.json").write_text(json.dumps(heard))
assert current().size == 1
"""


ONE_FAILS = """
import os, sys, time
from ehrmind.cli.errors import say
from ehrmind.types import InputError
from ehrmind.world import joined

try:
    with joined("cpu") as world:
        if world.rank == 1:
            raise InputError("This worker's file is not there; bring it.") if sys.argv[1] == "refuses" else os.kill(os.getpid(), 9)
        world.gather("in vain")
except Exception as error:
    sys.exit(say(error))
"""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("how", ["refuses", "dies"])
def test_an_error_of_one_worker_ends_all_with_one_sentence(tmp_path: Path, how: str) -> None:
    (tmp_path / "fail.py").write_text(ONE_FAILS)
    started = time.monotonic()
    done = torchrun(2, [str(tmp_path / "fail.py"), how])
    assert done.returncode != 0 and time.monotonic() - started < 60
    said = [line for line in done.stderr.splitlines() if line.startswith("ehrmind: ")]
    if how == "refuses":
        assert said == ["ehrmind: This worker's file is not there; bring it."]
    else:  # torchrun may end the other one before it has noticed that it is alone
        assert not said or (len(said) == 1 and said[0].startswith("ehrmind: Another worker was lost")), said


def test_one_process_is_alone() -> None:
    assert current() == ALONE == World(0, 1)
    assert (
        ALONE.first
        and ALONE.gather("mine") == ["mine"]
        and ALONE.from_first(lambda: 3) == 3
        and list(ALONE.block(2)) == [0, 1]
    )


def test_shards_are_held_in_blocks_and_only_evenly() -> None:
    assert [list(World(rank, 3).block(6)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(InputError, match=r"shards=4 .* cluster.workers=3"):
        World(0, 3).block(4)


@pytest.mark.slow
def test_workers_hear_each_other_in_order_and_refuse_together(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text(TALK)
    done = torchrun(2, [str(tmp_path / "talk.py"), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        heard = json.loads((tmp_path / f"{rank}.json").read_text())
        assert heard.pop("who") == [rank, 2, rank == 0, [[0, 1, 2], [3, 4, 5]][rank]]
        assert heard == {
            "gathered": [{"of": 0, "figures": []}, {"of": 1, "figures": [0.1]}],
            "bytes": [0, 70000],
            "made": {"by": 0, "alone": 1, "within": [1]},
            "refused": "The file is not there; bring it.",
            "after": [0, 1],
        }
