"""Which images of a data set hold small lesions: the user's rule, else its reader's."""

from collections.abc import Sequence

from flames_cli.config import PreprocessConfig
from flames_cli.core.lesions import SmallRule
from flames_cli.errors import FlamesError
from flames_cli.readers import find_reader
from flames_cli.readers.base import Reader


def check_rules(config: PreprocessConfig, reader: Reader, own: Sequence[str]) -> None:
    """Refuse a rule for a data set that there is not.

    Args:
        config: holds the rules.
        reader: of the data set that is being preprocessed.
        own: names that the data sets of a manifest go by.

    Raises:
        FlamesError: naming it.
    """
    if reader.MODALITY and any(_is_manifest(name) for name in config.datasets):
        return  # the rule may be for a data set of the manifest, whose names only its rows tell
    known = {name.lower() for name in own}
    strange = [name for name in config.small if name.lower() not in known and not find_reader(name)]
    if strange:
        others = "" if reader.MODALITY else f", {', '.join(own)}"
        raise FlamesError(
            f"--small names the data set '{strange[0]}', expected one that `flames info` lists{others}; "
            "check its spelling"
        )


def _is_manifest(name: str) -> bool:
    reader = find_reader(name)
    return reader is not None and not reader.MODALITY


def choose_rule(config: PreprocessConfig, reader: Reader, *names: str) -> SmallRule:
    """The user's rule for the first of `names` (a data set's, its collection's) that has one, then for those
    of the reader; else the reader's own."""
    given = {name.lower(): rule for name, rule in config.small.items()}
    asked = (name.lower() for name in (*names, reader.NAME, *reader.ALIASES))
    return next((given[name] for name in asked if name in given), reader.SMALL)
