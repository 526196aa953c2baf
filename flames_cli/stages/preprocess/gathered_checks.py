"""Checks of the sources that were read: bad cases, usable cases, and the labels of tumour."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.label_names import option_text
from flames_cli.errors import FlamesError, list_faults
from flames_cli.readers.base import Source
from flames_cli.stages.labels import absent_labels, differing_labels
from flames_cli.stages.preprocess.sources import Gathered
from flames_cli.stages.raw import Kind


def check_gathered(
    config: PreprocessConfig,
    collection: str,
    names: Mapping[Kind, str],
    sources: Sequence[Source],
    gathered: Mapping[Kind, Gathered],
) -> None:
    """Check that all data sets of a collection can be written.

    Raises:
        FlamesError: labels are not chosen, absent or differing; there are bad cases without `skip_bad`; or a
            data set has no usable case.
    """
    _require_choice(gathered.values())
    bad = [fault for part in gathered.values() for _, fault in part.bad]
    _require_no_bad_cases(collection, bad, config.skip_bad)
    _require_labels(config, sources, gathered)
    for kind, part in gathered.items():
        _require_usable_cases(names[kind], part)


def _require_choice(parts: Iterable[Gathered]) -> None:
    """Check that the user has chosen the labels of tumour where masks have several."""
    if unchosen := [fault for part in parts for fault in part.unchosen]:
        raise FlamesError(
            f"{list_faults(unchosen)}. Choose the labels of tumour: --skip-bad leaves out only files that "
            "cannot be trusted"
        )


def _require_no_bad_cases(name: str, bad: Sequence[str], skip_bad: bool) -> None:
    if not bad or skip_bad:
        return
    raise FlamesError(
        f"{name} has {len(bad)} bad {'case' if len(bad) == 1 else 'cases'}: {list_faults(bad)}. "
        "Correct them, or leave them out with --skip-bad"
    )


def _require_usable_cases(name: str, part: Gathered) -> None:
    """Check that a data set has cases left, without those that are bad or left out by a rule."""
    if part.sound:
        return
    bad = [fault for _, fault in part.bad]
    skipped = Counter(one.reason for one in part.skipped)
    reasons = [
        *([f"{len(bad)} bad ({list_faults(bad)})"] if bad else []),
        *(f"{count} left out ({reason})" for reason, count in skipped.most_common()),
    ]
    raise FlamesError(
        f"{name} has 0 usable cases of {len(part.listed)}: {', '.join(reasons)}; expected some. Correct the "
        "files and masks; `flames check` lists them all"
    )


def _require_labels(
    config: PreprocessConfig, sources: Sequence[Source], gathered: Mapping[Kind, Gathered]
) -> None:
    """Check that the labels of the masks are those that the user chose, or the same in all masks.

    Raises:
        FlamesError: a chosen label is in no mask, or masks without a choice have different labels.
    """
    parts = gathered.values()
    choices = (source.labels or config.labels for source in sources)
    if absent := absent_labels(choices, {label for part in parts for label in part.labels}):
        raise FlamesError(
            f"no mask has the label {', '.join(absent)}; expected each chosen one in a mask; correct "
            "--labels or the column labels, or leave them out: masks of several labels are then listed"
        )
    if differing := differing_labels({label for part in parts for label in part.only_labels}):
        raise FlamesError(
            f"the masks have different labels, {', '.join(differing)}, one each; expected the same in all; "
            f"find out what they mean, and pass those of tumour, such as {option_text(differing)}"
        )
