"""Comparisons of weights, states and files."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

STATE_PARTS = ("server", "personal", "optimiser_state", "styles")


def assert_same(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], rtol: float = 0.0, atol: float = 0.0
) -> None:
    """Check that two state dicts have the same names in the same order, types and shapes, and the same values
    or, where a tolerance is given, close ones."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_allclose(found[name], array, rtol, atol, err_msg=name)


def assert_same_tree(found: Any, expected: Any) -> None:
    """Check that nested dicts have the same keys and, bit for bit, the same arrays."""
    ours, theirs = (dict(flat(tree)) for tree in (found, expected))
    assert ours.keys() == theirs.keys()
    different = [
        where
        for where, array in theirs.items()
        if (ours[where].dtype, ours[where].shape, ours[where].tobytes())
        != (array.dtype, array.shape, array.tobytes())
    ]
    assert different == []


def assert_same_state(found: Any, expected: Any, atol: float = 0.0) -> None:
    """Check that two states of a federation have the same round and, bit for bit, the same arrays; or close
    ones where a tolerance is given."""
    assert found.round == expected.round
    assert found.preferences == expected.preferences
    parts = list(STATE_PARTS)
    if found.statistics and expected.statistics:  # a state within a run has none
        found, expected = with_statistics(found), with_statistics(expected)
        parts.append("statistics")
    ours, theirs = ({part: getattr(state, part) for part in parts} for state in (found, expected))
    if not atol:
        assert_same_tree(ours, theirs)
        return
    close, to = (dict(flat(tree)) for tree in (ours, theirs))
    assert_same(
        {".".join(k): close[k] for k in sorted(close)}, {".".join(k): to[k] for k in sorted(to)}, atol=atol
    )


def with_statistics(state: Any) -> Any:
    """Return a state whose statistics are nested dicts, as its other parts are."""
    found = state.statistics
    return replace(state, statistics=asdict(found))


def flat(tree: Mapping[str, Any], *where: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every array of nested dicts with the keys that lead to it."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, *where, name)
        else:
            yield (*where, name), value


def without_timings(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return records of rounds.jsonl without what differs from run to run: seconds and memory."""
    return [
        {
            **{key: value for key, value in record.items() if key not in ("seconds", "rss_mb")},
            "clients": [
                {key: value for key, value in client.items() if key != "seconds"}
                for client in record["clients"]
            ],
        }
        for record in records
    ]


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file below `folder` with its size and time of writing; locks, which name a process, are
    left out."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def results_in(workspace: Path) -> list[str]:
    """Return what is in a workspace besides the cache of raw files; nothing if it does not exist."""
    return sorted(path.name for path in workspace.glob("*") if path.name != "cache")
