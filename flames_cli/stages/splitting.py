"""Which case goes into which set: server test, client test, client train."""

from flames_cli.config import PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS, Group, Share, find_overlaps, split_groups
from flames_cli.errors import FlamesError
from flames_cli.readers.base import Reader
from flames_cli.store.h5 import SpooledCase


def split_cases(
    reader: Reader, cases: list[SpooledCase], config: PreprocessConfig
) -> dict[str, list[SpooledCase]]:
    """The cases of each of SETS: whole groups, each stratum on its own.

    Raises:
        FlamesError: too few patients for the sets asked for.
    """
    strata: dict[str, dict[str, Group]] = {}
    for name, members in _by_group(cases).items():
        group = Group(images=len(members), patients=len({case.info.patient for case in members}))
        strata.setdefault(members[0].info.stratum, {})[name] = group
    set_of: dict[str, str] = {}
    for stratum, groups in sorted(strata.items()):
        share = _server_share(reader, config.server_test, groups, len(strata))
        rng = derive_rng(config.seed, "split", reader.NAME, stratum)
        set_of |= split_groups(groups, share, config.test_fraction, rng)
    sets = {name: [case for case in cases if set_of[case.info.group] == name] for name in SETS}
    _check_sets(reader, sets, config)
    return sets


def _by_group(cases: list[SpooledCase]) -> dict[str, list[SpooledCase]]:
    members: dict[str, list[SpooledCase]] = {}
    for case in cases:
        members.setdefault(case.info.group, []).append(case)
    return members


def _server_share(reader: Reader, server_test: float | None, groups: dict[str, Group], strata: int) -> Share:
    """What the server's test set takes of one stratum: a fraction of its patients, or its part of a number.

    By default the paper's number, but no more than a quarter of the patients.
    """
    images = sum(group.images for group in groups.values())
    if server_test is None:
        patients = sum(group.patients for group in groups.values())
        return Share(images=reader.SERVER_TEST / strata, patients=max(1, patients // 4))
    if server_test < 1:
        return Share.fraction(server_test, groups)
    if server_test / strata >= images:
        raise FlamesError(
            f"--server-test asks for {server_test / strata:g} of {images} {reader.NAME} images; "
            "leave some to train on"
        )
    return Share(images=server_test / strata)


def _check_sets(reader: Reader, sets: dict[str, list[SpooledCase]], config: PreprocessConfig) -> None:
    groups = {name: sorted({case.info.group for case in cases}) for name, cases in sets.items()}
    needed = ["client_train"]
    needed += ["client_test"] if config.test_fraction > 0 else []
    needed += ["server_test"] if config.server_test != 0 else []
    if empty := [name for name in needed if not groups[name]]:
        total = sum(len(patients) for patients in groups.values())
        raise FlamesError(
            f"{reader.NAME} has {total} usable patients, too few for {', '.join(empty)}; "
            "add patients, or pass --server-test 0"
        )
    if overlaps := find_overlaps(groups):
        raise FlamesError(
            f"{reader.NAME}: patient {overlaps[0][0]} is in {overlaps[0][1]} and {overlaps[0][2]}"
        )
