"""Architecture of a model on the terminal."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flames_cli.learn.models.describe import ArchitectureTable


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
