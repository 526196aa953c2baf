"""Output of `flames demo`."""

import time

from rich.console import Console

from flames_cli.cli.consoles import results, watching
from flames_cli.cli.live import FederationView, progress_bars
from flames_cli.cli.render import (
    map_json,
    print_evaluation,
    print_json,
    print_map,
    print_partition,
    print_preprocessed,
)
from flames_cli.cli.render_comparison import print_comparison
from flames_cli.cli.render_federation import federation_json, print_federation
from flames_cli.cli.text import duration
from flames_cli.config import DemoConfig
from flames_cli.fed.events import Event, OnEvent, RoundDone
from flames_cli.stages.compare.files import comparison_json
from flames_cli.stages.demo.stage import demo
from flames_cli.stages.progress import Progress
from flames_cli.store.evaluations import evaluation_json


def show_demo(config: DemoConfig, json_output: bool) -> None:
    """Run the demo and show every stage's result."""
    started = time.monotonic()
    console = watching()
    with progress_bars(console) as progress:
        made = demo(config, progress, lambda strategy: _watch(console, progress, strategy, config.rounds))
    if json_output:
        runs = {name: federation_json(result) for name, result in made.runs.items()}
        scored = {
            "evaluation": evaluation_json(made.evaluation.content),
            "comparison": comparison_json(made.comparison),
        }
        print_json({**scored, "runs": runs, "tsne": map_json(made.map)})
        return
    console = results()
    for report in made.preprocessed:
        print_preprocessed(console, report, config.workspace)
    print_partition(console, made.partition)
    for result in made.runs.values():
        print_federation(console, result, config.rounds)
    print_evaluation(console, made.evaluation)
    print_comparison(console, made.comparison, detail=False)
    print_map(console, made.map)
    console.print(f"done in {duration(time.monotonic() - started)}; every file is in {config.workspace}")


def _watch(console: Console, progress: Progress, strategy: str, rounds: int) -> OnEvent:
    """Return a listener that shows rounds as a bar on a terminal, else as one line per round."""
    if not console.is_terminal:
        return FederationView(console, strategy, on_cpu=False)

    def on_event(event: Event) -> None:
        if isinstance(event, RoundDone):
            progress(f"federate {strategy}", event.record["round"], rounds)

    progress(f"federate {strategy}", 0, rounds)
    return on_event
