import hashlib
from pathlib import Path

import numpy as np
import pytest

from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions
from tests.support.phantoms.stills import (
    draw_cvc,
    draw_kvasir,
    draw_lgg,
    draw_lits_slices,
    draw_polypgen,
)
from tests.support.raw_cases import iter_raw_cases

PATIENTS = 9
DRAW = {
    "polypgen": draw_polypgen,
    "lits-slices": draw_lits_slices,
    "kvasir": draw_kvasir,
    "cvc-clinicdb": draw_cvc,
    "lgg": draw_lgg,
}
SITES = {
    "polypgen": {"C1", "C3", "C4"},
    "lits-slices": {"C1", "C2", "C3"},
    "kvasir": {""},
    "cvc-clinicdb": {""},
    "lgg": {"CS", "DU", "HT"},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    return {name: draw(root / name, PATIENTS, 3) for name, draw in DRAW.items()}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", DRAW)
def test_the_same_seed_gives_the_same_bytes_however_many_are_drawn(name, drawn, tmp_path):
    few, many = digests(DRAW[name](tmp_path, 2, 3)), digests(drawn[name])
    few.pop("metadata.csv", None)
    assert few.items() <= many.items()


@pytest.mark.parametrize("name", DRAW)
def test_another_seed_gives_other_images(name, drawn, tmp_path):
    other = DRAW[name](tmp_path, 1, 4)
    same = digests(other).items() & digests(drawn[name]).items()
    source = READERS[name].list_sources(other)[0]
    assert str(source.image.relative_to(other)) not in dict(same)


@pytest.mark.parametrize("name", DRAW)
def test_the_layout_is_that_of_the_reader(name, drawn):
    reader = READERS[name]
    assert drawn[name].name == reader.folder
    sources = reader.list_sources(drawn[name])
    assert {source.site for source in sources} == SITES[name]
    assert len({source.patient for source in sources}) == PATIENTS
    assert len({source.name for source in sources}) == len(
        {source.case or source.patient for source in sources}
    )
    assert {case.patient for case in iter_raw_cases(reader, drawn[name])} == {s.patient for s in sources}


@pytest.mark.parametrize("name", DRAW)
def test_lesions_are_of_many_sizes_but_never_most_of_the_image(name, drawn):
    areas = [case.mask.mean() for case in iter_raw_cases(READERS[name], drawn[name])]
    assert max(areas) < 0.4
    assert max(areas) > 3 * min(areas)


@pytest.mark.parametrize("name", [name for name in DRAW if READERS[name].has_colour])
def test_the_channels_of_a_colour_image_differ(name, drawn):
    sources = READERS[name].list_sources(drawn[name])
    (case,) = READERS[name].read_source(sources[len(sources) // 2], ReadOptions(colour=True))
    assert case.image.shape == (*case.mask.shape, 3)
    assert not np.array_equal(case.image[..., 0], case.image[..., 1])


@pytest.mark.parametrize("name", DRAW)
def test_too_little_to_draw_is_rejected(name, tmp_path):
    with pytest.raises(FlamesError, match="patients is 0, expected at least 1"):
        DRAW[name](tmp_path, 0, 1)
