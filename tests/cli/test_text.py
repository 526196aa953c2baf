import pytest

from flames_cli.cli.text import count, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (750, "12 min"),
        (3599, "60 min"),
        (3600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (86_399, "23 h 59 min"),
        (86_400, "1 day 0 h"),
        (2 * 86_400 + 5 * 3600, "2 days 5 h"),
    ],
)
def test_durations_are_said_as_a_person_says_them(seconds, said):
    assert duration(seconds) == said


def test_one_is_no_plural():
    assert [count(n, "patient") for n in (0, 1, 2)] == ["0 patients", "1 patient", "2 patients"]
