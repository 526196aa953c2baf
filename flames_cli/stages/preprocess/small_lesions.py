"""Which images of a data set hold small lesions: the user's rule, else its reader's."""

from collections.abc import Sequence

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.readers import find_reader, get_reader, names_of
from flames_cli.readers.base import Reader


def check_rules(config: PreprocessConfig, reader: Reader, own: Sequence[str]) -> None:
    """Refuse a rule for a data set that is not preprocessed here, and two rules for one.

    Args:
        config: holds the rules, and all data sets of the command.
        reader: of the data set that is being preprocessed.
        own: names that its data sets go by: those of a manifest are of its own.

    Raises:
        FlamesError: naming it.
    """
    readers = {reader.name: reader} | {one.name: one for one in map(get_reader, config.datasets)}
    known = {name.lower() for name in own}
    # A manifest's names stand in its rows: until it is read, one that is strange may be its.
    unread = bool(reader.modality) and any(not one.modality for one in readers.values())
    seen: dict[str, str] = {}
    for name in config.small:
        found = find_reader(name)
        known_here = name.lower() in known or (found is not None and found.name in readers)
        if not known_here and not (unread and found is None):
            raise FlamesError(
                f"--small names '{name}', expected a data set of this command: "
                f"{', '.join(dict.fromkeys([*readers, *own]))}"
            )
        target = found.name if found else name.lower()
        if target in seen:
            raise FlamesError(
                f"--small has two rules for {target}, as '{seen[target]}' and '{name}'; pass one"
            )
        seen[target] = name


def choose_rule(config: PreprocessConfig, reader: Reader, *names: str) -> SmallLesionRule:
    """The user's rule for the first of `names` (a data set's, its collection's) that has one, then for those
    of the reader; else the reader's own."""
    given = {name.lower(): rule for name, rule in config.small.items()}
    asked = (name.lower() for name in (*names, *names_of(reader)))
    return next((given[name] for name in asked if name in given), reader.small_lesion_rule)
