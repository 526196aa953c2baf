"""The options, the configuration and docs/cli.md cannot drift apart."""

import inspect
import re
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from flames_cli import config
from flames_cli.cli.app import app
from flames_cli.cli.names import known_names
from flames_cli.cli.options import check_options, parse_by_modality, parse_lists, parse_number, parse_pairs
from flames_cli.cli.section_command import closed_set, plain_type
from flames_cli.config import SECTIONS, SHARED, Section
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.augmentations import AUGMENTATIONS
from flames_cli.learn.loss_registry import LOSSES
from flames_cli.learn.models import MODEL_SUMMARIES, MODELS, model_class
from flames_cli.learn.optimisers import OPTIMISERS
from flames_cli.readers import READERS
from flames_cli.stages.federate.engines import SUPERLINK_WAIT_SECONDS
from flames_cli.stages.federate.resuming import FREE_TO_CHANGE

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"

COMMANDS = typer.main.get_command(app).commands
for _name, _command in COMMANDS.items():
    _command.get_params(click.Context(_command, info_name=_name))  # builds the options

NO_KEYS = {"config", "json_output", "help", "quiet", "resume", "verbose"}
UNTYPED = {
    "federate": {"lr_by_modality", "local_epochs_by_modality", "min_clients_by_modality"},
    "check": {"seed"},
    "evaluate": {"seed"},
    "export": {"seed"},
    "predict": {"seed"},
    "report": {"seed"},
}
"""Keys without an option of their own: --lr, --local-epochs and --min-clients give two; check, evaluate,
export, predict and report draw nothing."""

COLLECTED = {
    *("datasets", "raw", "window", "split", "hold_out_site", "lr", "model_options", "small", "labels"),
    *("keep_columns", "on", "local_epochs", "min_clients", "seeds", "runs", "metrics", "formats", "track"),
    *("plugins", "clients", "slow"),
    *("inputs", "models"),
    *("compare", "augmentations"),
}
"""Keys whose option collects text, so that its default is None."""

DEPLOY = COMMANDS["deploy"].commands
"""The commands below `flames deploy`, which have no configuration."""

EVERY_SECTION = pytest.mark.parametrize("name", SECTIONS)
EVERY_DEPLOY = pytest.mark.parametrize("name", DEPLOY)


def typed(name):
    """{key: option} of a command."""
    parameters = [one for one in COMMANDS[name].params if one.name not in NO_KEYS]
    return {one.name: one for one in parameters}


def test_every_command_has_its_section_and_every_section_its_command():
    assert set(COMMANDS) == {*SECTIONS, "info", "deploy", "models", "runs"}


@EVERY_SECTION
def test_every_key_has_its_option_and_every_option_its_key(name):
    assert {*typed(name), *UNTYPED.get(name, ())} == set(SECTIONS[name].model_fields)


@EVERY_SECTION
def test_options_have_the_defaults_of_their_keys(name):
    defaults = SECTIONS[name]()
    for key, option in typed(name).items():
        if key in COLLECTED:
            assert option.default is None
        elif isinstance(getattr(defaults, key), Path):
            assert Path(option.default) == getattr(defaults, key)
        else:
            assert option.default == getattr(defaults, key), key


def test_defaults_that_help_spells_out_are_those_of_the_keys():
    for key in ("lr", "batch_size"):
        shown = typed("federate")[key].show_default
        own, other = re.fullmatch(r"(\S+) for densenet-unet, else (\S+)", shown).groups()
        assert float(own) == getattr(config.FederateConfig().training, key)
        assert float(other) == getattr(config.FederateConfig(model="unet").training, key)
    assert int(typed("federate")["local_epochs"].show_default) == config.FederateConfig().local_epochs
    assert float(typed("federate")["wait_for_clients"].show_default) == SUPERLINK_WAIT_SECONDS
    (workspace,) = (one for one in COMMANDS["info"].params if one.name == "workspace")
    assert Path(workspace.default) == config.FederateConfig().workspace


@EVERY_SECTION
def test_every_option_says_what_it_is_for(name):
    for parameter in COMMANDS[name].params:
        assert parameter.help.endswith((".", "}.")), parameter.name


@EVERY_DEPLOY
def test_every_option_of_a_deployment_says_what_it_is_for(name):
    for parameter in options_of(DEPLOY[name]):
        assert parameter.help.endswith("."), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_text_has_brackets_which_its_printer_removes(name):
    command = COMMANDS[name]
    for option in command.get_params(click.Context(command, info_name=name)):
        assert not re.search(r"(?<!\\)\[", getattr(option, "help", None) or "")


def test_help_shows_every_closed_set():
    options = typed("federate")
    assert options["device"].metavar == "[auto|cpu|cuda|mps]"
    assert options["precision"].metavar == "[auto|fp32|bf16]"
    assert set(options["optimiser"].metavar.strip("[]").split("|")) == set(OPTIMISERS)
    closed = [
        key
        for key, field in SECTIONS["federate"].model_fields.items()
        if closed_set(plain_type(field.annotation)) and not (field.json_schema_extra or {}).get("metavar")
    ]
    assert all(options[key].metavar.startswith("[") for key in closed)


def test_names_are_those_of_the_registries():
    assert list(MODEL_SUMMARIES) == list(MODELS)
    assert known_names("strategies", Path()) == list(ALGORITHMS)
    assert known_names("datasets", Path("gone")) == list(READERS)
    assert known_names("losses", Path()) == list(LOSSES)
    assert known_names("augmentations", Path()) == list(AUGMENTATIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "dice-fokal"}, "loss 'dice-fokal' is not known"),
        ({"augmentations": ["gamma", "blurr"]}, "augmentation 'blurr' is not known"),
    ],
)
def test_a_loss_or_an_augmentation_that_is_not_known_is_named(options, message):
    with pytest.raises(FlamesError, match=message):
        check_options(config.FederateConfig(**options))


def test_augmentations_are_each_used_once_in_their_order(monkeypatch):
    names = [part for name in ("noise", "gamma", "noise") for part in ("--augmentation", name)]
    assert configured(monkeypatch, *names).training.augmentations == ("noise", "gamma")


def test_names_of_runs_to_evaluate_include_families(tmp_path):
    for name in ("fedavg", "flames-seed-0", "flames-seed-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.toml").touch()
    assert known_names("runs", tmp_path) == ["fedavg", "flames-seed-0", "flames-seed-1"]
    found = known_names("runs and families", tmp_path)
    assert found == ["flames", "fedavg", "flames-seed-0", "flames-seed-1"]


@pytest.mark.parametrize("name", SECTIONS)
def test_help_at_80_columns_has_every_option_in_full(name):
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).output
    named = {flag for one in COMMANDS[name].params for flag in (*one.opts, *one.secondary_opts)}
    assert {flag for flag in named if flag.startswith("--") and flag not in shown} == set()
    assert re.findall(r"\w*[a-z]…", shown) == []  # a word that is cut short


def test_the_panels_of_help_are_in_their_order_and_open_with_what_matters():
    options = [one for one in COMMANDS["federate"].params if one.name != "help"]
    panels = list(dict.fromkeys(one.rich_help_panel or "" for one in options))
    assert panels == [panel for panel in config.PANELS if panel in panels]
    assert [one.opts[0] for one in options[:3]] == ["--strategy", "--model", "--rounds"]


def test_check_and_preprocess_share_the_options_of_raw_data():
    shared = set(config.ReadConfig.model_fields) - {"seed"}
    for name in ("check", "preprocess"):
        assert shared <= set(typed(name))


@EVERY_SECTION
def test_rows_of_the_reference_are_the_options(name):
    told = [
        option
        for names, *_ in rows(name)
        for option in names
        if option.startswith("--") and option not in ("--workspace", "--plugin")
    ]
    there = [
        option
        for one in COMMANDS[name].params
        for option in (*one.opts, *one.secondary_opts)
        if one.name not in {*NO_KEYS, "workspace", "plugins"} and option.startswith("--")
    ]
    assert sorted(told) == sorted(there)


@EVERY_SECTION
def test_rows_of_the_reference_have_the_keys_and_defaults(name):
    told = {key: default for _, keys, default, _ in rows(name) for key in keys}
    expected = set(SECTIONS[name].model_fields) - set(SHARED)
    assert expected <= set(told), expected - set(told)
    for key, default in told.items():
        value = getattr(SECTIONS[name](), key)
        if isinstance(value, bool):
            assert default == ("yes" if value else "no"), key
        elif isinstance(value, int | float | str | Path):
            assert default == str(value), key


def test_the_reference_says_which_options_a_resumed_run_may_change():
    told = section("## `flames federate`").split("may change: ")[1].split(".\n")[0]
    ways = {option for _, keys, *_ in rows("federate") for option in keys}
    assert ways >= FREE_TO_CHANGE
    free = [names[0] for names, keys, *_ in rows("federate") if FREE_TO_CHANGE & set(keys)]
    assert sorted(re.findall(r"`([^`]+)`", told)) == sorted([*free, "--deployment"])


@EVERY_DEPLOY
def test_rows_of_the_reference_are_a_deployment_s_options(name):
    there = {one.opts[0]: one for one in options_of(DEPLOY[name])}
    told = {names[0]: default for names, default in deploy_rows(name)}
    assert set(told) == set(there)
    for option, default in told.items():
        shown = there[option].show_default
        assert default == (shown if isinstance(shown, str) else plain(there[option])), option


def test_the_reference_names_every_command_of_a_deployment_with_its_arguments():
    heads = re.findall(r"^### `flames deploy (.+)`$", section("## `flames deploy`"), re.MULTILINE)
    arguments = {
        name: [one.name.upper() for one in command.params if one.param_type_name == "argument"]
        for name, command in DEPLOY.items()
    }
    assert sorted(heads) == sorted(" ".join((name, *arguments[name])) for name in DEPLOY)


def options_of(command):
    return [one for one in command.params if one.param_type_name == "option" and one.name != "help"]


def plain(option):
    """An option's default in the reference's words."""
    if option.required:
        return "required"
    if isinstance(option.default, bool):
        return "yes" if option.default else "no"
    return "none" if option.default is None else str(option.default)


def deploy_rows(name):
    """(options, default) of each row of a command's table."""
    text = section("## `flames deploy`").split(f"### `flames deploy {name}")[1].split("\n### ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [
        (re.findall(r"`([^`]+)`", row[0]), row[1].strip("`"))
        for row in cells
        if len(row) == 3 and row[0].startswith("`--")
    ]


def test_the_reference_names_shared_options_and_every_command():
    text = DOCS.read_text(encoding="utf-8")
    assert [keys for _, keys, *_ in rows_of(section("## Options of every command"))] == [
        ["workspace"],
        ["plugins"],
        *[[]] * 3,
    ]
    for name in COMMANDS:
        assert f"## `flames {name}`" in text
    for option in (
        "--config",
        "--json",
        "--quiet",
        "--version",
        "--debug",
        "FLAMES_WORKSPACE",
        "FLAMES_PLUGINS",
    ):
        assert f"`{option}`" in text
    for code in (0, 1, 2, 3, 130):
        assert f"| {code} |" in section("## Exit codes")


def test_the_reference_s_configuration_is_read(tmp_path):
    file = tmp_path / "flames.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1])
    for kind in SECTIONS.values():
        assert config.load_section(kind, {}, file).seed == 1


def section(heading):
    text = DOCS.read_text(encoding="utf-8")
    return text.split(heading + "\n")[1].split("\n## ")[0]


def rows(name):
    return rows_of(section(f"## `flames {name}`"))


def rows_of(text):
    """(options, keys, default, what) of each row of a table."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [
        (re.findall(r"`([^`]+)`", row[0]), re.findall(r"`([^`]+)`", row[1]), row[2].strip("`"), row[3])
        for row in cells
        if len(row) == 4 and row[0].startswith(("`--", "`RUN", "`FILE"))
    ]


def test_pairs_are_read_with_and_without_spaces():
    assert parse_pairs("--split", ["a=1", " b = x=y "]) == {"a": "1", "b": "x=y"}
    assert parse_pairs("--split", None) is None
    assert parse_pairs("--split", []) is None


def test_a_name_that_is_typed_twice_is_rejected():
    with pytest.raises(FlamesError, match="--split names a twice, 1 and 2; pass it once"):
        parse_pairs("--split", ["a=1", "a=2"])


def test_lists_collect_the_values_of_one_name():
    typed_ = ["lits=C5", "polypgen = C 6", "lits=C4"]
    assert parse_lists("--hold-out-site", typed_) == {"lits": ["C5", "C4"], "polypgen": ["C 6"]}
    assert parse_lists("--hold-out-site", None) is parse_lists("--hold-out-site", []) is None
    with pytest.raises(FlamesError, match="--hold-out-site got 'C6', expected NAME=VALUE"):
        parse_lists("--hold-out-site", ["lits=C5", "C6"])


@pytest.mark.parametrize("item", ["", "a", "=", "a=", "=1", "a= ", " =1"])
def test_pairs_without_a_name_or_a_value_are_rejected(item):
    with pytest.raises(FlamesError, match=f"--split got '{item}', expected NAME=VALUE"):
        parse_pairs("--split", [item])


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("1e-4", 1e-4), ("-2", -2), ("x", "x"), ("", "")])
def test_numbers_keep_their_kind(text, number):
    assert parse_number(text) == number
    assert type(parse_number(text)) is type(number)


def test_rates_are_one_for_all_and_one_a_modality():
    assert parse_by_modality("--lr", "lr", None) == {"lr": None, "lr_by_modality": None}
    assert parse_by_modality("--lr", "lr", ["1e-4", "US=3e-4", "MRI=1e-5"]) == {
        "lr": 1e-4,
        "lr_by_modality": {"US": 3e-4, "MRI": 1e-5},
    }


@pytest.mark.parametrize(
    ("typed_", "expected"),
    [
        ((), {"rounds": 7, "lr": 0.5, "seed": 2}),
        (("--rounds", "50"), {"rounds": 50, "lr": 0.5}),
        (("--lr", "US=0.1"), {"lr": 0.5, "lr_by_modality": {"US": 0.1}}),
        (("--no-augment", "--seed", "0"), {"augment": False, "seed": 0}),
    ],
)
def test_what_is_typed_wins_over_the_file_even_where_it_is_the_default(
    typed_, expected, tmp_path, monkeypatch
):
    file = tmp_path / "flames.toml"
    file.write_text("seed = 2\n[federate]\nrounds = 7\nlr = 0.5\n")
    made = configured(monkeypatch, "--config", str(file), *typed_)
    assert {key: getattr(made, key) for key in expected} == expected


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    file = tmp_path / "flames.toml"
    file.write_text('workspace = "there"\n')
    monkeypatch.delenv("FLAMES_WORKSPACE", raising=False)
    assert configured(monkeypatch, "--config", str(file)).workspace == tmp_path / "there"
    monkeypatch.setenv("FLAMES_WORKSPACE", "here")
    assert configured(monkeypatch, "--config", str(file)).workspace == Path("here")
    assert configured(monkeypatch, "--workspace", "typed").workspace == Path("typed")


def configured(monkeypatch, *args) -> Section:
    """What `flames federate` would run with."""
    seen = []
    monkeypatch.setattr(
        "flames_cli.stages.federate.members.federate_all",
        lambda config, watch, folds: seen.append(config) or stop(),
    )
    with pytest.raises(SystemExit, match=r"^0$"):
        app(["federate", "--device", "cpu", *args])
    return seen[0]


def stop():
    raise typer.Exit


def test_the_reference_describes_every_strategy_and_model_with_its_options():
    told = {
        line.split("`")[1]: line for line in section("## `flames federate`").splitlines() if line[:3] == "| `"
    }
    assert told.keys() >= set(ALGORITHMS) | set(MODELS)
    for name in MODELS:
        parameters = inspect.signature(model_class(name)).parameters
        expected = {f"`{one}` {parameters[one].default}" for one in parameters if one != "in_channels"}
        assert set(re.findall(r"`[a-z_]+` [0-9.]+", told[name])) == expected


def test_the_help_says_what_every_strategy_is():
    epilog = COMMANDS["federate"].epilog
    for name, algorithm in ALGORITHMS.items():
        assert f"{name}: {algorithm.summary}" in epilog
