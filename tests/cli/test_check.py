"""`flames check` as its user sees it: what it prints, and how it ends."""

import json

import pytest


def test_sound_data_pass_with_exit_code_0(flames, phantom_raw, tmp_path):
    result = flames("check", "--dataset", "otu2d", "--raw", phantom_raw["otu2d"], "--size", 32)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "ovary US" in result.stdout
    assert "note: 1 image will be left out: the mask is empty\n  8.JPG\n  what to do: " in result.stdout
    assert lines[-2].startswith("otu2d: PASSED, ")
    assert lines[-1] == "→ flames-workspace/check/otu2d.html"
    assert (tmp_path / "flames-workspace" / "check" / "otu2d.html").is_file()


def test_problems_end_with_exit_code_4_and_say_what_to_do(flames, phantom_raw):
    result = flames("check", "--dataset", "busi", "--raw", phantom_raw["busi"], "--size", 32)
    assert result.exit_code == 4
    assert (
        "problem: 1 picture is present twice, in two classes\n  benign (1) = malignant (3) (" in result.stdout
    )
    assert (
        "what to do: look at both pictures: if they are one picture, find out which class is right"
        in result.stdout
    )
    assert "busi: 1 problem, " in result.stdout
    assert "error:" not in result.stderr


def test_an_id_copied_from_the_terminal_accepts_its_problem(flames, phantom_raw, tmp_path):
    command = ("check", "--dataset", "busi", "--raw", phantom_raw["busi"], "--size", 32)
    (line,) = [line.strip() for line in flames(*command).stdout.splitlines() if line.startswith("    id = ")]
    assert line == 'id = "copies-across-classes:benign (1)=malignant (3)"'
    accepted = tmp_path / "accepted.toml"
    accepted.write_text(f'[[accept]]\n{line}\nreason = "as in the original data"\n', encoding="utf-8")
    result = flames(*command, "--accept", accepted)
    assert result.exit_code == 0
    assert "busi: PASSED with 1 accepted, " in result.stdout
    assert "(reason: as in the original data)" in result.stdout
    page = (tmp_path / "flames-workspace" / "check" / "busi.html").read_text(encoding="utf-8")
    assert "PASSED with 1 accepted" in page
    assert "copies-across-classes:benign (1)=malignant (3)" in page


def test_a_wrong_file_of_accepted_findings_ends_with_exit_code_2(flames, phantom_raw, tmp_path):
    command = ("check", "--dataset", "otu2d", "--raw", phantom_raw["otu2d"], "--size", 32)
    result = flames(*command, "--accept", tmp_path / "gone.toml")
    assert result.exit_code == 2
    assert not (tmp_path / "flames-workspace").exists()


def test_many_places_are_counted(flames, raw_copy):
    raw = raw_copy("otu2d")
    for path in (raw / "images").iterdir():
        path.write_bytes(b"")
    result = flames("check", "--dataset", "otu2d", "--raw", raw)
    assert result.exit_code == 4
    assert "problem: 16 images cannot be trusted" in result.stdout
    assert "  and 11 others\n" in result.stdout


@pytest.mark.parametrize("dataset", ["brats", "lits-slices", "manifest"])
def test_the_table_fits_a_terminal(dataset, flames, phantom_raw):
    result = flames("check", "--dataset", dataset, "--raw", phantom_raw[dataset], "--size", 32)
    table = result.stdout.split("note: ")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_json_is_one_report_or_a_list_and_the_exit_code_is_the_same(flames, phantom_raw, tmp_path):
    one = flames("check", "--dataset", "otu2d", "--raw", phantom_raw["otu2d"], "--size", 32, "--json")
    assert one.exit_code == 0
    report = json.loads(one.stdout, parse_constant=pytest.fail)
    path = tmp_path / "flames-workspace" / "check" / "otu2d.json"
    assert report == json.loads(path.read_text(encoding="utf-8"))
    raw = tmp_path / "flames-workspace" / "raw"
    raw.mkdir()
    for name in ("busi", "otu2d"):
        (raw / name).symlink_to(phantom_raw[name])
    both = flames("check", "--dataset", "busi", "--dataset", "otu2d", "--size", 32, "--json")
    assert both.exit_code == 4
    assert [report["passed"] for report in json.loads(both.stdout)] == [False, True]


def test_what_cannot_be_checked_is_one_line(error_line, phantom_raw, tmp_path):
    assert "pass --dataset NAME" in error_line("check")
    assert "--raw" in error_line("check", "--dataset", "busi", "--json")
    assert "slices: " in error_line("check", "--dataset", "brats", "--slices", "some")
    assert "window.CT" in error_line("check", "--dataset", "brats", "--window", "CT=3,1")


def test_the_configuration_has_a_section(flames, phantom_raw, tmp_path):
    file = tmp_path / "flames.toml"
    file.write_text(
        f'[check]\ndatasets = ["otu2d"]\nsize = 32\nraw = {{ otu2d = "{phantom_raw["otu2d"]}" }}\n'
    )
    result = flames("check", "--config", file, "--json")
    assert json.loads(result.stdout)["options"]["size"] == 32
