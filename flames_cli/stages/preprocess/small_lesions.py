"""Choice of the rule for small lesions: the user's rule, else the reader's."""

from collections.abc import Sequence

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.readers import find_reader, get_reader, names_of
from flames_cli.readers.base import Reader


def check_rules(config: PreprocessConfig, reader: Reader, own: Sequence[str]) -> None:
    """Check that every rule is for a data set that is preprocessed here, and that no data set has two.

    Args:
        config: the rules, and all data sets of the command.
        reader: reader of the data set that is being preprocessed.
        own: names of its data sets: a manifest may have several.

    Raises:
        FlamesError: a rule is not; the message names it.
    """
    readers = {reader.name: reader} | {one.name: one for one in map(get_reader, config.datasets)}
    known = {name.lower() for name in own}
    # A manifest's names are in its rows: an unknown name may be one of them until the manifest is read.
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
    """Return the user's rule for the first of `names` (a data set's, its collection's) that has one, then for
    the names of the reader; else the reader's own rule."""
    given = {name.lower(): rule for name, rule in config.small.items()}
    asked = (name.lower() for name in (*names, *names_of(reader)))
    return next((given[name] for name in asked if name in given), reader.small_lesion_rule)
