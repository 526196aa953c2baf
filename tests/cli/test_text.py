import pytest

from flames_cli.cli.text import count, duration, size


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


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (12_345, "12 KiB"),
        (3 * 2**20, "3.0 MiB"),
        (120 * 2**20, "120 MiB"),
        (2_200 * 2**20, "2.1 GiB"),
        (5 * 2**50, "5120 TiB"),
    ],
)
def test_sizes_are_said_as_a_person_says_them(n_bytes, said):
    assert size(n_bytes) == said
