"""Raw cases of a complete data set."""

from collections.abc import Iterator
from pathlib import Path

from flames_cli.readers.base import RawCase, Reader, ReadOptions, SkippedCase


def iter_raw_cases(reader: Reader, root: Path) -> Iterator[RawCase]:
    """Yield every case under `root` except skipped ones. Raises BadCase."""
    for source in reader.list_sources(root):
        try:
            yield from reader.read_source(source, ReadOptions())
        except SkippedCase:
            continue
