"""One pass over a raw source: what `check` and `preprocess` need of it, made while it is in memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.imaging.geometry import MaskResize
from flames_cli.readers.base import (
    BadCase,
    RawCase,
    Reader,
    ReadOptions,
    SkippedCase,
    Source,
    UnchosenLabels,
    describe_bad,
)
from flames_cli.stages.check.inspection import Inspected, Inspection, Pictures
from flames_cli.stages.preprocess.decoding import Decoded, Encoding, is_still, look_of, square

Part = Literal["figures", "figures-hashed", "cases"]
"""Part of what a source gives: figures for `check`, with or without hashes of slices, or encoded cases for
`preprocess`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Choices that decide what a source gives."""

    reader: Reader
    options: ReadOptions
    size: int
    mask_resize: MaskResize


@dataclass(frozen=True, slots=True)
class Found:
    """Result of one pass over a source; parts that were not asked for are None."""

    figures: tuple[Inspected, Pictures] | None = None
    cases: Decoded | None = None
    is_lasting: bool = True
    """False if the source is bad for a reason besides its content, such as too little memory."""


def read_once(reading: Reading, source: Source, parts: Collection[Part]) -> Found:
    """Read `source` and make `parts` of it; errors in the data are returned, not raised."""
    with_cases = "cases" in parts
    try:
        raw = reading.reader.read_source(source, replace(reading.options, complete=with_cases))
    except BadCase as error:
        bad, needs_choice = describe_bad(source, error), isinstance(error, UnchosenLabels)
        return Found(
            (Inspected(source, bad=bad), {}),
            Decoded(source, bad=bad, needs_choice=needs_choice),
            not _is_of_this_machine(error),
        )
    except SkippedCase as error:
        reason = str(error)
        return Found((Inspected(source, skipped=reason), {}), Decoded(source, skipped=(("", reason),)))
    return _make_parts(reading, source, raw, parts)


def _make_parts(reading: Reading, source: Source, raw: Sequence[RawCase], parts: Collection[Part]) -> Found:
    still = is_still(reading.reader, raw)
    encoding = Encoding(source, reading.size, still) if "cases" in parts else None
    inspection = None
    if hashed := {part for part in parts if part != "cases"}:
        selected = [case for case in raw if case.selected]
        inspection = Inspection(
            source, selected, reading.options.percentile, "figures-hashed" in hashed, still
        )
    for case in raw:
        image, mask = square(case, reading.size, reading.mask_resize)
        if encoding:
            encoding.add(case, image, mask)
        if inspection and case.selected:
            inspection.add(case, image, mask)
    look: NDArray[np.bool_] | None = look_of(raw[0]) if still else None
    return Found(
        inspection.finish(look) if inspection else None,
        encoding.finish(raw[0].labels, look) if encoding else None,
    )


def _is_of_this_machine(error: BaseException | None) -> bool:
    """Return whether an error is, or follows from, one of the system: the same file may be read later."""
    while error:
        if isinstance(error, OSError | MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
