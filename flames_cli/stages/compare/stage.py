"""`flames compare`: several runs on the same test cases → tables side by side, paired differences and
pictures."""

from flames_cli.config import MAX_NAME, CompareConfig
from flames_cli.errors import FlamesError
from flames_cli.stages.compare.files import Comparison, write_comparison
from flames_cli.stages.compare.inputs import Evaluated, check_same_tests, gather_evaluations
from flames_cli.stages.compare.metrics import OPTIONS, of_plugins
from flames_cli.stages.compare.pictures import draw_comparison
from flames_cli.stages.compare.samples import choose_scores, pool_scores
from flames_cli.stages.compare.tables import make_tables
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.evaluations import PLUGINS
from flames_cli.store.workspace import comparison_folder


def compare(config: CompareConfig, progress: Progress = silent) -> Comparison:
    """Compare runs on the test cases that all have; a run without an evaluation is evaluated first.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: no run is named, the runs have different test patients, or no case has a metric, or it
            is not known.
    """
    if not config.runs:
        raise FlamesError(
            "got no run to compare, expected one or more; name them after the command, as in "
            "`flames compare flames fedavg`"
        )
    extra = of_plugins(config.metrics)
    found, notes = gather_evaluations(config, progress)
    pools = [
        pool_scores(choose_scores(one.cases, one.volumes, config.protocol, one.content.run)) for one in found
    ]
    check_same_tests(found, pools)
    progress("compare", 0, 1)
    tables = make_tables(pools, config.by, config.metrics[0], config.seed, (*OPTIONS, *extra))
    progress("compare", 1, 1)
    name = config.name or default_name(config)
    result = Comparison(
        name=name,
        folder=comparison_folder(config.workspace, name),
        evaluations=tuple(one.content for one in found),
        tables=tables,
        metrics=config.metrics,
        protocol=config.protocol,
        by=config.by,
        seed=config.seed,
        evaluated=tuple(one.content.run for one in found if one.made_now),
        notes=(*notes, *_notes(found)),
    )
    _check_metrics(result)

    def draw(made: Comparison) -> None:
        if config.overlays:
            draw_comparison(made, found, config.workspace)

    return write_comparison(result, draw)


def default_name(config: CompareConfig) -> str:
    """Return the names of the runs, joined by -vs-, with the options that change the numbers.

    Where that is too long for a name, the last runs are counted instead.
    """
    parts = [str(config.round) if isinstance(config.round, str) else f"round-{config.round}"]
    parts = [*(parts if config.round is not None else []), *_option_parts(config)]
    end = "".join(f"-{part}" for part in parts)
    for shown in range(len(config.runs), 0, -1):
        left_out = len(config.runs) - shown
        more = f"-and-{left_out}-more" if left_out else ""
        name = f"{'-vs-'.join(config.runs[:shown])}{more}{end}"
        if len(name) <= MAX_NAME:
            return name
    return f"{config.runs[0][: MAX_NAME - len(more + end)]}{more}{end}"


def _option_parts(config: CompareConfig) -> list[str]:
    protocol = [] if config.protocol == "auto" else [config.protocol]
    seed = [f"seed-{config.seed}"] if config.seed else []
    column = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in config.by or "")
    return [*protocol, *([f"by-{column[:24]}"] if config.by else []), *seed]


def _notes(found: list[Evaluated]) -> list[str]:
    """Return notes on runs that are not finished, whose models have statistics of another model, or that used
    plug-ins."""
    notes = []
    for one in found:
        if plugins := one.content.options.get(PLUGINS):
            notes.append(f"{one.content.run} used the plug-ins {', '.join(plugins)}")
        own = [name for name in one.content.untested if name.startswith(f"{one.content.run}-")]
        if own:
            notes.append(f"{one.content.run} is pooled without {', '.join(own)}")
        if stale := [run.name for run in one.content.runs if run.stale_statistics]:
            notes.append(f"{', '.join(stale)}: BatchNorm's statistics of this round are those of the blend")
    return notes


def _check_metrics(result: Comparison) -> None:
    """Check that the chosen metrics are known for at least one test set.

    Raises:
        FlamesError: one is not.
    """
    known = dict.fromkeys(one.option for one in result.tables.scores)
    for option in result.metrics:
        if option not in known:
            raise FlamesError(
                f"got --metric {option}, and no test case of these runs has it with --protocol "
                f"{result.protocol}; choose one of {', '.join(known)}"
            )
