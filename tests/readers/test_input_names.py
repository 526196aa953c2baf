from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flames_cli.readers.input_names import Place, make_names

DATA = Path("/data")


def at(path: str, base: Path = DATA, suffix: str = ".png", part: str = "") -> Place:
    return Place(DATA / path, base, suffix, part)


def test_names_keep_the_folders_of_the_inputs():
    assert make_names([at("a"), at("site 1/b"), at("site 1/deep/c")]) == ["a", "site 1/b", "site 1/deep/c"]


def test_equal_names_in_several_folders_get_their_folders_and_so_do_their_neighbours():
    places = [at(f"{folder}/{name}", DATA / folder) for folder in "pq" for name in ("t1", f"only {folder}")]
    assert make_names(places) == ["p/t1", "p/only p", "q/t1", "q/only q"]


def test_folders_of_other_names_stay_as_they_are():
    places = [at("p/a", DATA / "p"), at("q/a", DATA / "q"), at("r/b", DATA / "r")]
    assert make_names(places) == ["p/a", "q/a", "b"]


def test_files_that_differ_in_their_suffix_get_it():
    places = [at("a"), at("a", suffix=".jpg"), at("a", suffix=".nii.gz"), at("b")]
    assert make_names(places) == ["a_png", "a_jpg", "a_nii_gz", "b"]


def test_frames_of_one_file_are_in_a_folder_of_its_name():
    places = [at("clip", part="frame1"), at("clip", part="frame2"), at("clip", suffix=".jpg")]
    assert make_names(places) == ["clip/frame1", "clip/frame2", "clip"]


def test_names_that_differ_in_case_alone_differ_on_every_disk():
    assert make_names([at("A"), at("a"), at("a_png")]) == ["A_png", "a_png-2", "a_png-3"]


def test_the_folder_of_the_argument_itself_is_a_name():
    assert make_names([Place(DATA, DATA)]) == ["data"]


parts = st.sampled_from(["a", "A", "b", "a_png", "a-2", "frame1"])


@given(
    st.lists(
        st.tuples(
            st.lists(parts, min_size=1, max_size=3),
            st.integers(0, 2),
            st.sampled_from(["", ".png", ".jpg"]),
            st.sampled_from(["", "frame1"]),
        ),
        max_size=8,
    )
)
def test_no_two_names_are_equal_and_none_leads_out_of_the_folder(drawn):
    places = [
        Place(DATA.joinpath(*path), DATA.joinpath(*path[:depth]), suffix, part)
        for path, depth, suffix, part in drawn
    ]
    names = make_names(places)
    assert len({name.casefold() for name in names}) == len(places)
    assert all(name and not name.startswith("/") and ".." not in name.split("/") for name in names)
