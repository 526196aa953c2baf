"""Output of `flames demo`."""

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console

from flames_cli.cli.consoles import results, watching
from flames_cli.cli.live import FederationView, progress_bars
from flames_cli.cli.render import map_json, print_json
from flames_cli.cli.render_comparison import print_comparison
from flames_cli.cli.render_federation import federation_json
from flames_cli.cli.text import count, duration
from flames_cli.config import DemoConfig
from flames_cli.fed.events import OnEvent
from flames_cli.stages.compare.files import comparison_json
from flames_cli.stages.demo.stage import BASELINE, NEW_MASKS, OURS, Demo, demo
from flames_cli.stages.progress import Progress as OnProgress
from flames_cli.store.evaluations import evaluation_json


def show_demo(config: DemoConfig, json_output: bool) -> None:
    """Run the demo; show its progress, and at the end one screen: the comparison and what to do next."""
    started = time.monotonic()
    with Screen(watching()) as screen:
        made = demo(config, screen, screen.watch)
    if json_output:
        print_json(demo_json(made))
        return
    console = results()
    print_comparison(console, made.comparison, detail=False)
    print_next_steps(console, made, config)
    console.print(f"done in {duration(time.monotonic() - started)}; every file is in {config.workspace}")


def demo_json(made: Demo) -> dict[str, object]:
    """Return the results of the demo as a JSON object."""
    return {
        "evaluation": evaluation_json(made.evaluation.content),
        "comparison": comparison_json(made.comparison),
        "runs": {name: federation_json(result) for name, result in made.runs.items()},
        "tsne": map_json(made.map),
        "report": made.report.as_json(),
        "new_images": [str(path) for path in made.new_images],
    }


def print_next_steps(console: Console, made: Demo, config: DemoConfig) -> None:
    """Print the report to open, and commands to try on images that no stage has seen."""
    workspace, (brain, breast, _) = str(config.workspace), map(str, made.new_images)
    console.print(f"phantoms, {count(config.rounds, 'round')}: these figures say nothing about real patients")
    console.print(f"open: {made.report.path}", style="bold", soft_wrap=True)
    console.print("next, also with images that no stage has seen:", style="bold")
    for command in (
        ["export", f"FLAMES_WORKSPACE={workspace}"],
        ["flames", "report", "--run", OURS, "--compare", BASELINE, "--data"],
        ["flames", "export", "--run", OURS, "--model", "MRI"],
        ["flames", "predict", "--run", OURS, "--modality", "MRI", brain],
        ["flames", "predict", "--run", OURS, "--client", "busi", breast],
    ):
        console.print(f"  {shlex.join(command)}", style="cyan", soft_wrap=True)
    console.print(f"true masks of these images, for --truth: {config.workspace / NEW_MASKS}", soft_wrap=True)


class Screen:
    """Progress of the demo on stderr: bars of its stages, and the live table while a run trains.

    A terminal shows one of them at a time.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = ExitStack()
        self._progress: OnProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, task: str, done: int, total: int) -> None:
        """Show the progress of a stage."""
        if self._progress is None:
            self._progress = self._bars.enter_context(progress_bars(self._console))
        self._progress(task, done, total)

    @contextmanager
    def watch(self, strategy: str) -> Iterator[OnEvent]:
        """Show the live table of a run in place of the bars."""
        self._close()
        with FederationView(self._console, strategy, on_cpu=False) as view:
            yield view

    def _close(self) -> None:
        self._bars.close()
        self._progress = None
