import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.small_lesion_rule import Lesion
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.evaluations import (
    CaseScore,
    EvaluatedRun,
    EvaluationFile,
    VolumeScore,
    name_images,
    name_unseen,
    read_case_scores,
    read_evaluation_file,
    read_volume_scores,
    unseen_kind,
    write_case_scores,
    write_evaluation_file,
    write_volume_scores,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COUNTS = st.integers(0, 2**40)
VALUES = st.floats(0, allow_nan=False)
KINDS = {
    str: TEXTS,
    int: COUNTS,
    float: VALUES,
    bool: st.booleans(),
    int | None: st.none() | COUNTS,
    float | None: st.none() | VALUES,
    Lesion: st.sampled_from(["small", "large", "none"]),
    Mapping[str, float | None]: st.fixed_dictionaries({"own": st.none() | VALUES | st.just(math.inf)}),
    Mapping[str, str]: st.fixed_dictionaries({"sex": TEXTS, "vendor, model": TEXTS}),
}
READ = {CaseScore: read_case_scores, VolumeScore: read_volume_scores}
WRITE = {CaseScore: write_case_scores, VolumeScore: write_volume_scores}


def scores_of(kind):
    """Return a strategy for scores with any content."""
    columns = {one.name: KINDS[one.type] for one in fields(kind)}
    return st.builds(kind, **columns)


RUN = EvaluatedRun("a-seed-0", "flames", 0, None, 8, 9, "best", "the best", "default", "ab", "cd")
CONTENT = EvaluationFile(
    name="a",
    run="a",
    runs=(RUN, replace(RUN, name="a-seed-1", seed=1)),
    options={"splits": ["server_test"]},
    small={"busi": "area:100:100"},
    units={"server_test": {"busi": "patient"}},
    tables={"server": [{"model": "US", "dice_mean": 0.5, "hausdorff_px_mean": None}]},
    untested={"C3": "no test patients"},
)


@pytest.mark.parametrize("kind", [CaseScore, VolumeScore])
@given(data=st.data())
def test_scores_are_read_as_they_were_written(tmp_path_factory, kind, data):
    path = tmp_path_factory.getbasetemp() / f"{kind.__name__}.csv"
    scores = data.draw(st.lists(scores_of(kind), max_size=3))
    WRITE[kind](path, scores)
    assert READ[kind](path) == scores


def test_the_same_scores_give_the_same_bytes_and_one_line_each(tmp_path, case_score):
    write_case_scores(tmp_path / "a.csv", [case_score, case_score])
    write_case_scores(tmp_path / "b.csv", [case_score, case_score])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


@pytest.fixture
def case_score():
    """Return the score of one slice that its model misses."""
    return CaseScore(
        *("run", 0, None, "server_test", "MRI", "MRI", "brats", "", "brain", "", "", "p1", "c1", "v1"),
        *(True, "small", 0, 0, 9, 91, 0.0, 0.0, 0.91, 0.91, math.inf, math.inf, math.inf, math.inf),
        *(None, 14.1, None, 1, 0, 0),
        extra={"sex": "f"},
    )


def test_columns_have_the_names_of_the_fields_and_cells_without_a_value_are_empty(tmp_path, case_score):
    write_case_scores(tmp_path / "cases.csv", [case_score])
    header, line = (row.split(",") for row in (tmp_path / "cases.csv").read_text().splitlines())
    cells = dict(zip(header, line, strict=True))
    assert cells["fold"] == cells["assd_mm"] == cells["collection"] == ""
    assert (cells["hd95_px"], cells["selected"], cells["extra_sex"]) == ("inf", "1", "f")
    assert header[:4] == ["run", "seed", "fold", "split"]


def test_people_of_one_collection_are_one_whatever_the_data_set(case_score):
    assert case_score.person == "brats/p1"
    pair = [replace(case_score, collection="brain", dataset=name).person for name in ("t1", "t2")]
    assert pair == ["brain/p1", "brain/p1"]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (",tp,", ",hits,"),
        (",0.91,", ",much,"),
        (",small,", ",tiny,"),
        (",1,small", ",yes,small"),
        (",f", ",f,g"),
    ],
)
def test_a_table_that_this_release_did_not_write_is_an_error_that_names_the_command(
    tmp_path, case_score, was, now
):
    path = tmp_path / "cases.csv"
    write_case_scores(path, [case_score])
    changed = path.read_text().replace(was, now)
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(FlamesError, match="flames evaluate"):
        read_case_scores(path)


def test_a_missing_table_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(MissingArtifact, match=r"volumes\.csv does not exist; make it with `flames evaluate`"):
        read_volume_scores(tmp_path / "volumes.csv")


def test_evaluation_json_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "evaluation.json"
    write_evaluation_file(path, CONTENT)
    assert read_evaluation_file(path) == CONTENT
    assert CONTENT.is_family
    assert not replace(CONTENT, run="a-seed-0").is_family


@pytest.mark.parametrize(
    "change", [{"runs": []}, {"runs": [{}]}, {"more": 1}, {"version": 3}, {"incomplete": None}]
)
def test_an_evaluation_json_with_other_entries_is_an_error_that_names_the_command(tmp_path, change):
    path = tmp_path / "evaluation.json"
    write_evaluation_file(path, CONTENT)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FlamesError, match="flames evaluate"):
        read_evaluation_file(path)


def test_unseen_sites_organs_and_modalities_are_kinds_of_their_own():
    names = {"": "liver", "C5": "liver, C5 (unseen)", "unseen organ": "liver (unseen organ)"}
    assert {unseen: name_unseen("liver", unseen) for unseen in names} == names
    assert [unseen_kind(unseen) for unseen in names] == ["", "unseen sites", "unseen organ"]
    assert name_images("liver", "CT", "unseen modality") == "liver CT (unseen modality)"
    assert name_images("liver, C5 (unseen)", "CT", "C5") == "liver, C5 (unseen)"
    assert name_images("all organs", "", "") == "all organs"
