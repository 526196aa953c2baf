"""Architecture of a model, and the plug-ins, on the terminal."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flames_cli.learn.models.describe import ArchitectureTable
    from flames_cli.stages.info.plugins import Survey


def print_architecture(console: Console, table: "ArchitectureTable") -> None:
    """Print the stages of a model, with the shape of their output and their parameters."""
    options = ", ".join(f"{name} {value}" for name, value in table.options.items())
    title = f"{table.model} ({options}; norm {table.norm})"
    rows = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows.add_column("stage", no_wrap=True)
    rows.add_column("layers")
    rows.add_column("output", justify="right", no_wrap=True)
    rows.add_column("parameters", justify="right", no_wrap=True)
    for stage in table.stages:
        shape = "×".join(map(str, stage.shape))
        rows.add_row(stage.name, stage.layers, shape, f"{stage.parameters:,}" if stage.parameters else "")
    rows.add_section()
    rows.add_row("all", "", "", f"{table.parameters:,}")
    console.print(rows)
    console.print("output: channels × rows × columns of one image", style="dim")


def print_plugins(console: Console, survey: "Survey") -> None:
    """Print all plug-ins with their package and version, then a line for each fault."""
    if not survey.plugins:
        console.print("no plug-ins: no installed package has one, and no --plugin FILE is given")
    else:
        rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for title in ("group", "name", "package", "version", "from"):
            rows.add_column(title, overflow="fold")
        for one in survey.plugins:
            rows.add_row(one.group, one.name, one.package, one.version, str(one.file or one.reference))
        console.print(rows)
    for problem in survey.problems:
        console.print(f"problem: {problem}", style="yellow", soft_wrap=True)
