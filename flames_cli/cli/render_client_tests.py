"""Scores that real nodes report for the final models on their own test sets."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from flames_cli.cli.render_evaluation import TITLES, metric_cell, plain_table, print_table
from flames_cli.core.scores.metrics import Summary


def print_client_tests(console: Console, tests: Mapping[str, Any]) -> None:
    """Print the table of the tests, and the names of the clients without a result."""
    if tests["clients"]:
        print_table(console, _table(tests))
        console.print("mean±sd over n cases, as each node reports it for its own test set", style="dim")
    for client, reason in tests["silent"].items():
        console.print(f"{client} reports no test: {reason}", style="yellow")


def _table(tests: Mapping[str, Any]) -> Table:
    table = plain_table(f"clients, own test sets, after round {tests['round']}")
    table.add_column("client", overflow="fold")
    table.add_column("modality")
    for name in ("n", *TITLES.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for client in tests["clients"]:
        cells = [metric_cell(name, _summary(client["metrics"][name]), client["n"]) for name in TITLES]
        table.add_row(client["client"], client["modality"], str(client["n"]), *cells)
    return table


def _summary(summary: Mapping[str, Any]) -> Summary:
    mean, sd = (math.nan if summary[key] is None else summary[key] for key in ("mean", "sd"))
    return Summary(mean, sd, summary["n"], summary["n_infinite"])
