"""Raw cases of a complete data set."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.readers import READERS
from flames_cli.readers.base import RawCase, Reader, ReadOptions, SkippedCase


def iter_raw_cases(reader: Reader, root: Path) -> Iterator[RawCase]:
    """Yield every case under `root` except skipped ones. Raises BadCase."""
    for source in reader.list_sources(root):
        try:
            yield from reader.read_source(source, ReadOptions())
        except SkippedCase:
            continue


def count_listed(dataset: str, root: Path) -> int:
    """Return the number of sources that are read without `--empty keep`."""
    return sum(not source.is_healthy for source in READERS[dataset].list_sources(root))
