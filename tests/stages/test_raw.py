import pytest

from flames_cli.stages.raw import slug


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Klinik Süd", "klinik-sud"),
        ("Klinik Su\N{COMBINING DIAERESIS}d", "klinik-sud"),
        ("Hôpital_Nord (2)", "hopital-nord-2"),
        ("日本", ""),
    ],
)
def test_names_of_files_are_plain_letters_and_digits(text, name):
    assert slug(text) == name
