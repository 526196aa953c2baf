"""Output of `flames report`."""

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:  # it loads torch and Flower
    from flames_cli.stages.report.stage import Report


def print_report(console: Console, made: "Report") -> None:
    """Print what the page has, and where it is."""
    if made.evaluated:
        console.print(f"evaluated first: {', '.join(made.evaluated)}", style="dim", soft_wrap=True)
    if made.no_results:
        console.print(f"no test results: {made.no_results}", style="yellow", soft_wrap=True)
    if made.aside:
        console.print(f"an earlier report with other content is now {made.aside}", soft_wrap=True)
    if made.pictures:
        console.print("the page contains pictures of patients", style="yellow", soft_wrap=True)
    else:
        console.print("the page contains no picture of a patient (--data adds them)", style="dim")
    console.print(f"→ {made.path}", style="cyan", soft_wrap=True)
