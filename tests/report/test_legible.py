import pytest

from flames_cli.report.legible import legible, percent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Patient 7 größer.png", "Patient 7 größer.png"),
        ("a\x1b[31m\n\u202eb", "a\\x1b[31m\\n\\u202eb"),
        ("caf\udce9", "caf\\udce9"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_cannot_be_shown_is_spelled_out(text, shown):
    assert legible(text) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0"), (1e-6, "< 0.001"), (0.00064, "0.064"), (0.12345, "12.3"), (1, "100")]
)
def test_shares_are_written_in_percent(share, shown):
    assert percent(share) == shown
