"""A recipe on a cluster of two nodes, Ray's own on this machine: the same run folder as without
one, whoever is lost on the way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from ehrmind.config import load_recipe
from ehrmind.runs import Run
from tests.e2e.losing import losing
from tests.e2e.recipes import DEMO, SMOKE, ehrmind

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]
FAULTS = ("warm-up", "sampling", "update", "checkpoint")
SETTINGS = [
    *SMOKE,
    "shards=2",
    "arms=[sft_rlvr]",
    "pilot.questions=7",
    "data.held_out.synthetic.n=7",
    "data.tuning.synthetic.n=7",
    "evaluate.decodings=[greedy]",
    "warmup.checkpoint_every=1",
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process, which holds both shards."""
    run = tmp_path_factory.mktemp("alone") / "run"
    done = ehrmind("run", DEMO, "--out", run, *SETTINGS)
    assert done.returncode == 0, done.stderr
    return Run(run)


def same(run: Run, other: Run) -> None:
    """The same answers and rewards, every one once; weights equal to 1e-5 and better, the same
    results."""
    columns = ("stage", "step", "case", "member", "text", "reward", "advantage")
    for stage in ("pilot", "rlvr-sft_rlvr", "evaluate-sft_rlvr-greedy"):
        rows = run.read_rollouts(stage).select(columns)
        assert rows.equals(other.read_rollouts(stage).select(columns))
        assert rows.height == rows.select("step", "case", "member").unique().height
    assert [(row.stage, row.step) for row in run.metrics()] == [(row.stage, row.step) for row in other.metrics()]
    for arm in ("sft", "sft_rlvr"):
        there = load_file(other.model(arm) / "model.safetensors")
        for name, values in load_file(run.model(arm) / "model.safetensors").items():
            assert abs(values - there[name]).max() <= 1e-5 * abs(there[name]).max(), name
    here, there = (json.loads((one.path / "results.json").read_text()) for one in (run, other))
    for figure in ("n", "correct", "accuracy", "ci95", "by_stratum"):
        assert here["arms"]["sft_rlvr"][figure] == there["arms"]["sft_rlvr"][figure]


def leftovers() -> set[Path]:
    return set(Path("/tmp").glob("ehrmind-*"))


@pytest.mark.long
def test_two_local_nodes_leave_what_one_process_leaves(alone: Run, tmp_path: Path) -> None:
    run, before = tmp_path / "run", leftovers()
    stale = {
        "RAY_ADDRESS": "192.0.2.1:6379",
        "RAY_AUTH_MODE": "disabled",
    }  # neither is heeded: no such cluster, no open one
    done = ehrmind("run", DEMO, "--out", run, "--cluster", "local:2", *SETTINGS, **stale)
    assert done.returncode == 0, done.stderr
    same(Run(run), alone)
    for split in ("train", "tuning", "held_out"):
        assert Run(run).cases(split).read_bytes() == alone.cases(split).read_bytes()
    assert (run / "report.html").is_file() and "page: " in done.stdout
    assert "rlvr-sft_rlvr 3/3" in done.stderr, "the first worker's progress is shown"
    assert not [line for line in done.stderr.splitlines() if "ray" in line.lower()], "and nothing of Ray's own"
    assert leftovers() == before


@pytest.mark.parametrize(
    "lost", [pytest.param(("sampling",), id="a worker"), pytest.param(FAULTS, id="all", marks=pytest.mark.long)]
)
def test_workers_and_a_node_that_are_lost_on_the_way_do_not_show_in_the_results(
    alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...]
) -> None:
    from ehrmind.cluster import run as cluster_run

    faults = tmp_path / "faults"
    faults.mkdir()
    for name in set(FAULTS) - set(lost):
        (faults / name).touch()  # has been
    monkeypatch.setenv("FAULTS", str(faults))
    monkeypatch.setattr(cluster_run, "run_recipe", losing)
    recipe = load_recipe(DEMO, [*SETTINGS, "cluster.address=local:2", f"cluster.restarts={len(lost)}"])
    with cluster_run.run_on_cluster(recipe, str(tmp_path / "run")) as run:
        assert sorted(path.name for path in faults.iterdir()) == sorted(FAULTS)
        same(run, alone)


@pytest.mark.long
def test_a_lost_head_ends_the_run_with_a_sentence_and_a_new_cluster_goes_on_from_the_object_store(
    alone: Run, tmp_path: Path
) -> None:
    url = f"local://{tmp_path}/store/run"
    command = ["run", str(DEMO), "--out", url, "--cluster", "local:2", *SETTINGS]
    started = subprocess.Popen([sys.executable, "-m", "ehrmind.cli", *command], stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    for line in started.stderr:
        if line.startswith("rlvr-sft_rlvr 1/"):
            break
    raylets = [child for child in psutil.Process(started.pid).children(recursive=True) if child.name() == "raylet"]
    min(raylets, key=lambda raylet: raylet.create_time()).send_signal(signal.SIGKILL)
    said = started.communicate(timeout=120)[1]
    assert started.returncode == 2 and said.splitlines()[-1].startswith("ehrmind: The cluster's head node was lost")
    there = tmp_path / "store" / "run"
    assert (there / "protected").stat().st_mode & 0o777 == 0o700
    assert not (there / "stages" / "rlvr-sft_rlvr.json").exists() and (there / "stages" / "warmup.json").is_file()
    refused = ehrmind(*command)
    assert refused.returncode == 2 and "already holds a run" in refused.stderr
    done = ehrmind(
        *command, "--cluster", "local:1", "--resume"
    )  # the last one counts: another cluster, of another size
    assert done.returncode == 0, done.stderr
    same(Run(there), alone)
    assert (there / "report.html").is_file() and f"page: {url}/report.html" in done.stdout


def test_what_a_person_can_mend_is_said_once_and_not_tried_again(tmp_path: Path) -> None:
    started = time.monotonic()
    done = ehrmind(
        "run", DEMO, "--out", tmp_path / "run", "--cluster", "local:1", *SETTINGS, f"model.name={tmp_path / 'nowhere'}"
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "nowhere" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - started < 120


@pytest.mark.long
def test_ctrl_c_takes_the_cluster_down(tmp_path: Path) -> None:
    before = leftovers()
    command = [
        sys.executable,
        "-m",
        "ehrmind.cli",
        "run",
        str(DEMO),
        "--out",
        str(tmp_path / "run"),
        "--cluster",
        "local:2",
        *SETTINGS,
    ]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not [
        child for child in psutil.Process(started.pid).children(recursive=True) if "RayTrainWorker" in child.name()
    ]:
        assert started.poll() is None
        time.sleep(0.2)
    children = psutil.Process(started.pid).children(recursive=True)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert started.wait(timeout=60) == 130
    assert not psutil.wait_procs(children, timeout=20)[1] and leftovers() == before
