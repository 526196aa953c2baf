"""`flames runs rm`: runs are deleted with all of their files; what was made from them stays."""

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.stages.runs.listing import RunEntry, list_entries
from flames_cli.store.files.atomic import raising_not_written, remove_folder
from flames_cli.store.files.locks import locked, rounds_of
from flames_cli.store.files.parse import parse_json
from flames_cli.store.runs import RunFolder, run_folder

RESULTS = {"evaluations": "evaluation.json", "comparisons": "comparison.json"}
"""Folders of results that are made from runs, with the file that names the runs."""
RUNS_OF_PAGE = re.compile(r'<meta name="flames-runs" content="([^"]*)">')
HEAD_BYTES = 4096
"""Place of the runs in a report: its template has them before the style."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Runs that are to be removed, and what depends on them."""

    runs: list[RunEntry]
    results: list[Path]
    """Evaluations, comparisons and reports that were made from them, which stay."""
    inner: list[Path]
    """Evaluations that an earlier release wrote into the folders of the runs, which go too."""

    @property
    def size_bytes(self) -> int:
        """Number of bytes that the runs have on the disk."""
        return sum(run.size_bytes for run in self.runs)


def plan_removal(workspace: Path, names: Sequence[str]) -> Removal:
    """Return the runs of these names, with all members of a family, and the results made from them.

    Raises:
        MissingArtifact: there is no run or family of a name.
    """
    entries = list_entries(workspace)
    chosen: dict[str, RunEntry] = {}
    for name in names:
        # A run has precedence over a family, as in all commands.
        found = [one for one in entries if one.name == name]
        found = found or [one for one in entries if one.family and one.family == name]
        if not found:
            known = sorted({one.family or one.name for one in entries})
            raise MissingArtifact(
                f"no run '{name}' in {workspace / 'runs'}, expected one of {', '.join(known) or '(none)'}; "
                "`flames runs` lists them"
            )
        chosen |= {one.name: one for one in found}
    folders = (run_folder(workspace, name).path / "evaluation" for name in sorted(chosen))
    named = {*chosen, *(one.family for one in chosen.values() if one.family)}
    return Removal(
        runs=sorted(chosen.values(), key=lambda one: one.name),
        results=list(find_results(workspace, named)),
        inner=[path for path in folders if path.is_dir()],
    )


def find_results(workspace: Path, runs: Iterable[str]) -> Iterable[Path]:
    """Yield the folders of reports, evaluations and comparisons that name one of the runs or families."""
    wanted = set(runs)
    for path in sorted((workspace / "reports").glob("*/report.html")):
        if wanted & _runs_of_page(path):
            yield path.parent
    for kind, file in RESULTS.items():
        for path in sorted((workspace / kind).glob(f"*/{file}")):
            try:
                content = parse_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # a damaged result names no runs, and it stays in any case
            if wanted & set(_run_names(content)):
                yield path.parent


def _runs_of_page(page: Path) -> set[str]:
    """Return the runs that the head of a report names."""
    try:
        with page.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return set()
    found = RUNS_OF_PAGE.search(head.decode(errors="replace"))
    return set(found[1].split()) if found else set()


def _run_names(content: Any) -> Iterable[str]:
    runs = content.get("runs", ()) if isinstance(content, dict) else ()
    for run in runs if isinstance(runs, list) else ():
        name = run.get("name") if isinstance(run, dict) else run
        if isinstance(name, str):
            yield name
        if isinstance(run, dict):
            yield from _run_names({"runs": run.get("members", ())})


def remove_runs(workspace: Path, removal: Removal) -> None:
    """Delete the folders of all runs of a removal, or none if a process works on one of them.

    Raises:
        FlamesError: a process works on one of the runs, or a folder cannot be deleted.
    """
    with ExitStack() as held:
        runs = [run_folder(workspace, entry.name) for entry in removal.runs]
        for run in runs:
            for folder in (run.path, rounds_of(run.path)):
                held.enter_context(locked(folder, _busy(run)))
        for run in runs:
            with raising_not_written(run.path):
                remove_folder(run.path)


def _busy(run: RunFolder) -> str:
    return (
        f"run '{run.name}' is going on: a process works on it now, and no run was removed; wait for its "
        "end or stop it, then run the same command again"
    )


def require_idle(removal: Removal) -> None:
    """Check, before the user is asked, that no process works on one of the runs.

    Raises:
        FlamesError: a process works on one.
    """
    for entry in removal.runs:
        if entry.running:
            raise FlamesError(_busy(RunFolder(Path(entry.name))))
