from flames_cli.store.files.aside import set_aside


def test_a_folder_is_kept_under_the_first_free_name(tmp_path):
    for number in (1, 2):
        (tmp_path / "flames.v1").mkdir()
        (tmp_path / "flames.v1" / "n.txt").write_text(str(number))
        assert set_aside(tmp_path / "flames.v1") == tmp_path / f"flames.v1-old-{number}"
    assert not (tmp_path / "flames.v1").exists()
    assert [(tmp_path / f"flames.v1-old-{number}" / "n.txt").read_text() for number in (1, 2)] == ["1", "2"]


def test_a_file_keeps_its_suffix(tmp_path):
    (tmp_path / "map.png").write_bytes(b"x")
    assert set_aside(tmp_path / "map.png") == tmp_path / "map-old-1.png"


def test_a_suffix_of_two_parts_stays_at_the_end(tmp_path):
    (tmp_path / "scan.v2.nii.gz").write_bytes(b"x")
    assert set_aside(tmp_path / "scan.v2.nii.gz") == tmp_path / "scan.v2-old-1.nii.gz"


def test_nothing_happens_where_nothing_is(tmp_path):
    assert set_aside(tmp_path / "flames") is None
