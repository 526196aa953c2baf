"""Findings that the raw data of the tests do not cause, on sources made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flames_cli.core.imaging.near_duplicates import COPY_BITS, NEAR_BITS, SERIES_BITS
from flames_cli.core.imaging.quality import Intensity
from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import Source
from flames_cli.readers.otu2d import OTU2D
from flames_cli.stages.check.copies import find_copies, find_pairs
from flames_cli.stages.check.findings import find_all
from flames_cli.stages.check.inspection import CaseFigures, Inspected
from flames_cli.stages.check.large_units import find_large_groups
from flames_cli.stages.check.survey import Survey
from flames_cli.store.cases import encode_chunk

SIZE = 16


def reader(knows_patients):
    return replace(OTU2D, complete=0, patient_unit="patient" if knows_patients else "image")


def survey(*sources, knows_patients=True, name="made"):
    return Survey(reader(knows_patients), name, SIZE, sources)


def still(name, differing_bits=0, **told):
    """Return a source of one case; its hash differs by so many bits from that of a source with 0."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4:9, 4:9] = 1
    case = CaseFigures(
        name=name, shape=(SIZE, SIZE), depth=(1, 255), spacing_mm=(np.nan,) * 3, lesion_px=25,
        lesion_px_at_size=25, lesions=1, intensity=Intensity(100.0, 40.0, 1.0, 90.0, 240.0), level=0.4,
        contrast=0.2, digest=name, packed_mask=encode_chunk(np.packbits(mask)),
    )  # fmt: skip
    source = Source(name, told.pop("patient", name), Path(f"{name}.png"), (Path(f"{name}_m.png"),), **told)
    return Inspected(source, (case,), np.arange(256) < differing_bits)


def far(number):
    """Return a source that is unlike all others."""
    one = still(f"far-{number}")
    return replace(one, look=derive_rng(0, "far", number).random(256) < 0.5)


def codes(findings):
    return [finding.code for finding in findings]


@pytest.mark.parametrize(
    ("key", "what", "values"),
    [
        ("stratum", "classes", ("benign", "malignant")),
        ("fixed_set", "sets", ("client_train", "server_test")),
        ("site", "sites", ("A", "B")),
    ],
)
def test_a_named_patient_in_two_places_is_a_problem(key, what, values):
    one, other = [still(value, patient="p", **{key: value}) for value in values]
    findings = find_all(survey(one, other, far(1), far(2)))
    (found,) = [finding for finding in findings if finding.code != "empty-sets"]
    assert (found.code, found.severity) == (f"patient-in-two-{what}", "problem")
    assert found.where == ((f"p: {values[0]}, {values[1]}", values, ("p",), ""),)
    assert found.ids == [f"patient-in-two-{what}:p"]


def test_a_patient_without_a_name_may_be_of_two_classes():
    two = [still(name, patient="p", stratum=name) for name in ("benign", "malignant")]
    assert find_all(survey(*two, far(1), far(2), knows_patients=False)) == []


@pytest.mark.parametrize(
    ("bits", "knows_patients", "expected"),
    [
        (COPY_BITS, False, ["copies"]),
        (COPY_BITS, True, ["copies-across-patients"]),
        (COPY_BITS + 1, False, ["near-copies"]),
        (COPY_BITS + 1, True, []),
        (NEAR_BITS, False, ["near-copies"]),
        (NEAR_BITS + 1, False, []),
    ],
)
def test_how_near_two_pictures_are_decides_what_they_are(bits, knows_patients, expected):
    made = survey(still("a"), far(1), still("b", bits), knows_patients=knows_patients)
    found = list(find_copies(made, find_pairs([made])))
    assert codes(found) == expected
    if found:
        (place,) = found[0].where
        assert place.cases == ("a", "b")
        assert f"{bits} of 256 bits apart" in place.text


def test_copies_in_two_sequences_are_called_so():
    made = survey(still("a"), still("b", 3))
    made = replace(made, reader=replace(made.reader, patient_unit="sequence"))
    (found,) = find_copies(made, find_pairs([made]))
    assert found.what == "1 picture is present twice, in two sequences"
    assert found.code == "copies-across-patients"
    assert found.fix.startswith("look at both pictures: ")


def test_images_of_one_patient_may_be_near_copies():
    made = survey(still("a", patient="p"), still("b", 3, patient="p"))
    assert find_pairs([made]) == []


def test_a_chain_of_frames_gives_one_pair_fewer_than_it_has_frames():
    made = survey(*(still(f"f{n}", 10 * n) for n in range(5)), knows_patients=False)
    pairs = find_pairs([made])
    assert [pair.bits for pair in pairs] == [10] * 4


def test_near_pictures_of_two_classes_say_so():
    made = survey(still("a", stratum="benign"), still("b", 40, stratum="malignant"), knows_patients=False)
    (found,) = find_copies(made, find_pairs([made]))
    assert found.severity == "note"
    assert "two classes" in found.where[0].text


def test_near_numbers_of_a_series_join_pictures_at_a_looser_distance():
    one, other = still("a", place_in_series=("", 7)), still("b", SERIES_BITS, place_in_series=("", 10))
    made = survey(one, other, knows_patients=False)
    (found,) = find_copies(made, find_pairs([made]))
    assert (found.severity, found.code) == ("note", "near-in-series")
    assert found.ids == ["near-in-series:a=b"]
    assert find_pairs([survey(one, other)]) == [], "named patients are known to be two"
    away = still("b", SERIES_BITS, place_in_series=("", 11))
    assert find_pairs([survey(one, away, knows_patients=False)]) == []


def test_a_group_above_a_tenth_of_the_images_is_a_note_with_its_pictures():
    near = [still(f"near-{n}", 5 * n) for n in range(3)]
    made = survey(*near, *(far(n) for n in range(20)), knows_patients=False)
    (found,) = find_large_groups(made)
    assert (found.severity, found.code) == ("note", "large-group")
    assert found.what.startswith("3 of 23 images are one group of near copies")
    assert [place.cases for place in found.where] == [("near-0",), ("near-1",), ("near-2",)]
    larger = survey(*near, *(far(n) for n in range(30)), knows_patients=False)
    assert list(find_large_groups(larger)) == []


def test_an_id_of_a_pair_does_not_change_with_the_order_of_the_images():
    one, other = still("a", stratum="x"), still("b", stratum="y")
    ids = []
    for order in ((one, other), (other, one)):
        made = survey(*order)
        ids.append([i for finding in find_copies(made, find_pairs([made])) for i in finding.ids])
    assert ids[0] == ids[1] == ["copies-across-patients:a=b", "copies-across-classes:a=b"]


def test_the_pairs_of_a_set_of_copies_do_not_depend_on_the_order_of_the_images():
    images = [replace(still(name, 4), cases=still("same").cases) for name in ("a10", "a9", "a2", "a11")]
    images += [still("b1", 60), still("b2", 64), still("b3", 68), still("b4", 72)]
    listed = [
        {finding_id for finding in find_copies(made, find_pairs([made])) for finding_id in finding.ids}
        for made in (survey(*images), survey(*reversed(images)), survey(*images[3:], *images[:3]))
    ]
    assert listed[0] == listed[1] == listed[2]
    assert "copies-across-patients:a2=a9" in listed[0]


def test_data_sets_without_a_common_picture_have_no_pairs():
    assert find_pairs([survey(far(1)), survey(far(2))]) == []
    assert find_pairs([survey()]) == []
