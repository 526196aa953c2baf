"""A device that pretends to compute while this process goes on, so that a GPU's ways run on a CPU."""

import pytest

from flames_cli.learn import batches, epochs, local_updates
from flames_cli.learn.device_shard import DeviceShards


def pretend_asynchronous(monkeypatch: pytest.MonkeyPatch, free_bytes: int = 2**30) -> None:
    """Make training take a CPU for a GPU with `free_bytes` of free memory."""
    for module in (batches, epochs, local_updates):
        monkeypatch.setattr(module, "is_async", lambda _: True)
    monkeypatch.setattr(batches, "SHARDS", DeviceShards(lambda _: free_bytes))
