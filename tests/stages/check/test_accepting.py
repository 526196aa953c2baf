"""Accepted problems become notes; the others stay."""

from flames_cli.stages.check.accepting import accept_findings, count_accepted, find_outdated
from flames_cli.stages.check.survey import Finding, Where


def problem(*names, code="copies-across-patients"):
    where = tuple(Where(name, (name, "z")) for name in names)
    return Finding(severity="problem", code=code, what="pictures twice", fix="remove one", where=where)


def test_an_accepted_place_moves_to_a_note_with_the_reason():
    left, moved = accept_findings([problem("a", "b")], {"copies-across-patients:a=z": "seen"})
    assert (left.severity, left.what, len(left.where)) == (
        "problem",
        "pictures twice (1 of them accepted)",
        1,
    )
    assert (moved.severity, moved.code) == ("note", left.code)
    assert moved.where[0].text == "a (reason: seen)"
    assert count_accepted([left, moved]) == 1


def test_nothing_is_left_of_a_problem_with_all_places_accepted():
    both = {f"copies-across-patients:{name}=z": "seen" for name in "ab"}
    (moved,) = accept_findings([problem("a", "b")], both)
    assert moved.severity == "note"
    assert moved.is_accepted
    assert moved.what == "accepted: pictures twice"


def test_a_problem_without_places_is_accepted_by_its_code():
    few = problem(code="few-patients")
    (moved,) = accept_findings([few], {"few-patients": "a test"})
    assert (moved.severity, moved.where[0].text, moved.ids) == ("note", "reason: a test", few.ids)


def test_the_code_alone_does_not_accept_places_that_may_be_added_later():
    (left,) = accept_findings([problem("a")], {"copies-across-patients": "all"})
    assert left == problem("a")
    (absent,) = find_outdated([left], {"copies-across-patients": "all"})
    assert absent.where[0].text == "copies-across-patients"


def test_ids_that_no_finding_has_are_a_note():
    found = [problem("a")]
    (absent,) = find_outdated(found, {"copies-across-patients:a=z": "seen", "gone:b": "fixed", "c": "fixed"})
    assert (absent.severity, absent.code) == ("note", "accepted-but-absent")
    assert "accepts 2 findings that are not there" in absent.what
    assert list(find_outdated(found, {})) == []
