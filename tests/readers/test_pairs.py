from pathlib import Path

from flames_cli.readers.pairs import JPEG, find_centres, find_named, natural_order, pair_up


def test_names_are_sorted_by_their_numbers():
    assert sorted(["a10", "a2", "b", "a2_1", "10", "9"], key=natural_order) == [
        "9",
        "10",
        "a2",
        "a2_1",
        "a10",
        "b",
    ]


def test_files_are_found_by_their_full_names(tmp_path):
    for name in ("a.jpg", "b.JPEG", "._a.jpg", "c.jpg.txt", "d.png"):
        (tmp_path / name).touch()
    assert find_named(tmp_path, JPEG) == {"a": tmp_path / "a.jpg", "b": tmp_path / "b.JPEG"}
    assert find_named(tmp_path / "gone", JPEG) == {}


def test_of_two_files_of_one_key_the_first_counts(tmp_path):
    for name in ("a.jpg", "a.jpeg"):
        (tmp_path / name).touch()
    assert find_named(tmp_path, JPEG) == {"a": tmp_path / "a.jpeg"}


def test_an_image_or_a_mask_alone_is_listed_too():
    images, masks = (
        {"2": Path("i/2.jpg"), "10": Path("i/10.jpg")},
        {"2": Path("m/2.jpg"), "1": Path("m/1.jpg")},
    )
    pairs = pair_up(images, masks, Path("i/{}.jpg"))
    assert [(pair.key, pair.image, pair.masks) for pair in pairs] == [
        ("1", Path("i/1.jpg"), (Path("m/1.jpg"),)),
        ("2", Path("i/2.jpg"), (Path("m/2.jpg"),)),
        ("10", Path("i/10.jpg"), ()),
    ]


def test_centres_come_in_order_of_number(tmp_path):
    for name in ("data_C10", "data_C2", "data_C1_negative", "sequenceData", "._data_C3"):
        (tmp_path / name).mkdir()
    assert [(one.site, one.images.name, one.masks.name) for one in find_centres(tmp_path)] == [
        ("C2", "images_C2", "masks_C2"),
        ("C10", "images_C10", "masks_C10"),
    ]
