import pytest

from tests.support.reports import make_report


@pytest.fixture
def good_reports():
    return [
        make_report("brain-1", 1, 10, 4, 5),
        make_report("brain-2", 2, 30, 7, 3),
        make_report("breast", 4, 60, 9, 2),
    ]
