"""Number of processor cores that this process may use, of those of the machine.

`os.cpu_count()` counts the machine's cores. A batch system (SLURM, `taskset`, a cpuset) lends some of them
through the affinity mask, and a container (`docker run --cpus 2`, Kubernetes, systemd's CPUQuota) lends time
on all of them through a quota of its control group.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")
"""The folder in which Linux describes this process."""


def available_cores(proc: Path = PROC) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the size of the affinity mask, or the quota of the control groups rounded up if that is smaller.
    Where Python knows `os.process_cpu_count`, the count also follows `PYTHON_CPU_COUNT`.
    """
    return max(1, min([_allowed_cores(), *(math.ceil(quota) for quota in _find_quotas(proc))]))


def _allowed_cores() -> int:
    """Return the number of cores in the affinity mask; all of them where the system has no such mask."""
    count = getattr(os, "process_cpu_count", None)  # Python 3.13
    if count is not None:
        return count() or 1
    mask = getattr(os, "sched_getaffinity", None)  # Linux
    return len(mask(0)) if mask is not None else os.cpu_count() or 1


def _find_quotas(proc: Path) -> Iterator[float]:
    """Yield the quota in cores of each control group around this process, of either version."""
    try:
        groups = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (proc / "mountinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return  # another system than Linux
    for line in groups:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for folder in _group_folders(mounts, group, version_2=not controllers):
            quota = _read_quota(folder) if controllers else _read_quota_2(folder)
            if quota is not None:
                yield quota


def _group_folders(mounts: list[str], group: str, version_2: bool) -> Iterator[Path]:
    """Yield the folder of control group `group` and those of the groups around it, up to the mount point.

    A line of mountinfo: `31 23 0:28 ROOT POINT OPTIONS [OPTIONAL…] - TYPE SOURCE SUPER-OPTIONS`.
    """
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] != "cgroup2" if version_2 else kind[0] != "cgroup" or "cpu" not in kind[2].split(","):
            continue
        root, point = PurePosixPath(fields[3]), Path(fields[4])
        path = PurePosixPath(group)
        # A container sees its own group as the mount's root, and often the host's name for it in its cgroup.
        inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
        if ".." in inside.parts:
            inside = PurePosixPath()
        yield from (point / part for part in (inside, *inside.parents))


def _read_quota_2(folder: Path) -> float | None:
    """Return the quota of `cpu.max` ("200000 100000": two cores), or None if there is no limit."""
    try:
        limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no such file in the root group, or "max"


def _read_quota(folder: Path) -> float | None:
    """Return the quota of version 1 (`cpu.cfs_quota_us` of each `cpu.cfs_period_us`), or None without one."""
    try:
        limit = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return limit / period if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
