"""What the reader of a plug-in returns is checked, and each fault names the plug-in in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.imaging.volumes import Placement
from flames_cli.errors import FlamesError
from flames_cli.plugins import Origin
from flames_cli.readers.base import (
    EMPTY_MASK,
    BadCase,
    Listing,
    RawCase,
    Reader,
    ReadOptions,
    SkippedCase,
    Source,
    VolumeRules,
)
from flames_cli.readers.plugged import adapt_reader, reader_fault

ORIGIN = Origin("readers", "mine", "flames-mine", "1.2", "mine:READER")
SOURCE = Source(name="a.png", patient="a", image=Path("a.png"), masks=(Path("m.png"),))
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)
MASK = (IMAGE > 40).astype(np.uint8)
CASE = RawCase("a", "a", IMAGE, MASK)
PLACE = Placement("axial", 1, (8, 6, 4), "RAS", tuple(np.eye(4).ravel().tolist()))


def reader(read=None, listed=(SOURCE,), **facts) -> Reader:
    plain = {
        "name": "other",
        "modality": "US",
        "organ": "thyroid",
        "licence": "",
        "folder": "mine",
        "layout": "",
    }
    functions = {"list_sources": lambda root: listed, "read_source": read or (lambda *_: [CASE])}
    return adapt_reader(Reader(**{**plain, **functions, **facts}), ORIGIN)


def read(*cases, options=None, **facts):
    made = reader(lambda *_: cases, **facts)
    return made.read_source(SOURCE, options or ReadOptions())


def test_a_right_case_passes_unchanged_and_has_the_registered_name():
    made = reader()
    assert made.name == "mine"
    assert made.list_sources(Path()) == [SOURCE]
    (case,) = made.read_source(SOURCE, ReadOptions())
    assert (case.image is IMAGE, case.mask is MASK, case.case) == (True, True, "a")


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", ">i4", "int64"])
def test_a_mask_of_another_type_becomes_uint8(dtype):
    (case,) = read(replace(CASE, mask=MASK.astype(dtype)))
    assert case.mask.dtype == np.uint8
    assert (case.mask == MASK).all()


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16", "uint64", ">u2", "int64"])
def test_an_image_of_any_numbers_passes(dtype):
    wide = replace(CASE, image=np.asfortranarray(IMAGE.astype(dtype)), low=0.0, high=40.0, max_value=4095)
    (case,) = read(wide)
    assert (case.image == IMAGE).all()
    assert case.image.flags.c_contiguous
    assert case.image.dtype.itemsize <= 8
    assert case.image.dtype not in (np.float16, np.int64, np.uint64)


def test_colour_and_volumes_pass():
    colour = replace(CASE, image=np.stack([IMAGE] * 3, axis=2))
    assert read(colour, options=ReadOptions(colour=True), has_colour=True)[0].image.shape == (6, 8, 3)
    slices = [replace(CASE, case=f"a/{k}", place=replace(PLACE, index=k), max_value=4095) for k in (0, 1)]
    assert len(read(*slices, volume_rules=VolumeRules("US"))) == 2


def wrong(**changes):
    return lambda: read(replace(CASE, **changes))


FAULTS = {
    "no case": (lambda: read(), "gives no case"),
    "no RawCase": (lambda: read("text"), "gives str, expected a RawCase"),
    "a shape": (wrong(mask=MASK.T), "the mask has the shape 8×6, its image 6×8"),
    "three axes": (wrong(image=np.zeros((6, 8, 3), np.uint8)), "the image has the shape 6×8×3, expected H×W"),
    "no pixels": (wrong(image=IMAGE[:0], mask=MASK[:0]), "the image has the shape 0×8"),
    "a number": (wrong(image=np.uint8(3)), "the image is uint8, expected an array"),
    "a list": (wrong(image=IMAGE.tolist()), "the image is list, expected an array of NumPy"),
    "masked": (wrong(image=np.ma.masked_array(IMAGE)), "the image is MaskedArray"),
    "objects": (
        wrong(image=IMAGE.astype(object)),
        "the image has the type object, expected integers or floats",
    ),
    "complex": (wrong(image=IMAGE.astype(complex)), "the image has the type complex128"),
    "a soft mask": (wrong(mask=MASK * 0.5), "the mask has the type float64, expected bool or integers"),
    "a mask of 255": (wrong(mask=MASK * 255), "the mask has the values 0 to 255, expected 0 and 1"),
    "a mask of -1": (wrong(mask=-MASK.astype(np.int8)), "the mask has the values -1 to 0"),
    "NaN": (wrong(image=np.full((6, 8), np.nan), max_value=4095), "the image has the values nan to nan"),
    "infinite": (wrong(image=np.full((6, 8), np.inf), max_value=4095), "expected finite ones"),
    "huge": (wrong(image=IMAGE * 1e200, max_value=4095), "expected finite ones"),
    "floats as 8 bits": (wrong(image=IMAGE / 255), "the image has the type float64 with low 0, high 255"),
    "an empty range": (wrong(low=3.0, high=3.0), "low is 3 and high 3, expected low below high"),
    "a range of NaN": (wrong(low=float("nan")), "low is nan, expected a finite number"),
    "a range of text": (wrong(high="255"), "high is '255', expected a finite number"),
    "a full scale": (wrong(max_value=1000), "max_value is 1000, expected 255 or 4095"),
    "a patient": (wrong(patient="b"), "its patient is not that of its source"),
    "no name": (wrong(case=" "), "its name is empty"),
    "a spacing": (wrong(spacing_mm=(0.0, 1.0)), r"spacing_mm is (0.0, 1.0), expected two numbers above 0"),
    "one spacing": (wrong(spacing_mm=1.0), "spacing_mm is 1.0, expected two numbers"),
    "an index": (wrong(slice_index=1.5), "slice_index is 1.5, expected an integer"),
    "notes": (wrong(notes="text"), "notes is 'text', expected a tuple of texts"),
    "labels": (wrong(labels={"1"}), "labels is {'1'}, expected a frozenset of texts"),
    "selected": (wrong(selected=1), "selected is 1, expected True or False"),
    "none selected": (wrong(selected=False), "no selected case"),
    "two stills": (lambda: read(CASE, replace(CASE, case="b")), "2 still images of one source"),
    "a name twice": (lambda: read(CASE, CASE), "two cases called a, expected names that differ"),
    "a place": (wrong(place=replace(PLACE, index=9)), "its place is no slice of its volume"),
    "axes": (wrong(place=replace(PLACE, axes="RAR")), "its place is no slice of its volume"),
    "an affine": (wrong(place=replace(PLACE, affine=(1.0,))), "its place is no slice of its volume"),
    "no place": (lambda: read(CASE, volume_rules=VolumeRules("US")), "it has no place, expected one"),
    "one slice twice": (
        lambda: read(replace(CASE, place=PLACE), replace(CASE, case="b", place=PLACE)),
        "one slice twice",
    ),
    "some places": (lambda: read(replace(CASE, place=PLACE), replace(CASE, case="b")), "expected one kind"),
    "no colour": (lambda: read(CASE, options=ReadOptions(colour=True)), "expected H×W×3, since colour is"),
    "an error": (lambda: reader(lambda *_: 1 / 0).read_source(SOURCE, ReadOptions()), "(ZeroDivisionError: "),
    "an exit": (lambda: reader(lambda *_: exit(3)).read_source(SOURCE, ReadOptions()), "(SystemExit: 3)"),
    "None": (lambda: reader(lambda *_: None).read_source(SOURCE, ReadOptions()), "cannot read it (TypeError"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_wrong_case_is_a_bad_case_in_one_line_that_names_the_plug_in(what):
    attempt, message = FAULTS[what]
    with np.errstate(all="ignore"), pytest.raises(BadCase) as error:
        attempt()
    text = str(error.value)
    assert message in text
    assert text.startswith("a.png: the plug-in flames-mine 1.2 ")
    assert "\n" not in text


def test_an_error_of_the_system_is_still_known_as_one():
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    with pytest.raises(BadCase) as error:
        reader(fail).read_source(SOURCE, ReadOptions())
    assert isinstance(error.value.__cause__, PermissionError)


def test_the_reader_s_own_bad_and_skipped_cases_pass():
    def bad(*_):
        raise BadCase("a.png: it is torn")

    def skipped(*_):
        raise SkippedCase("it is\nupside down")

    with pytest.raises(BadCase, match=r"^a.png: it is torn$"):
        reader(bad).read_source(SOURCE, ReadOptions())
    with pytest.raises(SkippedCase, match=r"^it is$"):
        reader(skipped).read_source(SOURCE, ReadOptions())


def test_an_image_without_a_lesion_is_left_out_unless_it_is_wanted():
    empty = replace(CASE, mask=MASK * 0)
    with pytest.raises(SkippedCase, match=EMPTY_MASK):
        read(empty)
    assert len(read(empty, options=ReadOptions(keep_empty=True))) == 1


@given(
    image=hnp.arrays(
        st.sampled_from(["u1", "i2", "f2", "f4", "f8", "c8", "O", "?"]),
        hnp.array_shapes(max_dims=4, max_side=3),
    ),
    mask=hnp.arrays(st.sampled_from(["u1", "?", "f4", "i8"]), hnp.array_shapes(max_dims=3, max_side=3)),
    numbers=st.tuples(*[st.one_of(st.floats(), st.none(), st.integers())] * 2),
    scale=st.sampled_from([255, 4095, 1, None]),
)
def test_whatever_arrays_a_plug_in_gives_the_case_is_right_or_bad(image, mask, numbers, scale):
    with np.errstate(all="ignore"):
        try:
            (case,) = read(
                replace(CASE, image=image, mask=mask, low=numbers[0], high=numbers[1], max_value=scale)
            )
        except (BadCase, SkippedCase):
            return
    assert case.image.shape == case.mask.shape
    assert set(np.unique(case.mask)) <= {0, 1}
    assert np.isfinite(case.image).all()
    assert case.low < case.high


LISTS = {
    "no Source": ("text", "it is str, expected a Source"),
    "no patient": (replace(SOURCE, patient=""), "its patient is empty"),
    "no name": (replace(SOURCE, name=""), "its name is empty"),
    "spaces": (replace(SOURCE, patient="a "), "patient is 'a ', expected a text of one line"),
    "two lines": (replace(SOURCE, site="a\nb"), r"site is 'a\nb', expected a text of one line"),
    "a number": (replace(SOURCE, patient=3), "patient is 3, expected a text"),
    "a text as path": (replace(SOURCE, image="a.png"), "image is 'a.png', expected a Path"),
    "one mask": (replace(SOURCE, masks=Path("m")), "expected a tuple of Path"),
    "a list of masks": (replace(SOURCE, masks=[Path("m")]), "expected a tuple of Path"),
    "a set": (replace(SOURCE, fixed_set="train"), "fixed_set is 'train', expected one of client_train"),
    "a frame": (replace(SOURCE, frame=-1), "frame is -1, expected 0 or more"),
    "health": (replace(SOURCE, is_healthy=None), "is_healthy is None"),
    "a series": (replace(SOURCE, place_in_series=("a", "b")), "expected a text and an integer"),
    "columns": (replace(SOURCE, extra=("sex",)), "extra is ('sex',), expected a tuple"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_wrong_source_is_one_line_that_names_the_plug_in(what):
    source, message = LISTS[what]
    with pytest.raises(FlamesError) as error:
        reader(listed=[replace(SOURCE, name="first"), source]).list_sources(Path("raw"))
    text = str(error.value)
    assert text.startswith("the plug-in flames-mine 1.2 lists a wrong source 2 of the data set 'mine': ")
    assert message in text


def test_two_sources_of_one_name_are_named():
    with pytest.raises(FlamesError, match=r"its name a.png is that of an earlier one"):
        reader(listed=[SOURCE, SOURCE]).list_sources(Path("raw"))


def test_a_reader_without_a_modality_needs_that_of_each_source():
    made = reader(modality="", organ="", listed=[replace(SOURCE, modality="US")])
    with pytest.raises(FlamesError, match="it has no modality and organ of its own"):
        made.list_sources(Path())


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), SystemExit(2), KeyError("x"), RecursionError()]
)
def test_a_listing_that_fails_is_one_line(error):
    def fail(root):
        raise error

    with pytest.raises(FlamesError, match=rf"flames-mine 1.2 cannot list .* in raw \({type(error).__name__}"):
        reader(list_sources=fail).list_sources(Path("raw"))


def test_a_table_is_checked_as_sources_are():
    made = reader(list_table=lambda table, root, keep: Listing([SOURCE]))
    assert made.list_table(Path("t.csv"), None, ()).sources == [SOURCE]
    made = reader(list_table=lambda table, root, keep: [SOURCE])
    with pytest.raises(FlamesError, match="lists the data set 'mine' as list, expected a Listing"):
        made.list_table(Path("t.csv"), None, ())


WRONG_READERS = {
    "no Reader": (3, "it is int, expected a Reader"),
    "a licence": ({"licence": None}, "licence is None, expected str"),
    "a function": ({"list_sources": 3}, "list_sources is no function"),
    "a unit": ({"patient_unit": "woman"}, "patient_unit is 'woman', expected one of patient"),
    "no organ": ({"organ": ""}, "it has a modality or an organ alone"),
    "rules": ({"volume_rules": "near"}, "volume_rules is 'near'"),
}


@pytest.mark.parametrize("what", WRONG_READERS)
def test_a_wrong_reader_is_described(what):
    given_, message = WRONG_READERS[what]
    found = reader(**given_) if isinstance(given_, dict) and "list_sources" not in given_ else given_
    if isinstance(found, dict):
        found = replace(reader(), **found)
    assert message in reader_fault(found)


def test_a_right_reader_has_no_fault():
    assert reader_fault(reader()) == ""
