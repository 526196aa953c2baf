import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase, ReadOptions, Source
from flames_cli.readers.formats.images import read_image
from flames_cli.readers.formats.masks import MaskRule, join, read_mask, user_rule

SHAPE = (24, 20)
LESION = np.zeros(SHAPE, bool)
LESION[5:14, 6:15] = True
OTHER = np.zeros(SHAPE, bool)
OTHER[16:21, 2:9] = True

PLAIN = MaskRule(has_choice=True)
HALF = MaskRule(threshold="half", has_choice=True)
RED, GREEN, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)


def pick(*labels: str) -> MaskRule:
    return MaskRule(labels, has_choice=True)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def grey(lesion: int = 255, other: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return (LESION * lesion + OTHER * other).astype(dtype)


def colours(lesion: tuple[int, ...], other: tuple[int, ...] = BLACK) -> np.ndarray:
    return (LESION[..., None] * np.array(lesion) + OTHER[..., None] * np.array(other)).astype(np.uint8)


def indexed(path: Path, pixels: np.ndarray, palette: dict[int, tuple[int, ...]], **options: object) -> Path:
    picture = Image.fromarray(pixels).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    table = np.zeros((256, 3), np.uint8)
    for index, colour in palette.items():
        table[index] = colour
    picture.putpalette(table.tobytes())
    picture.save(path, **options)
    return path


def soft(high: int = 255, dtype: type = np.uint8) -> np.ndarray:
    """The lesion with a border of one step of 60 % and one of 30 %."""
    near = np.zeros((*SHAPE, 9))
    for place, (row, column) in enumerate(np.ndindex(3, 3)):
        near[..., place] = np.roll(LESION, (row - 1, column - 1), (0, 1))
    noise = derive_rng(0, "soft mask").random(SHAPE) * 0.02
    ramp = np.where(LESION, 1.0, np.where(near.any(axis=2), 0.3, 0.0)) * 0.97
    return ((ramp + noise) * high).astype(dtype)


def png(depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of SHAPE from its parts, without a library; `rows` are packed, without filter bytes."""
    height, width = SHAPE
    size = len(rows) // height
    data = b"".join(b"\0" + rows[row * size : (row + 1) * size] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def tumour(path: Path, rule: MaskRule = PLAIN) -> np.ndarray:
    return read_mask(path, SHAPE, rule).tumour


def assert_lesion(path: Path, rule: MaskRule = PLAIN, wanted: np.ndarray = LESION) -> None:
    np.testing.assert_array_equal(tumour(path, rule), wanted)


def assert_refused(path: Path, words: str, rule: MaskRule = PLAIN) -> None:
    with pytest.raises(BadCase, match=words) as refused:
        tumour(path, rule)
    assert str(refused.value).startswith(f"{path.name}: ")


def test_masks_are_joined_whatever_their_values(tmp_path):
    one, other = save(tmp_path / "a.png", grey(255)), save(tmp_path / "b.png", grey(0, 1))
    union = join([read_mask(path, SHAPE, PLAIN) for path in (one, other)])
    np.testing.assert_array_equal(union.tumour, LESION | OTHER)


def test_a_mask_of_another_shape_is_rejected_with_both_shapes(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((2, 3), np.uint8))
    with pytest.raises(BadCase, match=r"^a\.png: the mask is 2×3, its image 3×2$"):
        read_mask(path, (3, 2), PLAIN)


@pytest.mark.parametrize("value", [1, 2, 128, 255, 300, 65535])
def test_the_only_label_is_tumour_in_8_and_16_bits(value, tmp_path):
    assert_lesion(save(tmp_path / "deep.png", grey(value, dtype=np.uint16)))
    if value <= 255:
        assert_lesion(save(tmp_path / "mask.png", grey(value)))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_every_format_without_loss_gives_the_same_tumour(suffix, tmp_path):
    assert_lesion(save(tmp_path / f"grey.{suffix}", grey(255)))
    assert_lesion(save(tmp_path / f"bit.{suffix}", LESION))
    assert_lesion(save(tmp_path / f"rgb.{suffix}", colours(WHITE)))
    assert_lesion(save(tmp_path / f"labels.{suffix}", grey(1, 2)), pick("1"))


def test_the_name_of_a_file_does_not_decide(tmp_path):
    noisy = save(tmp_path / "a.jpg", soft(), quality=90)
    assert_refused(noisy.rename(tmp_path / "a.png"), "the mask is soft")
    exact = save(tmp_path / "b.png", grey(255))
    assert_lesion(exact.rename(tmp_path / "b.jpg"))


@pytest.mark.parametrize(
    "pixels",
    [
        soft(),
        soft(65535, np.uint16),
        grey(255, 7),
        grey(255) - (LESION & (np.arange(20) == 9)).astype(np.uint8) * 3,
    ],
)
def test_soft_masks_are_rejected_and_half_of_full_scale_draws_the_line(pixels, tmp_path):
    path = save(tmp_path / "soft.png", pixels)
    assert_refused(path, "(is soft|labels).*--mask-threshold HALF")
    assert_lesion(path, HALF)


def test_the_noise_of_a_jpeg_is_rejected_even_if_its_white_was_chosen(tmp_path):
    path = save(tmp_path / "noise.png", grey(255) - LESION * (np.arange(20) % 4).astype(np.uint8))
    assert_refused(path, "soft: it has 5 values from 0 to 255", pick("255"))


def test_labels_are_listed_with_their_areas_until_they_are_chosen(tmp_path):
    path = save(tmp_path / "organs.png", grey(2, 1))
    assert_refused(path, r"2 labels, 1 \(35 px, 7\.3%\), 2 \(81 px, 16\.9%\).*--labels 2")
    assert_lesion(path, pick("2"))
    assert_lesion(path, pick("2", "1"), LESION | OTHER)
    assert read_mask(path, SHAPE, pick("2", "3")).labels == {"2"}
    assert not tumour(path, pick("3")).any()


def test_the_only_label_is_named(tmp_path):
    assert read_mask(save(tmp_path / "a.png", grey(7)), SHAPE, PLAIN).labels == {"7"}
    assert read_mask(save(tmp_path / "b.png", colours(RED)), SHAPE, PLAIN).labels == {"#ff0000"}
    assert read_mask(save(tmp_path / "c.png", grey(0)), SHAPE, PLAIN).labels == frozenset()


def test_a_border_to_be_ignored_is_a_label_like_others(tmp_path):
    path = save(tmp_path / "voc.png", grey(1, 255))
    assert_refused(path, r"2 labels, 1 .*255")
    assert_lesion(path, pick("1"))


def test_a_name_is_no_label_of_an_image(tmp_path):
    assert_refused(save(tmp_path / "a.png", grey(1, 2)), "'Tumour' names no number", pick("Tumour"))
    assert_refused(save(tmp_path / "b.png", colours(RED)), "'1' names no colour", pick("1"))


@pytest.mark.parametrize("value", [1, 3, 7])
@pytest.mark.parametrize("rule", [PLAIN, HALF, pick("1"), MaskRule(threshold=1.0)])
def test_labels_that_jpeg_destroyed_are_rejected(value, rule, tmp_path):
    path = save(tmp_path / "mask.jpg", grey(value), quality=95)
    assert_refused(path, "in a JPEG, whose noise is as large", rule)


def test_labels_cannot_be_chosen_in_a_jpeg_that_has_noise(tmp_path):
    path = save(tmp_path / "labels.jpg", grey(170, 85), quality=95)
    assert_refused(path, "is a JPEG, whose noise has changed the labels '170'", pick("170"))
    even = save(tmp_path / "even.jpg", np.full(SHAPE, 170, np.uint8), quality=95)
    assert tumour(even, pick("170")).all()


def test_an_empty_mask_is_empty_in_every_format(tmp_path):
    for suffix in ("png", "jpg", "tif", "bmp"):
        path = save(tmp_path / f"mask.{suffix}", grey(0))
        assert not tumour(path).any()
        assert not tumour(path, HALF).any()


@pytest.mark.parametrize("value", [1, 2, 127])
def test_a_mask_below_the_threshold_that_is_not_all_zero_is_rejected(value, tmp_path):
    path = save(tmp_path / "mask.png", grey(value))
    assert_refused(path, rf"largest value is {value}, below --mask-threshold HALF \(127\.5\)", HALF)
    assert_lesion(path, MaskRule(threshold=float(value)))


def test_a_threshold_of_another_scale_is_rejected(tmp_path):
    path = save(tmp_path / "soft.png", soft())
    assert_refused(path, r"--mask-threshold 0\.5 would make every value", MaskRule(threshold=0.5))


def test_red_and_blue_count_though_their_luma_is_low(tmp_path):
    for name, colour in (("red", RED), ("blue", (0, 0, 255)), ("dark", (0, 0, 9))):
        path = save(tmp_path / f"{name}.png", colours(colour))
        assert_lesion(path)
        if max(colour) == 255:
            assert_lesion(path, HALF)


def test_several_colours_are_listed_until_they_are_chosen(tmp_path):
    path = save(tmp_path / "polyps.png", colours(RED, GREEN))
    assert_refused(path, r'2 labels, #00ff00 \(35 px, 7\.3%\), #ff0000 \(81 px, 16\.9%\).*--labels "#ff0000"')
    assert_lesion(path, pick("#FF0000"))
    assert_lesion(path, pick("#ff0000", "#00ff00"), LESION | OTHER)
    assert_lesion(path, HALF, LESION | OTHER)
    assert read_mask(path, SHAPE, pick("#ff0000", "#0000ff")).labels == {"#ff0000"}


def test_noisy_colours_are_soft_and_any_bright_channel_counts(tmp_path):
    wide = {"quality": 95, "subsampling": 0}
    path = save(tmp_path / "polyps.jpg", colours(RED, GREEN), **wide)
    assert_refused(path, "soft: it has .* colours.*--mask-threshold HALF")
    drawn = tumour(path, HALF)
    assert (drawn != (LESION | OTHER)).mean() < 0.03
    assert drawn[LESION].mean() > 0.95
    near = save(tmp_path / "near.png", colours(RED, (251, 0, 0)))
    assert_refused(near, "soft: it has 3 colours", pick("#ff0000"))


def test_white_and_black_may_be_chosen_as_colours(tmp_path):
    path = save(tmp_path / "mask.png", colours(WHITE, (128, 128, 128)))
    assert_lesion(path, pick("#ffffff"))
    assert_lesion(path, pick("255"))
    assert_lesion(path, pick("#808080"), OTHER)


def test_an_opaque_alpha_channel_is_ignored_and_another_rejected(tmp_path):
    rgba = np.dstack([colours(WHITE), np.full(SHAPE, 255, np.uint8)])
    assert_lesion(save(tmp_path / "opaque.png", rgba))
    rgba[..., 3] = grey(255)
    assert_refused(save(tmp_path / "alpha.png", rgba), "transparent in parts")


def test_labels_of_a_palette_count_by_index(tmp_path):
    voc = {0: BLACK, 1: (128, 0, 0), 255: (224, 224, 192)}
    path = indexed(tmp_path / "voc.png", grey(1, 255), voc)
    assert_refused(path, "2 labels, 1 .*255")
    assert_lesion(path, pick("1"))
    assert_lesion(path, pick("#800000"))
    assert not tumour(path, pick("#123456")).any()
    assert_refused(path, "colours of a palette.*--mask-threshold", HALF)
    assert_lesion(indexed(tmp_path / "one.png", grey(1), voc))
    assert_lesion(indexed(tmp_path / "black.png", grey(1), {0: BLACK, 1: BLACK}))
    assert_lesion(indexed(tmp_path / "mask.bmp", grey(1), voc))


def test_greys_of_a_palette_count_as_they_are_shown(tmp_path):
    inverted = indexed(tmp_path / "inverted.png", 1 - grey(1), {0: WHITE, 1: BLACK})
    assert_lesion(inverted)
    assert_lesion(inverted, HALF)


def test_colours_of_a_palette_count_where_black_is_not_its_first(tmp_path):
    path = indexed(tmp_path / "by-area.png", 1 - grey(1), {0: RED, 1: BLACK})
    assert_lesion(path)
    assert_lesion(path, pick("#ff0000"))


@pytest.mark.parametrize(
    ("depth", "colour", "rows", "transparent"),
    [
        (8, 0, grey(0, 255).tobytes(), struct.pack(">H", 255)),
        (16, 0, grey(9, 500, dtype=">u2").tobytes(), struct.pack(">H", 500)),
        (1, 0, np.packbits(LESION, axis=1).tobytes(), struct.pack(">H", 0)),
        (
            2,
            0,
            np.repeat(np.packbits(LESION, axis=1), 1, axis=1).tobytes() + b"\0" * 48,
            struct.pack(">H", 0),
        ),
        (8, 2, colours(RED).tobytes(), struct.pack(">3H", *BLACK)),
        (8, 3, grey(1).tobytes(), b"\0\xff"),
    ],
)
def test_transparency_of_a_value_is_transparency(depth, colour, rows, transparent, tmp_path):
    palette = ((b"PLTE", bytes(6)),) if colour == 3 else ()
    (tmp_path / "mask.png").write_bytes(png(depth, colour, rows, *palette, (b"tRNS", transparent)))
    assert_refused(tmp_path / "mask.png", "transparent in parts")
    with pytest.raises(BadCase, match="transparent in parts"):
        read_image(tmp_path / "mask.png")


def test_a_transparent_value_that_no_pixel_has_is_harmless(tmp_path):
    for name, depth, colour, rows, value in (
        ("grey", 8, 0, grey(255).tobytes(), struct.pack(">H", 7)),
        ("red", 8, 2, colours(RED).tobytes(), struct.pack(">3H", 0, 0, 9)),
        ("index", 8, 3, grey(1).tobytes(), b"\xff\xff\0"),
    ):
        path = tmp_path / f"{name}.png"
        table = ((b"PLTE", bytes([0, 0, 0, 255, 0, 0, 9, 9, 9])),) if colour == 3 else ()
        path.write_bytes(png(depth, colour, rows, *table, (b"tRNS", value)))
        assert_lesion(path)


def test_floats_of_a_tiff_are_labels_or_soft(tmp_path):
    assert_lesion(save(tmp_path / "labels.tif", grey(1, dtype=np.float32) * np.float32(0.9999)))
    path = save(tmp_path / "soft.tif", soft(1, np.float32))
    assert_refused(path, r"soft: its values go from .* to 0\.98")
    assert_lesion(path, HALF)
    assert_refused(save(tmp_path / "nan.tif", np.where(LESION, np.nan, 0).astype(np.float32)), "nan")


def test_several_pages_are_no_mask(tmp_path):
    pages = [Image.fromarray(grey(255)) for _ in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert_refused(tmp_path / "pages.tif", "2 pages")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM\0\0"])
def test_a_file_that_is_no_image_is_no_mask(content, tmp_path):
    (tmp_path / "mask.png").write_bytes(content)
    assert_refused(tmp_path / "mask.png", "cannot be read as an image")


def test_no_part_of_a_damaged_palette_mask_is_used(tmp_path):
    sound = indexed(tmp_path / "mask.png", grey(1), {1: RED}).read_bytes()
    for length in range(0, len(sound) - 20, 7):
        (tmp_path / "cut.png").write_bytes(sound[:length])
        assert_refused(tmp_path / "cut.png", "cannot be read as an image")


def test_the_labels_of_a_row_replace_those_of_the_options():
    options = ReadOptions(labels=("2",), mask_threshold="half")
    plain = Source("a", "p", Path("a"), ())
    own = Source("a", "p", Path("a"), (), labels=("5",))
    assert user_rule(plain, options) == MaskRule(("2",), "half", has_choice=True)
    assert user_rule(own, options) == MaskRule(("5",), None, has_choice=True)


def test_the_only_label_of_a_palette_is_called_by_its_colour(tmp_path):
    """Programs number the colours of each file anew, so that red and green may both be index 1."""
    black_and = {0: (0, 0, 0)}
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0)]):
        path = indexed(tmp_path / f"{number}.png", LESION.astype(np.uint8), {**black_and, 1: colour})
        marked = read_mask(path, SHAPE, PLAIN)
        np.testing.assert_array_equal(marked.tumour, LESION)
        assert marked.labels == {f"#{colour[0]:02x}{colour[1]:02x}00"}
