"""Who may join a cluster, and what is said to those who may not; files read there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from ehrmind.cluster.local import LocalCluster, local_cluster
from ehrmind.config import Cluster, EhrFiles
from ehrmind.data import save_cases
from ehrmind.data.ehr import read_ehr
from ehrmind.data.synthetic import synthetic_cases
from ehrmind.data.synthetic.cohort import write_cohort
from ehrmind.types import InputError
from tests.e2e.recipes import DEMO, SMOKE, ehrmind
from tests.medcalc_cases import SHORT

BASE = DEMO.parent / "demo_base"
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(nodes=2, cpus=1) as started:
        yield started


def attempt(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ehrmind.cluster.attempt", address]
    settings = {**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "2", **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


def test_a_client_without_the_token_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    assert attempt(cluster.address).returncode == 0
    (tmp_path / "token").write_text("0" * 64)
    for stranger in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}):
        refused = attempt(cluster.address, **stranger)
        assert refused.returncode != 0 and "InvalidAuthToken" in refused.stderr


def test_what_ray_writes_is_its_users_alone(cluster: LocalCluster) -> None:
    private = Path(os.environ["RAY_TMPDIR"])
    assert private.stat().st_mode & 0o777 == 0o700
    assert Path(os.environ["RAY_AUTH_TOKEN_PATH"]).stat().st_mode & 0o777 == 0o600
    assert (private / "ray").is_dir()


@pytest.mark.long
def test_a_prediction_joins_a_cluster_that_is_there_and_leaves_it_running(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    cases, joins, asked = (
        tmp_path / "cases.parquet",
        ["--cluster", cluster.address],
        ["part=8", "shards=2", "decoding.max_new_tokens=48"],
    )
    save_cases(synthetic_cases(20, seed=5, split="held_out", **SHORT), cases)
    there = ehrmind("predict", BASE, cases, "--out", tmp_path / "there", *joins, "--workers", "2", *asked)
    assert there.returncode == 0, there.stderr
    assert ehrmind("predict", BASE, cases, "--out", tmp_path / "here", *asked).returncode == 0
    assert (tmp_path / "there" / "predictions.parquet").read_bytes() == (
        tmp_path / "here" / "predictions.parquet"
    ).read_bytes()
    more = ehrmind("pilot", DEMO, "--out", tmp_path / "more", *joins, "shards=3", "cluster.workers=3")
    assert more.returncode == 2 and "2 CPUs, fewer than cluster.workers=3" in more.stderr
    assert attempt(cluster.address).returncode == 0


def test_a_wrong_token_is_said_in_one_sentence(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0" * 64)
    wrong = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    done = ehrmind("pilot", DEMO, "--out", tmp_path / "run", "--cluster", cluster.address, *SMOKE, **wrong)
    assert done.returncode == 2 and "asks for a token" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "Nothing answers at 127.0.0.1:9"),
        ("local:x", "is no cluster"),
        ("ray://head:10001", "is no cluster"),
    ],
)
def test_an_address_where_no_cluster_is_does_not_hang(address: str, said: str) -> None:
    from ehrmind.cluster.joined import joined

    with pytest.raises(InputError, match=said), joined(Cluster(address=address)):
        pass


def test_ray_data_makes_the_cases_that_one_process_makes(cluster: LocalCluster, tmp_path: Path) -> None:
    from ehrmind.cluster.data import each_on_ray
    from ehrmind.cluster.joined import joined
    from ehrmind.data.map_files import done_by

    write_cohort(tmp_path / "meds", 1200, seed=3, events_per_subject=40, labels_per_subject=2)  # three shards
    files = EhrFiles(meds=tmp_path / "meds", labels=tmp_path / "meds" / "labels" / "next_creatinine_high")
    torn = tmp_path / "meds" / "data" / "0001.parquet"
    with joined(Cluster(address=cluster.address)), done_by(each_on_ray):
        assert read_ehr(files) == _here(files)
        torn.write_bytes(torn.read_bytes()[:100])
        with pytest.raises(InputError, match=r"0001\.parquet is not a parquet file"):
            read_ehr(files)


def _here(files: EhrFiles) -> object:
    from ehrmind.data.map_files import done_by

    with done_by(map):
        return read_ehr(files)
