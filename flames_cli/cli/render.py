"""Results as tables and as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click
from rich.console import Console
from rich.table import Table

from flames_cli.cli.render_evaluation import evaluation_notes, evaluation_tables, print_table
from flames_cli.cli.render_summary import print_summary
from flames_cli.cli.text import STDOUT, count
from flames_cli.core.imaging.small_lesion_rule import parse_small_lesion_rule
from flames_cli.core.patient_units import NOUNS, UNKNOWN, column_title, count_units, join_units
from flames_cli.report.check_page import patient_columns
from flames_cli.store.files.atomic import finite
from flames_cli.store.salts import table_path
from flames_cli.store.workspace import PARTITION_FILE

if TYPE_CHECKING:  # these load torch and Flower, which `flames preprocess` does not need
    from flames_cli.stages.evaluate.files import Evaluation
    from flames_cli.stages.partition.stage import Partitioned
    from flames_cli.stages.tsne.stage import Map
    from flames_cli.store.partition import Partition


def print_json(result: Any) -> None:
    """Print one JSON value on stdout; a number that is not finite becomes null, since JSON has none."""
    context = click.get_current_context(silent=True)
    stdout = cast(TextIO, context.meta.get(STDOUT, sys.stdout) if context else sys.stdout)
    stdout.write(json.dumps(finite(result), allow_nan=False) + "\n")


def print_preprocessed(console: Console, report: dict[str, Any], workspace: Path) -> None:
    """Print the counts of one data set and of the cases left out.

    Only the site's own table names the patients and files, since the text of a terminal ends in logs.
    """
    table = Table(
        title=f"{report['dataset']} ({report['modality']}, {report['organ']})", title_justify="left"
    )
    unit = report["patient_unit"]
    columns = patient_columns(unit)
    table.add_column("set")
    for title in columns.values():
        table.add_column(title, justify="right")
    for name, counts in report["sets"].items():
        table.add_row(name, *(str(counts[column]) for column in columns))
    console.print(table)
    volumes, slices = (sum(n.get(what, 0) for n in report["sets"].values()) for what in ("volumes", "slices"))
    if volumes:
        console.print(f"stored {count(volumes, 'complete volume')} with {count(slices, 'slice')}")
    console.print(_small_lesions(report["small_lesions"]))
    if sites := report["sites"]:
        listed = ", ".join(f"{site} {_cell(n['images'], n['patients'], unit)}" for site, n in sites.items())
        title = column_title(unit) if unit == "image" else f"images ({column_title(unit)})"
        console.print(f"sites, {title}: {listed}")
    for site, n in report["sites_left_out"].items():
        console.print(f"site {site}: all {count(n, 'case')} left out, so it is no client", style="yellow")
    if unused := report["unused_columns"]:
        console.print(f"columns of the manifest that are not used: {', '.join(unused)}", style="yellow")
    for column, n in report["kept_columns"].items():
        alone = f", {n['of_one_patient']} of them of one patient only" if n["of_one_patient"] else ""
        console.print(
            f"column {column} is in shards and results: {count(n['values'], 'value')}{alone}",
            style="yellow" if alone else None,
        )
    if copies := report["copies_left_out"]:
        console.print(f"left out {count(len(copies), 'image')}: the same as another")
    if near := report["near_copies_kept_together"]:
        console.print(f"kept {count(len(near), 'group')} of near copies together, each in one set")
    if alike := report["ids_alike_kept_together"]:
        console.print(
            f"kept {count(len(alike), 'group')} of patients together whose ids differ only in spelling; "
            "flames check lists them",
            style="yellow",
        )
    total = sum(counts["images"] for counts in report["sets"].values())
    for group in report["large_groups"]:
        console.print(
            f"one group of near copies has {group['images']} of {count(total, 'image')}, all in "
            f"{group['set']}: `flames check` shows its pictures",
            style="yellow",
        )
    reasons: dict[str, int] = {}
    for item in report["skipped"]:
        reasons[item["reason"]] = reasons.get(item["reason"], 0) + 1
    for reason, n in reasons.items():
        console.print(f"skipped {count(n, 'case')}: {reason}")
    if bad := report["bad"]:
        console.print(f"left out {count(len(bad), 'bad case')}", style="yellow")
    console.print("pseudonyms, and reasons for cases left out, for this site only:")
    say_where(console, table_path(workspace, report["dataset"]))
    say_where(console, workspace / "preprocessed" / report["file"])


def _small_lesions(found: dict[str, Any]) -> str:
    """Return a line such as `small lesions (image area / lesion area ≥ 1000): 103 of 302 images`."""
    small, large, none = (sum(n[kind] for n in found["sets"].values()) for kind in ("small", "large", "none"))
    without = f", {none} without a lesion" if none else ""
    condition = parse_small_lesion_rule(found["rule"]).condition
    return f"small lesions ({condition}): {small} of {count(small + large + none, 'image')}{without}"


def print_partition(console: Console, made: "Partitioned", of_folds: int = 0) -> None:
    """Print images and patients of every client and of the server's test sets; of a fold without its
    place."""
    for note in made.notes:
        console.print(f"warning: {note}", style="yellow", soft_wrap=True)
    partition = made.partition
    units = {client.patient_unit for client in partition.clients}
    within = f" ({UNKNOWN if units == {'image'} else 'patients'})"
    first = f" of fold 1 of {of_folds}" if of_folds else ""
    table = Table(title=f"clients{first}: images{within}", title_justify="left")
    for name in ("client", "modality", "organ", "train", "val", "test"):
        table.add_column(name, justify="right" if name in ("train", "val", "test") else "left")
    for client in partition.clients:
        unit = client.patient_unit
        cells = [_cell(n, len(client.patients[name]), unit) for name, n in client.images.items()]
        table.add_row(client.name, client.modality, client.organ, *cells)
    console.print(table)
    tested = {name: unit for server in partition.server for name, unit in server.patient_units.items()}
    unseen = Table(title=f"server's test sets: unseen {join_units(tested.values())}", title_justify="left")
    for name in ("modality", "data set", "organ", f"images{within}"):
        unseen.add_column(name, justify="right" if "images" in name else "left")
    for server in partition.server:
        for name, images in server.images.items():
            shown = _cell(images, len(server.patients[name]), tested.get(name, "patient"))
            unseen.add_row(server.modality, name, server.organs[name], shown)
    console.print(unseen)
    tests = [client.test_volumes for client in partition.clients]
    tests += [own for server in partition.server for own in server.test_volumes.values()]
    volumes, slices = (sum(own[number] for own in tests) for number in (0, 1))
    if volumes:
        console.print(f"test sets have {count(volumes, 'volume')} with {count(slices, 'slice')}")
    nameless = {client.dataset for client in partition.clients if client.patient_unit == "image"}
    if nameless and units != {"image"}:
        console.print(f"{', '.join(sorted(nameless))}: {column_title('image')}")
    for client in partition.clients:
        if not client.images["test"]:
            noun = NOUNS[client.patient_unit]
            console.print(f"{client.name} has no test {noun}: its model is tested by the server only")
    trained = {client.dataset for client in partition.clients}
    tested_only = {name.split("@")[0]: None for server in partition.server for name in server.images}
    for name in (name for name in tested_only if name not in trained):
        console.print(f"{name} has no client: only the server tests on it")
    for name, images in partition.left_out.items():
        what = "near copies or patients of a held-out site"
        console.print(f"left out {count(images, 'image')} of {name}: {what}")
    console.print(_claim(partition), style="green")
    if not of_folds:
        _say_aside(console, made)
        say_where(console, made.folder / PARTITION_FILE)


def print_folds(console: Console, folds: "Sequence[Partitioned]") -> None:
    """Print the images and patients of every client in each fold, and the server's test sets once."""
    print_partition(console, folds[0], of_folds=len(folds))
    table = Table(title="test images (patients) of every client", title_justify="left")
    table.add_column("client", overflow="fold")
    table.add_column(f"fold 1 to {len(folds)}", overflow="fold")
    for clients in zip(*(made.partition.clients for made in folds), strict=True):
        tests = (_cell(one.images["test"], len(one.patients["test"]), one.patient_unit) for one in clients)
        table.add_row(clients[0].name, ", ".join(tests))
    console.print(table)
    for made in folds:
        _say_aside(console, made)
        say_where(console, made.folder / PARTITION_FILE)


def _say_aside(console: Console, made: "Partitioned") -> None:
    if made.aside:
        console.print(
            f"the earlier partition '{made.name}' is called '{made.aside}' now: runs that were made on it "
            "continue and are evaluated there",
            style="yellow",
            soft_wrap=True,
        )


def partition_json(made: "Partitioned") -> dict[str, Any]:
    """Return a partition as a JSON object."""
    return {
        "name": made.name,
        "folder": str(made.folder),
        **({"set_aside": made.aside} if made.aside else {}),
        **({"notes": list(made.notes)} if made.notes else {}),
        **asdict(made.partition),
    }


def _cell(images: int, n: int, unit: str) -> str:
    """Return images (patients), images (sequences), or images whose patients are unknown."""
    return {"patient": f"{images} ({n})", "sequence": f"{images} ({n} seq.)"}.get(unit, f"{images}")


def _claim(partition: "Partition") -> str:
    """Return the sentence about what was checked: which data sets name patients, and which do not."""
    found: dict[str, dict[str, set[str]]] = {unit: {} for unit in NOUNS}
    for client in partition.clients:
        found[client.patient_unit].setdefault(client.dataset, set()).update(*client.patients.values())
    for server in partition.server:
        for name, patients in server.patients.items():
            unit = server.patient_units.get(name, "patient")
            found[unit].setdefault(name.split("@")[0], set()).update(patients)
    claims = [
        f"no {'named patient' if unit == 'patient' else unit} is in two sets "
        f"({count_units(len(set().union(*own.values())), unit)}, {count(len(own), 'data set')})"
        for unit, own in found.items()
        if own and unit != "image"
    ]
    if nameless := found["image"]:
        claims.append(
            f"{', '.join(nameless)} {'name' if len(nameless) > 1 else 'names'} no patients: "
            "near copies were kept together by their pictures"
        )
    if partition.options.get("different_people"):
        claims.append("one id in two data sets was taken for different people")
    return "every shard read back: " + "; ".join(claims)


def print_evaluation(console: Console, result: "Evaluation", detail: bool = False) -> None:
    """Print one screen, or with `detail` all tables and notes."""
    if result.aside:
        console.print(
            f"the earlier evaluation '{result.folder.name}', which is of other models or options, is called "
            f"'{result.aside}' now",
            style="yellow",
            soft_wrap=True,
        )
    if not detail:
        print_summary(console, result)
        return
    for table in evaluation_tables(result):
        print_table(console, table)
    for name, reason in result.content.untested.items():
        console.print(f"not in the tables: {name}, {reason}", style="yellow")
    for note in evaluation_notes(result):
        console.print(note, style="dim")
    say_where(console, result.folder)


def print_map(console: Console, made: "Map") -> None:
    """Print how well the modalities separate, and the path of the picture."""
    if made.silhouette_modality is None:
        console.print("one modality only: nothing to separate")
    else:
        where = "pixels" if made.features == "pixels" else f"{made.features} features"
        clients = made.silhouette_client
        console.print(
            f"modalities separate with silhouette {made.silhouette_modality:.2f} in {where}, "
            f"{made.silhouette_modality_map or 0:.2f} on the map (1: well apart, 0: mixed)"
            + ("" if clients is None else f"; clients with {clients:.2f}"),
            soft_wrap=True,
        )
    if made.round is not None:
        console.print(f"features of run '{made.run}', round {made.round}: {made.why}", soft_wrap=True)
    if made.models > 1:
        console.print(
            f"the features come from {made.models} models, whose spaces differ: that alone separates them",
            style="yellow",
        )
    if made.aside:
        console.print(
            f"the earlier map '{made.folder.name}', which is of other data, is called '{made.aside}' now",
            style="yellow",
            soft_wrap=True,
        )
    say_where(console, made.folder / "tsne.png")


def say_where(console: Console, path: Path) -> None:
    """Print the path of a result."""
    console.print(f"→ {path}", style="cyan", soft_wrap=True)


def map_json(made: "Map") -> dict[str, Any]:
    """Return a map as a JSON object."""
    return {**asdict(made), "folder": str(made.folder)}


def describe_count(plugins: dict[str, int]) -> str:
    """Return the number of plug-ins and of their faults, and the command that lists them."""
    if not any(plugins.values()):
        return "none"
    faults = f", {count(plugins['problems'], 'problem')}" if plugins["problems"] else ""
    return f"{plugins['plugins']}{faults}: see `flames info --plugins`"


def print_info(console: Console, found: dict[str, Any]) -> None:
    """Print versions, devices, known names and the contents of the workspace."""
    table = Table(show_header=False, box=None)
    table.add_row("flames", f"{found['flames']} (Python {found['python']}, {found['platform']})")
    table.add_row("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    table.add_row("devices", "\n".join([f"{count(found['cpus'], 'CPU core')}", *found["devices"]]))
    table.add_row("data sets", ", ".join(f"{name} ({what})" for name, what in found["datasets"].items()))
    table.add_row("models", ", ".join(found["models"]))
    table.add_row("strategies", "\n".join(f"{name}: {what}" for name, what in found["strategies"].items()))
    table.add_row("plug-ins", describe_count(found["plugins"]))
    space = found["workspace"]
    missing = "" if space["exists"] else ": there is no such folder"
    table.add_row("workspace", f"{space['path']}{missing}")
    table.add_row("  preprocessed", ", ".join(space["preprocessed"]) or "none")
    table.add_row("  partitions", ", ".join(space["partitions"]) or "none")
    table.add_row("  runs", ", ".join(space["runs"]) or "none")
    table.add_row("  models", ", ".join(space["models"]) or "none")
    console.print(table)
