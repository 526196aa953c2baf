import io
import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.lesions import LesionSize
from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, SmallLesionRule
from flames_cli.core.imaging.volumes import PLANES, Placement
from flames_cli.core.rng import derive_rng
from flames_cli.store.cases import (
    CaseInfo,
    SetInfo,
    Spool,
    encode_chunk,
    read_cases,
    read_chunks,
    read_set,
    read_set_info,
    write_set,
)

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
COUNTS = st.integers(0, 2**31 - 1)
PLACES = st.builds(
    Placement,
    plane=st.sampled_from(sorted(PLANES)),
    index=COUNTS,
    shape=st.tuples(*[COUNTS] * 3),
    axes=st.sampled_from(["RAS", "LPS", "PIR", "SAL"]),
    affine=st.tuples(*[st.floats(allow_nan=False)] * 16),
)
STILLS = st.builds(
    CaseInfo,
    case=NAMES,
    patient=NAMES,
    split_unit=NAMES,
    stratum=NAMES,
    slice_index=st.integers(-1, 2**31 - 1),
    spacing_mm=st.tuples(*[st.floats(0.125, 8, width=32)] * 2),
    lesion_px=COUNTS,
    site=NAMES,
    raw_shape=st.tuples(COUNTS, COUNTS),
    n_lesions=COUNTS,
    smallest_px=COUNTS,
    smallest_box_px=COUNTS,
    selected=st.booleans(),
    extra=st.dictionaries(NAMES, NAMES, max_size=2),
)
SLICES = st.builds(lambda case, place: replace(case, slice_index=place.index, place=place), STILLS, PLACES)
CASES = st.one_of(STILLS, SLICES)


def info(max_value: int = 255, size: int = 6, channels: int = 1) -> SetInfo:
    return SetInfo("busi", "US", "breast", size, max_value, channels)


def draw(n: int, max_value: int = 255, size: int = 6, channels: int = 1):
    about = info(max_value, size, channels)
    rng = derive_rng(0, "cases", n, max_value)
    images = rng.integers(0, max_value, (n, *about.pixel_shape), endpoint=True).astype(about.dtype)
    return images, (rng.random((n, size, size)) < 0.4).astype(np.uint8)


def some_cases(n: int) -> list[CaseInfo]:
    return [CaseInfo(f"a{i}", f"p{i}", f"p{i}", "benign", i, (1.0, 2.0), i) for i in range(n)]


def memory_file() -> h5py.File:
    return h5py.File(io.BytesIO(), "w")


def write(file, cases, images, masks, max_value=255, name="train", channels=1) -> h5py.Group:
    chunks = [(encode_chunk(image), encode_chunk(mask)) for image, mask in zip(images, masks, strict=True)]
    write_set(file, name, info(max_value, channels=channels), cases, chunks)
    return file[name]


@pytest.mark.parametrize("max_value", [1, 255, 256, 4095, 65535])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_set_reads_back_as_it_was_written(n, max_value):
    images, masks = draw(n, max_value)
    with memory_file() as file:
        read = read_set(write(file, some_cases(n), images, masks, max_value))
    assert read.info == info(max_value)
    assert read.cases == some_cases(n)
    assert len(read) == n
    assert read.images.dtype == (np.uint8 if max_value <= 255 else np.uint16)
    np.testing.assert_array_equal(read.images, images)
    np.testing.assert_array_equal(read.masks, masks)


@pytest.mark.parametrize("max_value", [255, 4095])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_set_of_colour_images_reads_back_as_it_was_written(n, max_value):
    images, masks = draw(n, max_value, channels=3)
    with memory_file() as file:
        group = write(file, some_cases(n), images, masks, max_value, channels=3)
        read = read_set(group)
        assert group["image"].chunks == (1, 6, 6, 3)
        assert list(read_chunks(group, range(n))) == [
            (encode_chunk(image), encode_chunk(mask)) for image, mask in zip(images, masks, strict=True)
        ]
    assert read.info == info(max_value, channels=3)
    assert read.images.shape == (n, 6, 6, 3)
    np.testing.assert_array_equal(read.images, images)
    np.testing.assert_array_equal(read.masks, masks)


def test_the_collection_of_a_set_is_kept():
    images, masks = draw(1)
    about = replace(info(), collection="three hospitals")
    with memory_file() as file:
        write_set(file, "train", about, some_cases(1), [(encode_chunk(images[0]), encode_chunk(masks[0]))])
        assert read_set_info(file["train"]) == about


@pytest.mark.parametrize("rule", [DEFAULT_RULE, SmallLesionRule("box", 150.25, 1e9)])
def test_the_rule_of_a_set_is_kept(rule):
    about = replace(info(), small=rule)
    with memory_file() as file:
        write_set(file, "train", about, [], [])
        assert file["train"].attrs["small"] == str(rule)
        assert read_set_info(file["train"]) == about


@pytest.mark.parametrize(
    "rule", [None, IntensityRule(), IntensityRule(None, 99.5, "foreground"), IntensityRule((-160.0, 240.0))]
)
def test_the_rule_of_the_intensities_is_kept(rule):
    about = replace(info(), intensities=rule)
    with memory_file() as file:
        write_set(file, "train", about, [], [])
        assert read_set_info(file["train"]) == about


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("window", [1.0]),
        ("window", [5.0, 1.0]),
        ("window", [1.0, np.inf]),
        ("window", [np.nan, 1.0]),
        ("window", "0,1"),
        ("percentile", 0.0),
        ("percentile", np.nan),
        ("percentile", "high"),
        ("percentile_of", "some"),
        ("percentile_of", 1),
    ],
)
def test_a_rule_that_no_release_writes_is_damage(attribute, value):
    with memory_file() as file:
        write_set(file, "train", replace(info(), intensities=IntensityRule((0.0, 1.0))), [], [])
        file["train"].attrs[attribute] = value
        with pytest.raises((ValueError, TypeError)):
            read_set_info(file["train"])


def test_cases_are_judged_by_the_rule_of_their_set():
    case = replace(some_cases(1)[0], lesion_px=6, n_lesions=2, smallest_px=2, smallest_box_px=4)
    assert case.lesions == LesionSize(6, 2, 2, 4)
    by_area, by_box = (replace(info(), small=SmallLesionRule(measure, 9, 9)) for measure in ("area", "box"))
    assert (by_area.judge(case), by_box.judge(case)) == ("large", "small")
    assert by_box.judge(CaseInfo("1", "1", "1", "", -1, (1.0, 1.0), 0)) == "none"


@settings(max_examples=60)
@given(st.lists(CASES, max_size=4))
def test_whatever_is_known_of_cases_reads_back_as_it_was_written(cases):
    images, masks = draw(len(cases))
    with memory_file() as file:
        assert read_cases(write(file, cases, images, masks)) == cases


def test_only_selected_cases_are_read_unless_all_are_wanted():
    images, masks = draw(5, 4095)
    cases = [replace(case, selected=index in (1, 4)) for index, case in enumerate(some_cases(5))]
    with memory_file() as file:
        group = write(file, cases, images, masks, 4095)
        selected, whole = read_set(group), read_set(group, complete=True)
    assert (selected.cases, whole.cases) == ([cases[1], cases[4]], cases)
    np.testing.assert_array_equal(selected.images, images[[1, 4]])
    np.testing.assert_array_equal(selected.masks, masks[[1, 4]])
    np.testing.assert_array_equal(whole.images, images)


@pytest.mark.parametrize("content", [b"[]", b"x", b'{"age": 5}', b'{"age": "5"'])
def test_kept_columns_that_are_no_texts_by_column_are_damage(content):
    images, masks = draw(1)
    with memory_file() as file:
        group = write(file, [replace(some_cases(1)[0], extra={"age": "50-59"})], images, masks)
        del group["extra"]
        group["extra"] = np.array([content])
        with pytest.raises(ValueError, match=r"kept columns|JSON|delimiter|Expecting"):
            read_cases(group)


@pytest.mark.parametrize(("column", "value"), [("plane", b"oblique"), ("axes", b"RRR"), ("axes", b"")])
def test_a_plane_or_axes_that_do_not_exist_are_damage(column, value):
    images, masks = draw(1)
    case = replace(some_cases(1)[0], place=Placement("axial", 1, (4, 4, 4), "LPS", (0.0,) * 16))
    with memory_file() as file:
        group = write(file, [case], images, masks)
        assert read_cases(group)[0].place
        del group["volume"][column]
        group["volume"][column] = np.array([value], h5py.string_dtype("utf-8", 8))
        with pytest.raises(ValueError, match="a slice has the plane"):
            read_cases(group)


def test_cases_of_earlier_files_are_all_selected():
    images, masks = draw(2)
    with memory_file() as file:
        group = write(file, [replace(case, selected=False) for case in some_cases(2)], images, masks)
        del group["selected"]  # versions 4 and 5 do not have it
        assert read_cases(group) == some_cases(2)


def test_unknown_spacing_stays_unknown():
    images, masks = draw(1)
    case = CaseInfo("1", "1", "1", "", -1, (math.nan, math.nan), 3)
    with memory_file() as file:
        (read,) = read_cases(write(file, [case], images, masks))
    assert read.slice_index == -1
    assert all(math.isnan(side) for side in read.spacing_mm)


def test_a_case_is_one_compressed_chunk():
    images, masks = draw(3, 4095)
    with memory_file() as file:
        group = write(file, some_cases(3), images, masks, 4095)
        for name in ("image", "mask"):
            assert group[name].chunks == (1, 6, 6)
            assert group[name].compression == "gzip"


def test_chunks_are_copied_without_being_decoded():
    images, masks = draw(4, 4095)
    with memory_file() as file:
        group = write(file, some_cases(4), images, masks, 4095)
        chosen = list(read_chunks(group, [3, 1]))
        assert chosen == [(encode_chunk(images[i]), encode_chunk(masks[i])) for i in (3, 1)]
        write_set(file, "copy", read_set_info(group), [some_cases(4)[i] for i in (3, 1)], chosen)
        copy = read_set(file["copy"])
    np.testing.assert_array_equal(copy.images, images[[3, 1]])
    np.testing.assert_array_equal(copy.masks, masks[[3, 1]])
    assert [case.case for case in copy.cases] == ["a3", "a1"]


def test_views_and_other_memory_layouts_encode_to_the_same_bytes():
    image = draw(1, 4095)[0][0]
    assert encode_chunk(np.asfortranarray(image)) == encode_chunk(image)
    assert encode_chunk(np.rot90(np.rot90(image, -1))) == encode_chunk(image)


def test_a_spool_returns_chunks_in_any_order():
    chunks = [b"one", b"", b"three" * 1000, b"four"]
    with Spool() as spool:
        numbers = [spool.add(chunk) for chunk in chunks]
        assert [spool.get(number) for number in reversed(numbers)] == chunks[::-1]


def test_a_spool_may_be_added_to_once_all_is_read():
    with Spool() as spool:
        first = spool.add(b"one")
        assert spool.get(first) == b"one"
        second = spool.add(b"two")
        assert (spool.get(first), spool.get(second)) == (b"one", b"two")


def test_adding_to_a_spool_after_reading_an_early_chunk_overwrites_nothing():
    with Spool() as spool:
        numbers = [spool.add(chunk) for chunk in (b"one", b"two")]
        spool.get(numbers[0])
        numbers.append(spool.add(b"six"))
        assert [spool.get(number) for number in numbers] == [b"one", b"two", b"six"]
