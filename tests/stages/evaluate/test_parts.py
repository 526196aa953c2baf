import pytest

from flames_cli.stages.evaluate.parts import ALL_ORGANS, divide, pool
from tests.support.scores import make_score, make_scored


def test_no_case_is_no_part():
    assert divide(make_scored([])) == []
    assert pool([make_scored([]), make_scored([])]) == []


def test_several_organs_follow_the_line_of_all_cases():
    scores = [make_score("a", 0.9), make_score("b", 0.0, "ovary"), make_score("c", 0.0, "ovary")]
    others = [make_score("a", 0.1), make_score("b", 0.2, "ovary"), make_score("c", 0.3, "ovary")]
    parts = divide(make_scored(scores, others))
    assert [(part.organ, len(part.cases)) for part in parts] == [
        (ALL_ORGANS, 3),
        ("breast", 1),
        ("ovary", 2),
    ]
    for part in parts:
        assert [ours.case for ours in part.cases] == [theirs.case for theirs in part.compared[0]]


def test_an_unseen_site_is_named_next_to_every_organ():
    scores = [make_score("a", 0.9), make_score("b", 0.0, "ovary")]
    parts = divide(make_scored(scores, unseen="C6"))
    assert [part.organ for part in parts] == [
        "all organs, C6 (unseen)",
        "breast, C6 (unseen)",
        "ovary, C6 (unseen)",
    ]
    assert {part.unseen for part in parts} == {"C6"}


def test_without_another_run_there_is_no_pair():
    (part,) = divide(make_scored([make_score("a", 0.9)]))
    assert part.compared is None
    assert part.gain_interval(0) is None
    with pytest.raises(ValueError, match="expected those of another run"):
        part.gains()


def test_runs_of_other_cases_are_never_paired():
    with pytest.raises(ValueError, match="scores of different cases"):
        divide(make_scored([make_score("a", 0.5), make_score("b", 0.5)], [make_score("a", 0.5)]))


def test_one_model_is_not_pooled():
    assert pool([make_scored([make_score("a", 0.9)]), make_scored([])]) == []


def test_clients_are_pooled_over_their_cases():
    clients = [
        make_scored([make_score("a", 0.9), make_score("b", 0.8)], label="busi", split="client_test"),
        make_scored([make_score("c", 0.1, "brain")], label="brats", modality="MRI", split="client_test"),
    ]
    (part,) = pool(clients)
    assert (part.label, part.modality, part.organ, part.unseen) == ("all clients", "", ALL_ORGANS, "")
    assert [case.case for case in part.cases] == ["a", "b", "c"]
    assert part.compared is None


def test_unseen_sites_are_pooled_apart():
    models = [
        make_scored([make_score("a", 0.9)]),
        make_scored([make_score("b", 0.8)], unseen="C5"),
        make_scored([make_score("c", 0.7)], unseen="C6"),
        make_scored([make_score("d", 0.6)], label="MRI"),
    ]
    seen, unseen = pool(models)
    assert (seen.label, seen.modality, seen.organ) == ("all models", "US", "breast")
    assert [case.case for case in seen.cases] == ["a", "d"]
    assert (unseen.organ, unseen.unseen) == ("breast, C5, C6 (unseen)", "C5, C6")
    assert [case.case for case in unseen.cases] == ["b", "c"]
    assert [part.unseen for part in pool(models[:3])] == ["C5, C6"]


def test_models_that_were_tested_on_the_same_cases_are_not_pooled():
    models = [
        make_scored([make_score("a", dice), make_score("b", dice)], label=f"US by {dice}")
        for dice in (0.9, 0.1)
    ]
    assert pool(models) == []


def test_models_are_compared_together_only_where_each_has_its_counterpart():
    ours = [
        make_scored([make_score("a", 0.9)], [make_score("a", 0.5)]),
        make_scored([make_score("b", 0.8)], [make_score("b", 0.4)]),
    ]
    (part,) = pool(ours)
    assert [case.case for case in part.compared[0]] == [case.case for case in part.cases] == ["a", "b"]
    (part,) = pool([*ours, make_scored([make_score("c", 0.8)])])
    assert part.compared is None
