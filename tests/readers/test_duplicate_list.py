import pytest

from flames_cli.errors import FlamesError
from flames_cli.readers.duplicate_list import read_duplicate_list


def write(folder, content: bytes | str):
    path = folder / "dataset_comment_list.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_groups_are_read_from_the_filename_column(tmp_path):
    path = write(
        tmp_path,
        "Number,Filename,Comment\n"
        "1,{benign (1).png&benign (5).png},duplicates\n"
        "2,{benign (7).png},axilla\n"
        "3,{benign (2).png & malignant (3).PNG&benign (9)},three\n",
    )
    assert read_duplicate_list(path) == [
        ("benign (1)", "benign (5)"),
        ("benign (2)", "malignant (3)", "benign (9)"),
    ]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfFilename\r\n{a.png&b.png}\r\n\r\n")
    assert read_duplicate_list(path) == [("a", "b")]


def test_rows_that_are_too_short_or_empty_are_passed_over(tmp_path):
    path = write(tmp_path, "Number,Filename\n1\n2,\n3,{}\n4,{a.png&}\n5,{a.png&b.png}\n")
    assert read_duplicate_list(path) == [("a", "b")]


def test_a_list_without_the_column_is_rejected_with_its_columns(tmp_path):
    with pytest.raises(
        FlamesError, match=r"its columns are \['File', 'Comment'\], expected one called 'Filename'"
    ):
        read_duplicate_list(write(tmp_path, "File,Comment\na,b\n"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00F", b"PK\x03\x04\x80\x90 a workbook"])
def test_a_file_that_is_not_csv_is_rejected(content, tmp_path):
    with pytest.raises(FlamesError, match=r"dataset_comment_list\.csv"):
        read_duplicate_list(write(tmp_path, content))


def test_a_missing_list_is_rejected_with_its_option(tmp_path):
    with pytest.raises(FlamesError, match="check --duplicate-list"):
        read_duplicate_list(tmp_path / "gone.csv")
