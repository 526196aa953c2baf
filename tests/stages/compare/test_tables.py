"""Lines and numbers of a comparison."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.errors import FlamesError
from flames_cli.stages.compare.lines import divide_by, make_lines
from flames_cli.stages.compare.samples import pool_scores
from flames_cli.stages.compare.tables import OPTIONS, find_best, make_tables, missing_models
from tests.support.evaluations import case_score, volume_score

CLIENTS = {"busi": "US", "otu2d": "US", "brats-1": "MRI"}


def run_of(gain=0.0, clients=tuple(CLIENTS), server=("US", "MRI"), n=3, **changes):
    """Scores of a run: `n` patients of every client and server model, all better by `gain`."""
    scores = []
    for model, split in [
        *((one, "client_test") for one in clients),
        *((one, "server_test") for one in server),
    ]:
        for number in range(n):
            facts = {"model": model, "split": split, "modality": CLIENTS.get(model, model), "dataset": model}
            name = f"{split}-{model}-{number}"
            scores.append(case_score(name, 0.2 + number / 10 + gain, **{**facts, **changes}))
    return pool_scores(scores)


def tables_of(pools, metric="dice", options=()):
    return make_tables(pools, None, metric, 0, options or [metric])


def labels(lines, table):
    return [(line.kind, line.label) for line in lines if line.table == table]


def test_each_model_has_a_line_and_all_patients_come_last():
    lines = make_lines([run_of(), run_of(0.1)])
    assert labels(lines, "clients") == [
        *(("model", name) for name in ("busi", "otu2d", "brats-1")),
        ("all", "all patients"),
    ]
    assert labels(lines, "server") == [("model", "US"), ("model", "MRI"), ("all", "all patients")]
    assert [line.label for line in lines if line.headline] == ["all patients", "all patients"]


def test_one_model_alone_is_the_headline():
    lines = make_lines([run_of(clients=("busi",), server=()), run_of(clients=("busi",), server=())])
    assert [(line.label, line.headline) for line in lines] == [("busi", True)]


def test_a_model_that_a_run_does_not_have_is_an_empty_cell_and_in_no_mean():
    pools = [run_of(), run_of(clients=("busi", "brats-1"))]
    lines = make_lines(pools)
    assert missing_models(lines, ["flames", "local"]) == {"local": ["otu2d"]}
    made = tables_of(pools, metric="dice").of("dice", "clients")
    empty = next(one for one in made if one.line.label == "otu2d")
    assert (empty.means[1], empty.differences) == (None, (None,))
    everybody = next(one for one in made if one.line.kind == "all")
    assert everybody.means[0].n == everybody.means[1].n == 6


def test_organs_and_data_sets_of_one_organ_stand_apart():
    scores = [
        case_score(f"{organ}-{dataset}", split="server_test", model="US", organ=organ, dataset=dataset)
        for organ, dataset in (("colon", "kvasir"), ("colon", "cvc"), ("breast", "busi"))
    ]
    lines = make_lines([pool_scores(scores)])
    assert labels(lines, "server") == [
        ("model", "US"),
        *(("part", name) for name in ("breast", "colon", "cvc", "kvasir")),
    ]


def test_unseen_sites_are_not_pooled_with_others():
    scores = [
        case_score(
            f"{modality}{site}", split="server_test", model=modality, modality=modality, unseen_site=site
        )
        for modality in ("US", "MRI")
        for site in ("", "C6")
    ]
    lines = make_lines([pool_scores(scores)] * 2)
    assert [line.label for line in lines if line.kind == "all"] == [
        "all patients",
        "all patients of unseen sites",
    ]
    assert "US, C6 (unseen)" in [line.label for line in lines]


def test_values_of_a_column_of_the_manifest_are_lines():
    scores = [case_score(f"{age}-{n}", extra={"age": age}) for age in ("9", "10", "") for n in range(2)]
    lines = divide_by([pool_scores(scores)], "age")
    assert [(line.table, line.label) for line in lines] == [
        ("clients-by-age", name) for name in ("9", "10", "(empty)")
    ]


def test_a_column_that_no_case_has_is_rejected_with_the_nearest_name():
    pools = [pool_scores([case_score("a", extra={"scanner": "x"})])]
    with pytest.raises(FlamesError, match=r"--by scaner, .*did you mean scanner\?.* lesion, scanner"):
        divide_by(pools, "scaner")


def test_sizes_of_lesions_are_those_of_images():
    with pytest.raises(FlamesError, match="rules for small lesions are for images"):
        divide_by([pool_scores([volume_score("v")])], "lesion")
    lines = divide_by([pool_scores([case_score("a", lesion="small"), case_score("b")])], "lesion")
    assert [line.label for line in lines] == ["large", "small"]


def test_distances_are_in_one_unit_if_all_cases_have_one():
    mm = {"hd95_mm": 4.0, "diagonal_mm": 60.0}
    known = pool_scores([case_score("a", **mm), case_score("b", **mm)])
    some = pool_scores([case_score("a", **mm), case_score("b")])
    columns = {one.column for one in tables_of([known], metric="hd95").of("hd95", "clients")}
    assert columns == {"hd95_mm_penalised"}
    columns = {one.column for one in tables_of([known, some], metric="hd95").of("hd95", "clients")}
    assert columns == {"hd95_px_penalised"}


def test_clients_with_other_units_have_no_common_mean():
    scores = [volume_score("v"), case_score("a")]
    tables = tables_of([pool_scores(scores)], options=("hd95", "dice"))
    made = tables.of("hd95", "clients")
    assert {(one.line.label, one.column) for one in made if any(one.means)} == {
        ("brats-1", "hd95_mm_penalised"),
        ("busi", "hd95_px_penalised"),
    }
    assert tables.spread("hd95") is None
    assert tables.spread("dice").runs[0].n_clients == 2


def test_surface_dice_is_that_of_volumes_only():
    tables = tables_of([pool_scores([volume_score("v"), case_score("a")])], metric="nsd")
    assert [one.line.label for one in tables.of("nsd", "clients") if one.line.kind == "model"] == ["brats-1"]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_volume_without_spacing_is_in_no_mean_of_millimetres(option):
    in_mm = ("volume_ml", "predicted_ml", "volume_error_ml", "hd95_mm", "assd_mm", "nsd_2mm", "diagonal_mm")
    unknown = dict.fromkeys(in_mm)
    pool = pool_scores([volume_score("a", 0.5), volume_score("b", 0.7, **unknown)])
    for one in tables_of([pool, pool], option).scores:
        mean = one.means[0]
        assert mean
        assert mean.n == (1 if one.column in {*in_mm, "hd95_mm_penalised", "assd_mm_penalised"} else 2)


def test_holm_s_families_are_all_patients_and_single_models():
    tables = tables_of([run_of(), run_of(0.1), run_of(0.2)], metric="dice")
    assert tables.families == {"single models": 10, "all patients": 4}
    for one in tables.scores:
        for made in one.differences:
            assert made.p_permutation_holm >= made.test.p_permutation


def test_equal_runs_have_no_best():
    assert find_best([0.5, 0.5], "dice") == set()
    assert find_best([0.5, 0.50001, 0.4], "dice") == {0, 1}
    assert find_best([3.0, 2.0, None], "hd95_px") == {1}
    assert find_best([0.5], "dice") == set()


@settings(max_examples=6)
@given(st.permutations([0.1, 0.2, 0.3]))
def test_the_order_of_the_other_runs_does_not_matter(gains):
    tables = tables_of([run_of(), *(run_of(gain) for gain in gains)], metric="dice")
    sorted_ = tables_of([run_of(), *(run_of(gain) for gain in sorted(gains))], metric="dice")
    for one, other in zip(tables.scores, sorted_.scores, strict=True):
        for field in ("differences", "means"):
            mine, theirs = (
                dict(zip(order, map(repr, getattr(scores, field)[-3:]), strict=True))
                for scores, order in ((one, gains), (other, sorted(gains)))
            )
            assert mine == theirs


def test_identical_runs_differ_by_nothing_in_every_metric():
    tables = tables_of([run_of(clients=("busi",))] * 2, options=OPTIONS)
    made = [difference for one in tables.scores for difference in one.differences if difference]
    assert len(made) > 20
    assert {(one.mean, one.test.p_permutation, one.p_permutation_holm) for one in made} == {(0.0, 1.0, 1.0)}


def test_every_line_has_its_own_identity():
    lines = make_lines([run_of(), run_of()]) + divide_by([run_of(), run_of()], "dataset")
    assert not [one for one, other in itertools.combinations(lines, 2) if one.id == other.id]
