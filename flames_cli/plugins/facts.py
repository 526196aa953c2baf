"""The plug-ins that a run used, as its facts store them."""

from collections.abc import Iterable

from flames_cli.errors import FlamesError
from flames_cli.plugins.origins import WORDS, Origin, one_line, same_package
from flames_cli.plugins.packages import is_pin, pin_text
from flames_cli.plugins.places import registry_of


def used(names: Iterable[tuple[str, str]]) -> tuple[Origin, ...]:
    """Return the origins of those names that plug-ins give, each once and in order.

    Args:
        names: group and name of all that a run uses, such as ("models", "tiny").
    """
    found = (registry_of(group).origin(name) for group, name in dict.fromkeys(names))
    return tuple(sorted((one for one in found if one), key=lambda one: one.key))


def require_plugins(facts: Iterable[str], what: str) -> list[str]:
    """Check that the plug-ins that `what` needs are there; return a note for each that is another one.

    Args:
        facts: texts of `Origin.fact`, such as `models/tiny flames-example 0.1`.
        what: the run or the model, such as "run 'fedavg'", for messages.

    Raises:
        FlamesError: a plug-in is not installed, or its file is not named.
    """
    notes = []
    for fact in facts:
        key, _, rest = fact.partition(" ")
        package, _, version = rest.rpartition(" ")
        group, _, name = key.partition("/")
        if group not in WORDS:
            continue  # of a newer release; whoever needs its name says that it is not known
        registry, package, version = registry_of(group), one_line(package), one_line(version)
        if name not in registry:
            raise FlamesError(
                f"{what} needs the {WORDS[group]} '{one_line(name)}' of the plug-in {package} {version}, "
                f"which is not there; {_how_to_get(package, version)}"
            )
        there = registry.origin(name)
        if there is None:
            notes.append(
                f"{what} used the {WORDS[group]} '{name}' of {package} {version}, which is built in now"
            )
        elif not same_package(there.package, package) or there.version != version:
            notes.append(
                f"{what} used the {WORDS[group]} '{name}' of {package} {version}, now it is of {there}"
            )
    return notes


def _how_to_get(package: str, version: str) -> str:
    if version.startswith("sha256:"):
        return f"pass --plugin FILE with the path of {package}"
    # A fact may be of a run from elsewhere: nobody is asked to type another text into a shell.
    command = f" (pip install {pin_text(package, version)})" if is_pin(package, version) else ""
    return f"install it{command}, or pass --plugin FILE"
