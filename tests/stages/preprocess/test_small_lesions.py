"""Which rule tells small lesions from large ones: what the user says, else the reader."""

import pytest

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from flames_cli.stages.preprocess.small_lesions import check_rules, choose_rule

ASKED = SmallLesionRule("area", 500, 500)
OTHER = SmallLesionRule("box", 7, 7)


def config(datasets=(), **small):
    return PreprocessConfig(
        datasets=datasets, small={name.replace("_", "-"): rule for name, rule in small.items()}
    )


@pytest.mark.parametrize("name", READERS)
def test_where_the_user_does_not_say_the_reader_does(name):
    assert choose_rule(config(unheard_of=ASKED), READERS[name], name) == READERS[name].small_lesion_rule


@pytest.mark.parametrize("name", ["lits-slices", "lits_slices", "DATA_LITS", "Lits-Slices"])
def test_a_rule_is_found_under_any_name_of_its_data_set(name):
    made = PreprocessConfig(small={"lits": OTHER, name: ASKED})
    assert choose_rule(made, READERS["lits-slices"], "lits-slices") == ASKED


def test_one_of_a_manifests_data_sets_has_the_rule_of_its_own_name_first():
    given = config(sts_ct=ASKED, sts=OTHER)
    manifest = READERS["manifest"]
    assert choose_rule(given, manifest, "sts-ct", "sts") == ASKED
    assert choose_rule(given, manifest, "sts-mri", "sts") == OTHER
    assert choose_rule(config(manifest=ASKED), manifest, "sts-mri", "sts") == ASKED
    assert choose_rule(config(), manifest, "sts-mri", "sts") == DEFAULT_RULE


def test_rules_for_known_data_sets_pass():
    check_rules(config(["busi", "kvasir", "lits"], kvasir_seg=ASKED, lits=OTHER), READERS["busi"], ["busi"])
    check_rules(
        config(["manifest", "busi"], sts=ASKED, STS_CT=OTHER, busi=OTHER),
        READERS["manifest"],
        ["sts-ct", "sts-mri", "sts"],
    )


def test_a_rule_for_a_data_set_that_there_is_not_is_refused():
    with pytest.raises(FlamesError, match=r"'bussi', expected a data set of this command: busi$"):
        check_rules(config(["busi"], bussi=ASKED), READERS["busi"], ["busi"])
    with pytest.raises(FlamesError, match=r"'st', expected a data set of this command: .*, sts-ct, sts$"):
        check_rules(config(["busi", "manifest"], st=ASKED), READERS["manifest"], ["sts-ct", "sts"])


@pytest.mark.parametrize("other", ["lits", "manifest"])
def test_a_rule_for_a_data_set_that_is_not_preprocessed_here_is_refused(other):
    with pytest.raises(FlamesError, match=f"--small names '{other}', expected a data set of this command"):
        check_rules(config(["kvasir"], **{other: ASKED}), READERS["kvasir"], ["kvasir"])


@pytest.mark.parametrize("twin", ["KVASIR", "kvasir-seg"])
def test_two_rules_for_one_data_set_are_refused(twin):
    made = PreprocessConfig(datasets=["kvasir"], small={"kvasir": ASKED, twin: OTHER})
    with pytest.raises(FlamesError, match=f"two rules for kvasir, as 'kvasir' and '{twin}'; pass one"):
        check_rules(made, READERS["kvasir"], ["kvasir"])


def test_beside_a_manifest_a_rule_may_be_for_one_of_its_data_sets():
    check_rules(config(["busi", "manifest"], sts_ct=ASKED), READERS["busi"], ["busi"])
