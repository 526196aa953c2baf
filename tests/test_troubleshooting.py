"""docs/troubleshooting.md and the messages of the source cannot drift apart.

A message of the source is a text with gaps (an f-string); one that the page quotes has `…` for what varies or
is left out. The quote fits where its parts stand in the message's own words, in order. Every message needs
a quote that fits, and every quote must fit a text of the source.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
SOURCE = ROOT / "flames_cli"

GAP = "\0"
"""Stands for what varies in a message."""

ERRORS = {"FlamesError", "RejectedApp"}
"""And the classes made from them: the message is their first argument."""
OTHERS = {"PydanticCustomError": 1, "problem": 0, "warning": 0, "Finding": 2, "Waiting": 1}
"""What else makes a message, and which of its arguments that is."""

TELLING = {
    "cli/group.py": {"_one_line_errors", "_explain"},
    "cli/live.py": {"_note_rejection"},
    "config/loading.py": {"_read_tables"},
    "fed/participation.py": {"shortage"},
    "fed/exchange.py": {"exchange", "push", "_note_lost"},
    "fed/jobs.py": {"make_job_server_app"},
    "fed/roster.py": {"_admit", "_shortage_of", "_shortage_of_nodes", "_explain"},
    "fed/plain_round.py": {"_collect"},
    "fed/secure/sums.py": {"close_adverts", "_abandon"},
    "core/imaging/labels.py": {
        "SOFT_ADVICE",
        "_above",
        "_require_few",
        "_several",
        "count_labels",
        "find_coloured_tumour",
    },
    "flower/compatibility.py": {"flower_problem"},
    "learn/models/plugin_models.py": {"find_callable_fault", "find_fault", "_find_entry_fault"},
    "learn/models/weights.py": {"_no_imagenet"},
    "readers/formats/volumes.py": {"_why_none"},
    "readers/manifest.py": {"_path_faults", "_mask_faults"},
    "readers/manifest_cells.py": {"read_cells", "width_fault", "_missing", "_misspelt", "_nameless_faults"},
    "readers/manifest_names.py": {"name_faults", "_id_fault", "rounded_ids"},
    "readers/manifest_table.py": {"_faults", "_faults_together"},
    "stages/acceptance.py": {"_fault"},
    "stages/check/findings.py": {"_odd_images"},
    "stages/deploy/check_connection.py": {"here", "what"},
    "stages/deploy/identity.py": {"NO_PEERS"},
    "stages/deploy/node.py": {"join"},
    "stages/deploy/node_log.py": {"EXPLAINED", "_lost_summary"},
    "stages/deploy/server.py": {"_keep_running"},
    "stages/federate/start_warnings.py": {"few_steps", "drawn_models", "neighbours_see"},
    "stages/federate/resuming.py": {"resume"},
    "stages/federate/swarm.py": {"NEED_A_SERVER", "_COMPARED", "_WAITS"},
    "stages/runs/removal.py": {"_busy"},
    "stages/seen_patients.py": {"_not_known"},
    "store/deployment/folders.py": {"_WHERE"},
    "store/files/locks.py": {"reading_partition", "writing_partition"},
    "store/deployment/node_keys.py": {"_unusable"},
    "store/runs.py": {"truncate_rounds"},
}
"""Functions and constants whose every text is a user's: they say why, for others to tell. Functions of core
and fed that give a reason or None are known by that."""

ELSEWHERE = {
    "config/loading.py",
    "config/section.py",
    "core/federated/topology.py",
    "fed/engines/submitted.py",
    "fed/event_log.py",
    "fed/roster.py",
    "learn/models/plugin_models.py",
    "learn/models/weights.py",
    "learn/plugin_losses.py",
    "readers/base.py",
    "readers/formats/masks.py",
    "readers/formats/ranges.py",
    "readers/inputs.py",
    "readers/kits23.py",
    "readers/manifest_table.py",
    "stages/check/clipping.py",
    "stages/check/findings.py",
    "stages/deploy/check_connection.py",
    "stages/deploy/check_files.py",
    "stages/deploy/check_machine.py",
    "stages/deploy/findings.py",
    "stages/federate/swarm.py",
    "stages/runs/removal.py",
    "store/deployment/node_keys.py",
}
"""Modules that tell what another function has said: it is in TELLING, or is told where it is raised."""

NO_MESSAGE = {
    "the inline engine has no superlink run",  # only a fault of FLAMES could show it
    "report on the final models",  # fills the same gap
    "evaluation report",  # fills the gap in "its … cannot be read"
    f"unsent to {GAP}",  # a number of a message, never shown
    f"no {GAP} in {GAP}; {GAP}",  # its words are in _WHERE
}
"""Texts that nobody meets, or not alone."""

FEWEST_WORDS = 2
"""Of a message; less is a piece of one."""
SEARCHABLE = 8
"""Letters of a quote at the least."""
BROADEST = 8
"""Messages that a quote may stand for: one that fits everything would let every new message pass."""


def text_of(node: ast.expr) -> str:
    """A literal with GAPs for what it cannot know; empty where it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) or GAP for value in values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return (text_of(left) or GAP) + (text_of(right) or GAP)
    return ""


def texts_in(node: ast.AST) -> Iterator[ast.expr]:
    """The literals below `node`, not the parts of one, nor docstrings."""
    if isinstance(node, ast.expr) and text_of(node).strip(GAP):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from texts_in(child)


def plain(text: str) -> str:
    return " ".join(text.split()).lower()


def words(text: str) -> int:
    return sum(bool(re.search(r"[A-Za-z]{2}", word)) for word in text.split())


@cache
def trees() -> dict[str, ast.Module]:
    paths = sorted(SOURCE.rglob("*.py"))
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


@cache
def nodes(module: str) -> list[ast.AST]:
    """Of the kinds that are looked at here."""
    kinds = (ast.Call, ast.ClassDef, ast.FunctionDef, ast.Assign)
    return [node for node in ast.walk(trees()[module]) if isinstance(node, kinds)]


@cache
def makers() -> dict[str, int]:
    """What makes a message, and which argument it is; not errors that have words of their own."""
    classes = [node for module in trees() for node in nodes(module) if isinstance(node, ast.ClassDef)]
    errors = {*ERRORS}
    for _ in range(3):  # a class of a class of a class
        errors |= {one.name for one in classes if {getattr(base, "id", "") for base in one.bases} & errors}
    return dict.fromkeys(errors - {one.name for one in classes if own_words(one)}, 0) | OTHERS


def own_words(node: ast.ClassDef) -> ast.expr | None:
    """The text that the class, of an error, gives to its base."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    given = [one.args[0] for one in calls if one.args and ast.unparse(one.func) == "super().__init__"]
    return next((text for text in given if text_of(text)), None)


def argument(node: ast.AST) -> ast.expr | None:
    """The message that this makes, where it makes one."""
    if isinstance(node, ast.ClassDef):
        return own_words(node)
    if not isinstance(node, ast.Call):
        return None
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "Finding" and "what" in named:  # check's findings have keyword arguments only
        return named["what"]
    place = makers().get(name, len(node.args))
    return node.args[place] if place < len(node.args) else None


def may_say_why(module: str, function: ast.FunctionDef) -> bool:
    """Whether it gives a reason or None, as whatever refuses a client or a report does."""
    answer = set(re.findall(r"\w+", ast.unparse(function.returns))) if function.returns else set()
    return module.startswith(("core/", "fed/")) and {"str", "None"} <= answer


def telling(module: str, names: Iterable[str]) -> Iterator[ast.AST]:
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef) and (node.name in names or may_say_why(module, node)):
            yield node
        if isinstance(node, ast.Assign) and {getattr(one, "id", "") for one in node.targets} & {*names}:
            yield node


@cache
def messages() -> dict[str, str]:
    """{message: where} of everything that a user may be told who has met a failure."""
    told = [
        (module, text)
        for module in trees()
        for node in [*filter(None, map(argument, nodes(module))), *telling(module, TELLING.get(module, ()))]
        for text in texts_in(node)
        if words(text_of(text)) >= FEWEST_WORDS
    ]
    found = {plain(text_of(text)): f"{module}:{text.lineno}" for module, text in told}
    return {text: where for text, where in found.items() if text not in NO_MESSAGE}


@cache
def quotes() -> tuple[str, ...]:
    """What stands in code font in the first column of the page's tables of messages."""
    found, in_table = [], False
    for line in PAGE.read_text("utf-8").splitlines():
        in_table = line.startswith("| message") or (in_table and line.startswith("|"))
        if in_table:
            found += [a or b for a, b in re.findall(r"`` (.+?) ``|`([^`]+)`", line.split(" | ")[0])]
    return tuple(found)


@cache
def pattern(quote: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(plain(part)) for part in quote.split("…")))


def fits(quote: str, text: str) -> bool:
    """Whether the parts of `quote` stand in `text`, in order."""
    return bool(pattern(quote).search(text))


def unexplained(known: Iterable[str], page: Iterable[str]) -> list[str]:
    return [text for text in known if not any(fits(quote, text) for quote in page)]


def outdated(page: Iterable[str], texts: Iterable[str]) -> list[str]:
    return [quote for quote in page if not any(fits(quote, text) for text in texts)]


@cache
def all_texts() -> set[str]:
    return {plain(text_of(node)) for tree in trees().values() for node in texts_in(tree)}


def test_every_message_is_on_the_page():
    assert [(messages()[text], text) for text in unexplained(messages(), quotes())] == []


def test_every_quote_on_the_page_is_in_the_source():
    assert outdated(quotes(), all_texts()) == []


def test_a_message_without_a_row_and_a_row_without_a_message_are_noticed():
    new = f"the moon is {GAP}; expected it full"
    assert unexplained([*messages(), new], quotes()) == [new]
    assert outdated([*quotes(), "the moon is … today"], [*all_texts(), new]) == ["the moon is … today"]


def test_no_quote_is_so_short_or_so_broad_that_it_would_hide_a_new_message():
    assert [quote for quote in quotes() if len(quote.replace("…", "").strip()) < SEARCHABLE] == []
    broad = {quote: sum(fits(quote, text) for text in messages()) for quote in quotes()}
    assert {quote: n for quote, n in broad.items() if n > BROADEST} == {}


def test_every_error_message_is_written_where_it_can_be_found():
    """An error whose text is put together elsewhere would escape the other tests."""
    silent = {
        module
        for module in trees()
        for node in nodes(module)
        if (made := argument(node))
        and not any(words(text_of(text)) >= FEWEST_WORDS for text in texts_in(made))
    }
    assert silent == ELSEWHERE


def test_every_listed_function_that_reports_errors_exists():
    gone = [(module, name) for module in TELLING for name in TELLING[module] if not tells(module, name)]
    assert gone == []


def tells(module: str, name: str) -> bool:
    found = [node for node in telling(module, {name}) if name in ast.unparse(node)]
    return any(words(text_of(text)) >= FEWEST_WORDS for node in found for text in texts_in(node))
