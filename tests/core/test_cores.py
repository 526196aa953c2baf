"""Cores that a job or a container may use, read from a made-up /proc and control groups."""

import os

import pytest

from flames_cli.core import cores
from flames_cli.core.cores import available_cores


@pytest.fixture(autouse=True)
def _machine_of_64_cores(monkeypatch):
    monkeypatch.setattr(cores, "_allowed_cores", lambda: 64)


def describe(folder, group, mounts):
    """Write `cgroup` and `mountinfo` of a process as Linux shows them."""
    (folder / "cgroup").write_text(group)
    lines = [
        f"31 23 0:28 {root} {point} rw,nosuid shared:9 - {kind} none {options}"
        for root, point, kind, options in mounts
    ]
    (folder / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "\n".join(lines))
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_process_may_use_the_cores_of_its_affinity_mask(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    assert available_cores(tmp_path) == 3


def test_newer_pythons_count_the_cores_of_the_process_themselves(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(os, "process_cpu_count", lambda: 6, raising=False)
    assert available_cores(tmp_path) == 6


@pytest.mark.parametrize(("machine", "expected"), [(12, 12), (None, 1)])
def test_a_system_without_affinity_masks_gives_all_cores(machine, expected, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    assert available_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("20000 100000", 1),
        ("max 100000", 64),
        ("9900000 100000", 64),
    ]
    + [(text, 64) for text in ("max 100000", "", "many 100000", "100000 0")],
)
def test_a_quota_of_version_2_is_rounded_up_to_cores(limit, expected, tmp_path):
    write(tmp_path / "cg/job/cpu.max", limit)
    assert (
        available_cores(describe(tmp_path, "0::/job\n", [("/", tmp_path / "cg", "cgroup2", "rw")]))
        == expected
    )


def test_the_smallest_quota_of_the_groups_around_a_process_counts(tmp_path):
    write(tmp_path / "cg/slice/job/cpu.max", "800000 100000\n")
    write(tmp_path / "cg/slice/cpu.max", "400000 100000\n")
    proc = describe(tmp_path, "0::/slice/job/step\n", [("/", tmp_path / "cg", "cgroup2", "rw,nsdelegate")])
    assert available_cores(proc) == 4


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [("300000", "100000", 3), ("50000", "100000", 1), ("-1", "100000", 64)]
)
def test_a_quota_of_version_1_is_rounded_up_to_cores(quota, period, expected, tmp_path):
    write(tmp_path / "cpu/job/cpu.cfs_quota_us", quota)
    write(tmp_path / "cpu/job/cpu.cfs_period_us", period)
    group = "12:cpuset:/other\n4:cpu,cpuacct:/job\n0::/\n"
    mounts = [
        ("/", tmp_path / "cpuset", "cgroup", "rw,cpuset"),
        ("/", tmp_path / "cpu", "cgroup", "rw,cpu,cpuacct"),
    ]
    assert available_cores(describe(tmp_path, group, mounts)) == expected


@pytest.mark.parametrize("group", ["/docker/4f1c", "/", "/../../kubepods/4f1c", "/elsewhere"])
def test_a_container_sees_its_own_group_as_the_root_of_the_mount(group, tmp_path):
    write(tmp_path / "cg/cpu.max", "150000 100000")
    mounts = [("/docker/4f1c", tmp_path / "cg", "cgroup2", "rw")]
    assert available_cores(describe(tmp_path, f"0::{group}\n", mounts)) == 2


def test_broken_descriptions_leave_the_affinity_mask(tmp_path):
    (tmp_path / "cgroup").write_bytes(b"0\nx::\n\n0::/a\n")
    (tmp_path / "mountinfo").write_bytes(b"\xff - cgroup2\n1 2 3 - cgroup2 none rw\n")
    assert available_cores(tmp_path) == 64
    (tmp_path / "mountinfo").write_text("1 2 3 - cgroup2 none rw\n - \n\n1 2 0:1 / /x rw - cgroup2\n")
    assert available_cores(tmp_path) == 64
