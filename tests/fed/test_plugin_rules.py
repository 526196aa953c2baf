import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS, get_algorithm
from flames_cli.fed.plugin_rules import find_rule, rule_text
from flames_cli.learn.train_options import PluginRule
from flames_cli.plugins import FILES_VARIABLE, use_files


@pytest.fixture(autouse=True)
def _file(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES_VARIABLE, "")
    path = tmp_path / "own_rules.py"
    path.write_text(
        "from flames_cli.core.federated.algorithm import Algorithm\n"
        "from flames_cli.learn.local_updates import LocalUpdate\n"
        "class Own(LocalUpdate):\n    pass\n"
        "def make(update='plain', groups='all', blend='mean'):\n"
        "    return Algorithm(local_update=update, groups=groups, blend=blend)\n"
        "STRATEGIES = {'own': make(Own), 'named': make(), 'no-rule': make(int),\n"
        "    'odd-rule': make('fedproxy'), 'no-blend': make(blend=int),\n"
        "    'odd-groups': make(groups='pairs'), 'other': 3}\n",
        encoding="utf-8",
    )
    use_files([path])


def test_a_built_in_rule_travels_as_its_name():
    assert rule_text(get_algorithm("fedprox"), "fedprox") == "fedprox"
    assert rule_text(get_algorithm("named"), "named") == "plain"
    assert find_rule("fedprox") == "fedprox"


def test_a_class_travels_as_the_name_of_its_strategy_and_the_client_finds_its_own():
    text = rule_text(get_algorithm("own"), "own")
    assert text == "plugin:own"
    found = find_rule(text)
    assert isinstance(found, PluginRule)
    assert found.kind is ALGORITHMS["own"].local_update
    assert found.label.startswith("strategy 'own' of own_rules.py sha256:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sgd", "the server asks for the local update rule 'sgd', expected one of plain"),
        ("", "the server asks for the local update rule ''"),
        ("plugin:missing", "strategy 'missing' is not known"),
        ("plugin:named", "has the rule plain, which is no class; install the same version"),
        ("plugin:", "the server asks for the local update rule 'plugin:'"),
        ("plugin:\x1b[2J", "the server asks for the local update rule 'plugin:"),
    ],
)
def test_a_rule_that_this_client_does_not_have_is_named(text, message):
    with pytest.raises(FlamesError, match=message):
        find_rule(text)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("no-rule", "its local_update int is no subclass of LocalUpdate"),
        ("odd-rule", "its local_update is 'fedproxy', expected a class or one of plain"),
        ("no-blend", "its blend int is no subclass of Blend"),
        ("odd-groups", "its groups are 'pairs', expected a function or one of all"),
        ("other", "it is a int, expected an Algorithm"),
    ],
)
def test_a_strategy_that_is_made_wrongly_is_named_with_its_package(name, fault):
    with pytest.raises(FlamesError, match=f"plug-in own_rules.py .* '{name}', which cannot be used: {fault}"):
        get_algorithm(name)
