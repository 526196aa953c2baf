import tempfile

import pytest

from flames_cli.fed.engines import ray
from flames_cli.fed.engines.ray import Resources


@pytest.mark.parametrize(
    ("cpus", "per_client", "gpus", "per_gpu", "simultaneous"),
    [(8, 1, 0, 1, 8), (8, 3, 0, 1, 2), (2, 2, 0, 5, 1), (16, 1, 2, 3, 6), (4, 1, 2, 3, 4), (16, 1, 1, 1, 1)],
)
def test_as_many_clients_train_simultaneously_as_cpus_and_gpus_allow(
    cpus, per_client, gpus, per_gpu, simultaneous, monkeypatch
):
    monkeypatch.setattr(ray, "available_cores", lambda: cpus)
    assert Resources(200, per_client, per_gpu, gpus).simultaneous == simultaneous


@pytest.mark.parametrize(("gpus", "share"), [(0, 0.0), (1, 0.25), (2, 0.25)])
def test_flower_gets_the_part_of_a_gpu_that_a_client_uses(gpus, share, monkeypatch):
    monkeypatch.setattr(ray, "available_cores", lambda: 6)
    assert ray._federation_config(Resources(5, 2, 4, gpus)) == {
        "num_supernodes": 5,
        "client_resources_num_cpus": 2,
        "init_args_num_cpus": 6,
        "client_resources_num_gpus": share,
    }


def test_ray_keeps_its_sockets_out_of_a_long_folder(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/ü")
    assert ray._short_folder() == {}
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/slurm/job.1234567/" + "ü" * 10)
    assert ray._short_folder() == {"RAY_TMPDIR": "/tmp"}
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/r")
    assert ray._short_folder() == {}
