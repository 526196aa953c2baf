import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flames_cli.config import (
    SECTIONS,
    DemoConfig,
    EvaluateConfig,
    FederateConfig,
    PartitionConfig,
    PreprocessConfig,
    Section,
    TsneConfig,
    load_section,
)
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.store import DEFAULT_WORKSPACE

EVERY_SECTION = pytest.mark.parametrize("kind", SECTIONS.values(), ids=SECTIONS.keys())


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        file = tmp_path / "flames.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


def refusal(kind, options, file=None):
    with pytest.raises(FlamesError) as caught:
        load_section(kind, options, file)
    assert caught.value.exit_code == 2
    return str(caught.value)


@EVERY_SECTION
def test_every_command_runs_on_its_defaults(kind):
    assert load_section(kind, {}) == kind()


def test_defaults_are_those_of_the_paper():
    preprocess, federate = load_section(PreprocessConfig, {}), load_section(FederateConfig, {})
    assert (preprocess.size, preprocess.test_fraction, preprocess.slice_half_width) == (240, 0.2, 20)
    assert (federate.rounds, federate.training.batch_size, federate.dice_weight) == (50, 64, 0.3)
    assert federate.run_name == federate.strategy == "flames"


def test_a_file_gives_only_what_it_names(write):
    config = load_section(FederateConfig, {}, write("[federate]\nrounds = 7\n[demo]\nrounds = 2\n"))
    assert config == FederateConfig(rounds=7)


def test_an_empty_file_changes_nothing(write):
    assert load_section(TsneConfig, {}, write("")) == TsneConfig()


def test_typed_options_win_over_the_file(write):
    file = write("seed = 1\n[federate]\nrounds = 7\nlr = 0.5\n")
    config = load_section(FederateConfig, {"rounds": 9, "seed": 4}, file)
    assert (config.rounds, config.lr, config.seed) == (9, 0.5, 4)


def test_shared_keys_are_at_the_top_and_a_table_may_differ(write, tmp_path):
    file = write('workspace = "here"\nseed = 3\n[tsne]\nseed = 5\n[evaluate]\nworkspace = "there"\n')
    assert load_section(PartitionConfig, {}, file).seed == 3
    assert load_section(TsneConfig, {}, file).seed == 5
    assert load_section(TsneConfig, {}, file).workspace == tmp_path / "here"
    assert load_section(EvaluateConfig, {}, file).workspace == tmp_path / "there"


def test_paths_are_relative_to_the_file(write, tmp_path):
    file = write(
        '[preprocess]\nduplicate_list = "lists/copies.csv"\n'
        '[preprocess.raw]\nbusi = "../busi"\notu2d = "/data/otu"\n'
        '[federate]\ndeployment = "../deployed"\n'
    )
    assert load_section(FederateConfig, {}, file).deployment == tmp_path / ".." / "deployed"
    config = load_section(PreprocessConfig, {}, file)
    assert config.duplicate_list == tmp_path / "lists" / "copies.csv"
    assert config.raw == {"busi": tmp_path / ".." / "busi", "otu2d": Path("/data/otu")}
    assert config.workspace == DEFAULT_WORKSPACE


def test_typed_paths_are_relative_to_the_current_folder(write):
    assert load_section(TsneConfig, {"workspace": "w"}, write('workspace = "v"')).workspace == Path("w")


def test_every_typed_error_is_shown_at_once_as_field_and_message():
    problems = refusal(FederateConfig, {"rounds": 0, "lr": -1, "device": "tpu", "bogus": 1}).split("; ")
    assert sorted(problem.split(":")[0] for problem in problems) == ["bogus", "device", "lr", "rounds"]
    assert "rounds: input should be greater than or equal to 1 (got 0)" in problems
    assert "bogus: extra inputs are not permitted (got 1)" in problems


def test_every_error_of_every_table_is_shown_at_once(write):
    file = write(
        "seed = -1\n[federate]\nrounds = 0\ncolour = 'red'\n[tsne]\nmax_images = 3\n"
        "[federate.lr_by_modality]\nMRI = -1\n"
    )
    message = refusal(PartitionConfig, {}, file)
    assert message.startswith(f"{file}: seed: input should be greater than or equal to 0 (got -1); ")
    for problem in (
        "federate.rounds: ",
        "federate.colour: ",
        "federate.lr_by_modality.MRI: ",
        "tsne.max_images: ",
    ):
        assert message.count(problem) == 1
    assert message.count("seed: ") == 1
    assert "\n" not in message


@EVERY_SECTION
def test_unknown_keys_are_rejected(kind):
    assert refusal(kind, {"colour": "red"}) == "colour: extra inputs are not permitted (got 'red')"


def test_a_key_that_is_nearly_right_is_suggested():
    message = refusal(PreprocessConfig, {"siz": 64})
    assert message == "siz: extra inputs are not permitted, did you mean size? (got 64)"


@pytest.mark.parametrize("word", ["gpu", "GPU", "nvidia"])
def test_a_word_for_cuda_is_understood_as_such(word):
    assert "did you mean cuda?" in refusal(FederateConfig, {"device": word})


@pytest.mark.parametrize(
    "rule", ["area", "area:1", "blob:5", "area:{5}", "box:5:inf", "", 100, ["area", 5], None]
)
def test_an_invalid_rule_for_small_lesions_is_rejected_in_one_sentence(rule):
    form = "area:RATIO or box:RATIO, or with :BASE at its end, numbers above 1, such as area:1000"
    message = refusal(PreprocessConfig, {"small": {"lits": rule}})
    assert message == f"small.lits: input should be {form} (got {rule!r})"


def test_a_rule_for_small_lesions_is_dumped_as_it_is_typed():
    made = load_section(
        PreprocessConfig, {"small": {"lits": "area:500", "kvasir": SmallLesionRule("box", 9, 2)}}
    )
    assert made.small["lits"] == SmallLesionRule("area", 500, 500)
    assert made.model_dump(mode="json")["small"] == {"lits": "area:500:500", "kvasir": "box:9:2"}


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ([240, -160], "window.CT: input should be LOW,HIGH with LOW below HIGH, such as -160,240 (got [240"),
        ([5], "window.CT: input should be two numbers, LOW,HIGH, such as -160,240 (got [5])"),
        (7, "window.CT: input should be two numbers, LOW,HIGH, such as -160,240 (got 7)"),
    ],
)
def test_an_invalid_window_is_rejected_in_one_sentence(window, says):
    message = refusal(PreprocessConfig, {"window": {"CT": window}})
    assert message.startswith(says)
    assert message.count("got ") == 1


@pytest.mark.parametrize("value", [-1.0, 0.5, 1.0])
def test_a_limit_that_half_of_all_clients_would_exceed_is_rejected(value):
    with pytest.raises(FlamesError, match="max_update_norm: input should be greater than 1, or 0 for no"):
        load_section(FederateConfig, {"max_update_norm": value})


def test_unknown_tables_are_rejected_with_the_known_ones(write):
    message = refusal(TsneConfig, {}, write("[train]\nrounds = 1\n"))
    assert "'train' is not known; choose from workspace, plugins, seed, [check], [preprocess]" in message
    assert all(f"[{name}]" in message for name in SECTIONS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("federate = 3", "federate: input should be a table, [federate] (got 3)"),
        ("[[federate]]\nrounds = 3", "federate: input should be a table, [federate] (got [{'rounds': 3}])"),
        ("[preprocess]\nraw = 3", "preprocess.raw: input should be a valid dictionary (got 3)"),
        ("[preprocess.raw]\nbusi = 3", "preprocess.raw.busi: input is not a valid path"),
        ("workspace = 3", "workspace: input is not a valid path"),
        ("[partition]\ndatasets = 3", "partition.datasets: input should be a valid tuple (got 3)"),
        (
            "[partition.split]\nbusi = 0",
            "partition.split.busi: input should be greater than or equal to 1, or 'site' (got 0)",
        ),
        (
            "[partition.split]\nbusi = true",
            "partition.split.busi: input should be a valid integer or 'site' (got True)",
        ),
        ("[partition]\nskew = 0", "partition.skew: input should be greater than 0 (got 0)"),
        (
            "[partition]\nfold = '6/5'",
            "partition.fold: input should be K/N with K from 1 to N and N of 2 or more",
        ),
        ("[partition]\nfold = '1/1'", "partition.fold: input should be K/N"),
        ("[partition]\nfold = '0/5'", "partition.fold: input should be K/N"),
        ("[partition]\nfold = 'one'", "partition.fold: input should be K/N"),
        ("[partition]\nfold = 3", "partition.fold: input should be a valid string (got 3)"),
        (
            "[partition.hold_out_site]\nlits = 3",
            "partition.hold_out_site.lits: input should be a valid tuple",
        ),
        (
            "[partition.hold_out_site]\nlits = ['']",
            "partition.hold_out_site.lits: string should have at least",
        ),
    ],
)
def test_values_of_the_wrong_kind_are_rejected(write, text, problem):
    assert f": {problem}" in refusal(TsneConfig, {}, write(text))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("kind", "key"), [(FederateConfig, "lr"), (TsneConfig, "perplexity"), (PreprocessConfig, "server_test")]
)
def test_numbers_that_are_not_finite_are_rejected(kind, key, value):
    assert refusal(kind, {key: value}).startswith(f"{key}: ")


@pytest.mark.parametrize("name", ["", "../elsewhere", "a/b", ".hidden", "run\n", "x" * 65, "röntgen"])
def test_run_names_that_would_not_make_a_folder_are_rejected(name):
    assert refusal(FederateConfig, {"run": name}).startswith("run: ")


def test_broken_toml_is_rejected_with_its_place(write):
    file = write("[federate]\nrounds = \n")
    message = refusal(FederateConfig, {}, file)
    assert message.startswith(f"{file} cannot be read as TOML: ")
    assert "line 2" in message


def test_a_missing_file_is_named(tmp_path):
    file = tmp_path / "nowhere.toml"
    assert refusal(FederateConfig, {}, file) == f"no configuration {file}; check --config"


def test_a_folder_or_binary_file_is_rejected(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path, tmp_path / "binary.toml"):
        assert "cannot be read as TOML" in refusal(FederateConfig, {}, file)


@EVERY_SECTION
def test_options_cannot_change_once_read(kind):
    with pytest.raises(ValidationError, match="frozen"):
        kind().seed = 3


@EVERY_SECTION
def test_every_command_shares_workspace_and_seed(kind):
    assert issubclass(kind, Section)
    assert {"workspace", "seed"} <= set(kind.model_fields)


@settings(max_examples=30)
@given(
    st.integers(1, 500),
    st.floats(1e-9, 10),
    st.booleans(),
    st.dictionaries(st.sampled_from(["MRI", "US"]), st.floats(1e-6, 1)),
)
def test_options_survive_a_file(tmp_path_factory, rounds, lr, augment, by_modality):
    config = FederateConfig(rounds=rounds, lr=lr, augment=augment, lr_by_modality=by_modality)
    file = tmp_path_factory.mktemp("config") / "flames.toml"
    text = tomli_w.dumps(
        {"federate": config.model_dump(mode="json", exclude_none=True, exclude={"workspace", "deployment"})}
    )
    assert tomllib.loads(text)
    file.write_text(text, encoding="utf-8")
    assert load_section(FederateConfig, {}, file) == config


def test_the_demo_keeps_to_its_own_workspace():
    assert load_section(DemoConfig, {}).workspace != DEFAULT_WORKSPACE


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (("2,3",), ("2", "3")),
        ("Tumour", ("Tumour",)),
        ([2, "#ff0000"], ("2", "#ff0000")),
        (2, ("2",)),
        ([], ()),
    ],
)
def test_labels_are_one_text_or_several(given, labels):
    assert PreprocessConfig(labels=given).labels == labels


@pytest.mark.parametrize(
    ("given", "threshold"), [("HALF", "half"), ("Half", "half"), ("128", 128.0), (0.5, 0.5), (None, None)]
)
def test_a_mask_threshold_is_half_or_a_number(given, threshold):
    assert PreprocessConfig(mask_threshold=given).mask_threshold == threshold


@pytest.mark.parametrize("value", ["full", "", "0", -1, "nan", "inf", True, [1]])
def test_another_mask_threshold_is_rejected(value):
    assert "a threshold should be HALF, or a number above 0" in refusal(
        PreprocessConfig, {"mask_threshold": value}
    )


@pytest.mark.parametrize(
    ("given", "seeds"), [("0,1, 2", (0, 1, 2)), (["3", "1"], (3, 1)), ([4, 0], (4, 0)), (7, (7,)), ((), ())]
)
def test_seeds_are_one_text_or_several(given, seeds):
    assert FederateConfig(seeds=given).seeds == seeds


@pytest.mark.parametrize("value", ["", ",", "-1", "0.5", "a", [True], [0.5], "0-3"])
def test_seeds_are_integers_from_0(value):
    assert "seeds should be integers" in refusal(FederateConfig, {"seeds": value})


def test_a_seed_is_not_repeated_and_not_too_large():
    assert "seeds should differ; 1 is repeated" in refusal(FederateConfig, {"seeds": "1,0,1"})
    assert "less than" in refusal(FederateConfig, {"seeds": str(2**63)})


def test_options_of_several_seeds_or_folds_make_a_family():
    assert FederateConfig(seeds=(3, 0)).makes_family
    assert FederateConfig(folds="").makes_family
    assert FederateConfig(folds="cv").makes_family
    assert not FederateConfig(run="mine", seed=3).makes_family


def test_each_fold_is_a_partition_with_the_same_options():
    config = PartitionConfig(folds=3, seed=7, name="cv")
    assert [(one.name, one.fold, one.seed, one.folds) for one in config.members] == [
        ("cv-fold-1", "1/3", 7, None),
        ("cv-fold-2", "2/3", 7, None),
        ("cv-fold-3", "3/3", 7, None),
    ]
    assert [one.name for one in PartitionConfig(folds=2).members] == ["fold-1", "fold-2"]
    assert PartitionConfig(name="a").members == [PartitionConfig(name="a")]


def test_a_fold_and_all_folds_exclude_each_other(tmp_path):
    assert "got fold 1/5 and folds 5, expected one" in refusal(PartitionConfig, {"fold": "1/5", "folds": 5})
    message = refusal(FederateConfig, {"partition": "fold-1", "folds": ""})
    assert "got partition fold-1 and folds, expected one of the two" in message
    file = tmp_path / "flames.toml"
    file.write_text("[partition]\nfolds = 5\n[federate]\nfolds = 'cv'\n", encoding="utf-8")
    assert load_section(PartitionConfig, {"fold": "1/5"}, file).folds is None
    assert load_section(FederateConfig, {"partition": "fold-1"}, file).folds is None
    assert load_section(FederateConfig, {}, file).folds == "cv"
    file.write_text("[federate]\npartition = 'other'\n", encoding="utf-8")
    assert load_section(FederateConfig, {"folds": ""}, file).makes_family


def test_seeds_and_another_seed_are_rejected(tmp_path):
    assert "got seed 5 and seeds 0,1" in refusal(FederateConfig, {"seed": 5, "seeds": "0,1"})
    assert load_section(FederateConfig, {"seed": 5, "seeds": "5"}).seeds == (5,)
    file = tmp_path / "flames.toml"
    file.write_text("[federate]\nseeds = [0, 1]\n", encoding="utf-8")
    assert "got seed 5 and seeds 0,1" in refusal(FederateConfig, {"seed": 5}, file)
    file.write_text("[federate]\nseed = 4\nseeds = [0, 1]\n", encoding="utf-8")
    assert "got seed 4 and seeds 0,1" in refusal(FederateConfig, {}, file)


def test_seeds_replace_the_seed_of_all_commands(tmp_path):
    file = tmp_path / "flames.toml"
    file.write_text("seed = 7\n[federate]\nseeds = [0, 1]\n", encoding="utf-8")
    assert load_section(FederateConfig, {}, file).seeds == (0, 1)
    assert load_section(PartitionConfig, {}, file).seed == 7
    file.write_text("seed = 7\n[federate]\nseed = 3\n", encoding="utf-8")
    assert load_section(FederateConfig, {"seeds": "0,1"}, file).seeds == (0, 1)


@pytest.mark.parametrize("value", ["", " ,", [""]])
def test_labels_without_a_label_are_rejected(value):
    assert "labels should be separated by commas" in refusal(PreprocessConfig, {"labels": value})


@pytest.mark.parametrize("value", ["0", "1,0", "0.0", "#000000", [0]])
def test_the_background_is_no_label_of_tumour(value):
    assert "0 is the background" in refusal(PreprocessConfig, {"labels": value})


@pytest.mark.parametrize(
    ("model", "lr", "batch_size"), [("densenet-unet", 1e-4, 64), ("unet", 1e-3, 16), ("sd-utnet", 1e-3, 16)]
)
def test_a_model_has_its_own_learning_rate_and_batch_size_unless_others_are_given(model, lr, batch_size):
    own = FederateConfig(model=model).training
    assert (own.lr, own.batch_size) == (lr, batch_size)
    given = FederateConfig(model=model, lr=0.5, batch_size=3).training
    assert (given.lr, given.batch_size) == (0.5, 3)


BOOLEANS = {
    "federate": (
        "lr = true\nrounds = true\nbatch_size = false\nround_timeout = true\nstrategy = true\n"
        "model_options = { base_channels = true }\nlr_by_modality = { MRI = true }\n",
        [
            *("lr", "rounds", "batch_size", "round_timeout", "strategy"),
            *("model_options.base_channels", "lr_by_modality.MRI"),
        ],
    ),
    "preprocess": (
        "size = true\nwindow = { CT = [false, true] }\npercentile = true\nlabels = [true]\n"
        "server_test = true\n",
        ["size", "window.CT", "percentile", "labels", "server_test"],
    ),
    "partition": ("split = { a = true }\nfolds = true\nskew = true\n", ["split.a", "folds", "skew"]),
    "evaluate": ("round = true\nseed = true\n", ["round", "seed"]),
    "demo": ("rounds = true\n", ["rounds"]),
}


@pytest.mark.parametrize("section", BOOLEANS)
def test_true_and_false_are_no_numbers_and_no_texts(section, write):
    text, fields = BOOLEANS[section]
    with pytest.raises(FlamesError) as caught:
        load_section(SECTIONS[section], {}, write(f"[{section}]\n{text}"))
    for field in fields:
        assert f"{section}.{field}: " in str(caught.value)
    assert str(caught.value).count("(got True)") + str(caught.value).count("(got False)") >= len(fields)
    assert " (got 1" not in str(caught.value)


def test_true_is_no_number_from_python_either():
    with pytest.raises(FlamesError, match="lr"):
        FederateConfig(lr=True)
    assert FederateConfig(fresh=True).fresh


def test_a_file_of_windows_is_read_and_utf_16_is_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbf[federate]\r\nrounds = 3\r\n")
    assert load_section(FederateConfig, {}, path).rounds == 3
    path.write_bytes("[federate]\nrounds = 3\n".encode("utf-16"))
    with pytest.raises(FlamesError, match=r"cannot be read as TOML: it is UTF-16 .*; save it as UTF-8"):
        load_section(FederateConfig, {}, path)
