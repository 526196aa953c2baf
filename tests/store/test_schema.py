from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store import schema
from flames_cli.store.schema import MADE_BY, PARTITION, SHARD, Format, check_stamp, stamp

FORMATS = [value for value in vars(schema).values() if isinstance(value, Format)]
PATH = Path("shards") / "a.h5"


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_every_format_passes_its_own_check_and_has_a_command(format_):
    check_stamp(stamp(format_), format_, PATH)
    assert MADE_BY[format_.name].startswith("flames ")


def test_no_two_formats_share_a_name():
    assert len({format_.name for format_ in FORMATS}) == len(FORMATS) == len(MADE_BY)


def test_another_format_is_rejected_with_the_command_that_makes_the_right_one():
    with pytest.raises(
        FlamesError, match=r"a\.h5 is flames-partition, expected flames-shard; run `flames partition`"
    ):
        check_stamp(stamp(PARTITION), SHARD, PATH)


@pytest.mark.parametrize("found", [{}, {"version": 1}, {"format": ""}])
def test_a_file_without_format_is_not_a_flames_file(found):
    with pytest.raises(FlamesError, match="is not a FLAMES file, expected flames-shard"):
        check_stamp(found, SHARD, PATH)


@pytest.mark.parametrize("version", [0, 1, 3, 7, None, "5"])
def test_another_version_is_rejected_with_both_versions(version):
    found = {"format": SHARD.name, "version": version}
    with pytest.raises(FlamesError, match=f"has version {version} of flames-shard") as no:
        check_stamp(found, SHARD, PATH)
    assert "`flames partition` again or use the release that wrote it" in str(no.value)
