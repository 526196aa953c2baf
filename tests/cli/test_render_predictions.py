from rich.console import Console

from flames_cli.cli.render_predictions import _print_remarks

SIZES = ", training images had 356 to 663 rows and 438 to 1040 columns"


def lines_of(remarks):
    console = Console(width=80, record=True, quiet=False, file=None)
    with console.capture() as captured:
        _print_remarks(console, "", remarks, "yellow")
    return captured.get().splitlines()


def test_warnings_of_one_kind_are_one_line_with_the_ranges_of_the_inputs():
    remarks = [
        ("a", f"90 rows and 160 columns{SIZES}"),
        ("b", "mean intensity 0.95, training images had 0.10 to 0.50"),
        ("c", f"1000 rows and 160 columns{SIZES}"),
        ("d", f"200 rows and 160 columns{SIZES}"),
    ]
    assert lines_of(remarks) == [
        f"a and 2 more: 90 to 1000 rows and 160 columns{SIZES}",
        "b: mean intensity 0.95, training images had 0.10 to 0.50",
    ]


def test_warnings_of_models_with_other_training_images_are_lines_of_their_own():
    other = SIZES.replace("356", "100")
    assert lines_of([("a", f"90 rows and 160 columns{text}") for text in (SIZES, other)]) == [
        f"a: 90 rows and 160 columns{SIZES}",
        f"a: 90 rows and 160 columns{other}",
    ]


def test_other_remarks_are_joined_only_if_they_are_equal():
    assert lines_of([("a", "slice 3 is missing"), ("b", "slice 4 is missing")]) == [
        "a: slice 3 is missing",
        "b: slice 4 is missing",
    ]
