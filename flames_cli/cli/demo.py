"""What `flames demo` shows."""

import time

from rich.console import Console

from flames_cli.cli.live import FederationView, progress_bars
from flames_cli.cli.render import (
    federation_json,
    map_json,
    print_evaluation,
    print_federation,
    print_json,
    print_map,
    print_partition,
    print_preprocessed,
)
from flames_cli.cli.text import duration
from flames_cli.config import DemoConfig
from flames_cli.stages.demo import demo
from flames_cli.stages.evaluate import summary_json


def show_demo(config: DemoConfig, json_output: bool) -> None:
    """Run the demo and show every stage's result."""
    started = time.monotonic()
    watching = Console(stderr=True)
    with progress_bars(watching) as progress:
        made = demo(config, progress, lambda strategy: FederationView(watching, strategy, on_cpu=True))
    if json_output:
        runs = {name: federation_json(result) for name, result in made.runs.items()}
        print_json({"evaluation": summary_json(made.evaluation), "runs": runs, "tsne": map_json(made.map)})
        return
    console = Console()
    for report in made.preprocessed:
        print_preprocessed(console, report, config.workspace)
    print_partition(console, made.partition, config.workspace)
    for result in made.runs.values():
        print_federation(console, result, config.rounds)
    print_evaluation(console, made.evaluation)
    print_map(console, made.map)
    console.print(
        f"done in {duration(time.monotonic() - started)}; every file is in {config.workspace}",
        highlight=False,
    )
