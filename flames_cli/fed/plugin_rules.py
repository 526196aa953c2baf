"""The local update rule of a request: its name, or the strategy of a plug-in, which each client has."""

from flames_cli.core.federated.algorithm import LOCAL_UPDATES, Algorithm
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.sanitise import sanitise
from flames_cli.learn.train_options import PluginRule
from flames_cli.plugins.origins import NAME

PLUGIN = "plugin:"
"""Start of a rule that is a class; the name of its strategy follows."""


def rule_text(algorithm: Algorithm, strategy: str) -> str:
    """Return the rule of an algorithm as it travels; no code does. `strategy` is the algorithm's name."""
    rule = algorithm.local_update
    return rule if isinstance(rule, str) else f"{PLUGIN}{strategy}"


def find_rule(text: str) -> str | PluginRule:
    """Return the rule of a request: its name, or the class that this client's own plug-in has.

    Raises:
        FlamesError: the rule is not known here, or its plug-in is not installed or has no rule of its own.
    """
    if text in LOCAL_UPDATES:
        return text
    name = text.removeprefix(PLUGIN)
    if not (text.startswith(PLUGIN) and NAME.fullmatch(name)):
        raise FlamesError(
            f"the server asks for the local update rule {sanitise(text[:80])!r}, expected one of "
            f"{', '.join(LOCAL_UPDATES)}; install the same version everywhere"
        )
    algorithm = get_algorithm(name)
    if isinstance(algorithm.local_update, str):
        raise FlamesError(
            f"the server asks for the local update rule of strategy '{name}', and the one that is installed "
            f"here has the rule {algorithm.local_update}, which is no class; install the same version of the "
            "plug-in everywhere"
        )
    return PluginRule(algorithm.local_update, algorithm.label)
