"""Pages of the site that are made from the source: options, the configuration's keys, and a notebook."""

import json
import re
import textwrap
from collections.abc import Container, Iterator
from functools import cache
from typing import Any

import click
import tomli_w
import typer

from flames_cli.cli.app import app
from flames_cli.cli.section_command import BY_MODALITY, has_option
from flames_cli.config import SECTIONS, SHARED, Section

HEADING = re.compile(r"^##+ `flames ([a-z ]+?)(?: [A-Z]+)?`$", re.M)
TABLE = re.compile(r"^\| option \|.*\n\|[-|]+\n(?:\|.*\n?)+", re.M)
FLAG = re.compile(r"`(--[a-z-]+)`")

KINDS = {
    "integer": "integer",
    "integer range": "integer",
    "float": "number",
    "float range": "number",
    "path": "path",
    "text": "text",
}
"""Form of a value by its type of click."""


EVERY_COMMAND = ("--workspace", "--config", "--json", "--quiet")
"""Options that the page describes once for all commands."""


def command_line(page: str) -> str:
    """Return docs/cli.md with tables of options made from the commands.

    A table for each panel of `--help` has names, forms, limits and defaults of the options as the code has
    them. The descriptions are those of the page, which are longer than those of `--help` and have links.

    Raises:
        KeyError: the page has no row for an option.
    """
    heads = list(HEADING.finditer(page))
    ends = [*(head.start() for head in heads[1:]), len(page)]
    parts = [page[: heads[0].start()]]
    for head, end in zip(heads, ends, strict=True):
        section = page[head.start() : end]
        tables = TABLE.findall(section)
        if tables:
            section = section.replace(tables[0], command_tables(head[1].split(), "".join(tables)), 1)
            for table in tables[1:]:
                section = section.replace(table, "", 1)
        parts.append(section)
    return "".join(parts)


def command_tables(names: list[str], rows: str) -> str:
    """Return the tables of one command, one for each panel, with the descriptions in `rows`."""
    command, context = find_command(names)
    told = page_rows(rows)
    limits = value_limits(SECTIONS[names[0]]) if names[0] in SECTIONS else {}
    panels: dict[str, list[str]] = {}
    for option in command.get_params(context):
        if not is_described(option, told):
            continue
        default, text = told.get(option.opts[0], ("", "as above"))
        cells = [
            "<br>".join(filter(None, (flags_of(option), value_form(option, limits)))),
            key_of(names[0], str(option.name)),
            shown_default(option, default),
            option.help if text == "as above" else text,
        ]
        panel = getattr(option, "rich_help_panel", None) or ""
        panels.setdefault(panel, []).append(f"| {' | '.join(cells)} |\n")
    head = "| option | key | default | what |\n|---|---|---|---|\n"
    return "\n".join(
        (f"**{panel}**\n\n" if panel else "") + head + "".join(lines) for panel, lines in panels.items()
    )


def find_command(names: list[str]) -> tuple[click.Command, click.Context]:
    """Return a command, such as that of `deploy init`, and its context."""
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="flames")
    for name in names:
        command = command.commands[name]  # type: ignore[attr-defined]
        context = click.Context(command, parent=context, info_name=name)
    return command, context


def is_described(option: click.Parameter, told: Container[str]) -> bool:
    """Return whether an option is in its command's tables: the options of every command have their own."""
    if "--help" in option.opts or not option.opts[0].startswith("--"):
        return False
    return option.opts[0] in told or option.opts[0] not in EVERY_COMMAND


def page_rows(table: str) -> dict[str, tuple[str, str]]:
    """Return (default, description) of each option in tables of the page."""
    told = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for flag in FLAG.findall(cells[0]):
            told[flag] = (cells[-2], cells[-1])
    return told


def flags_of(option: click.Parameter) -> str:
    """Return the names of an option as code, also the one that switches it off."""
    return "<br>".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def key_of(command: str, name: str) -> str:
    """Return the keys of the configuration that an option sets, as code; empty if it has none."""
    fields = SECTIONS[command].model_fields if command in SECTIONS else {}
    return ", ".join(f"`{key}`" for key in (name, name + BY_MODALITY) if key in fields)


def value_form(option: click.Parameter, limits: dict[str, str]) -> str:
    """Return what an option takes: its choices, or the kind of its value with its limits."""
    if getattr(option, "is_flag", False):
        return ""
    form = option.metavar or KINDS.get(option.type.name, option.type.name)
    if "|" in form:
        return " · ".join(f"`{choice}`" for choice in form.strip("[]").split("|"))
    limit = limits.get(str(option.name)) or range_words(option.type)
    return (form if form in KINDS.values() else f"`{form}`") + (f", {limit}" if limit else "")


def range_words(kind: click.ParamType) -> str:
    """Return the limits of a type of click, in words; empty without limits."""
    schema = {"minimum": getattr(kind, "min", None), "maximum": getattr(kind, "max", None)}
    return limit_words({key: value for key, value in schema.items() if value is not None})


def shown_default(option: click.Parameter, told: str) -> str:
    """Return the default of an option, or what the page says of it where the code has no value."""
    if getattr(option, "required", False):
        return "required"
    default = option.default
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"`{default}`" if (default and not callable(default)) or default == 0 else told


def value_limits(kind: type[Section]) -> dict[str, str]:
    """Return the limits of the numbers of a section, in words."""
    return {key: words for key in kind.model_fields if (words := limit_words(key_schema(kind, key)))}


def key_schema(kind: type[Section], key: str) -> dict[str, Any]:
    """Return the JSON schema of one key's value, without null."""
    schema: dict[str, Any] = section_schema(kind)["properties"][key]
    return next((part for part in schema.get("anyOf", []) if part.get("type") != "null"), schema)


@cache
def section_schema(kind: type[Section]) -> dict[str, Any]:
    """Return the JSON schema of a section."""
    return kind.model_json_schema()


def limit_words(schema: dict[str, Any]) -> str:
    """Return the limits of a number in words, such as `16 to 2048`; empty without limits."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{plain(low)} to {plain(high)}"
    words = {
        "at least": low,
        "above": schema.get("exclusiveMinimum"),
        "at most": high,
        "below": schema.get("exclusiveMaximum") if schema.get("exclusiveMaximum") != 2**63 else None,
    }
    return ", ".join(f"{word} {plain(value)}" for word, value in words.items() if value is not None)


def plain(number: float) -> str:
    """Return a number without an exponent."""
    return str(int(number)) if number == int(number) else str(number)


def configuration() -> str:
    """Return the page of the keys of the configuration, with the default of each."""
    return CONFIGURATION.format(
        tables="\n".join(f"## {title}\n\n```toml\n{keys}```\n" for title, keys in tables())
    )


CONFIGURATION = """# Configuration keys

This page is made from the source: every key of a file for `--config`, with its default. A key that has no
default is a comment. [The file](../cli.md#configuration-file) is TOML; the tables of the
[commands](../cli.md) describe each key at length. Write only the keys that you change.

{tables}"""


def tables() -> Iterator[tuple[str, str]]:
    """Yield (heading, TOML with comments): the keys of all commands, and then each command's table."""
    yield "All commands", "\n".join(key_lines(Section, key) for key in SHARED)
    for name, kind in SECTIONS.items():
        keys = [key for key in kind.model_fields if key not in SHARED and is_key(kind, key)]
        yield f"`{name}`", f"[{name}]\n" + "\n".join(key_lines(kind, key) for key in keys)


def is_key(kind: type[Section], key: str) -> bool:
    """Return whether a key has a description of its own, or is set by the option of another one."""
    return has_option(kind, key) or key.endswith(BY_MODALITY)


def key_lines(kind: type[Section], key: str) -> str:
    """Return one key with its description, its choices or limits, and its default."""
    field, schema = kind.model_fields[key], key_schema(kind, key)
    choices = schema.get("enum") or schema.get("items", {}).get("enum")
    facts = ["one of " + ", ".join(choices)] if choices else [limit_words(schema)]
    text = " ".join([field.description or "", *(f"({fact})" for fact in facts if fact)])
    comment = textwrap.fill(text, 88, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    default = field.get_default(call_default_factory=True)
    if default is None:
        return f"{comment}\n# {key} =\n"
    value = list(default) if isinstance(default, tuple) else default
    value = value if isinstance(value, bool | int | float | str | list | dict) else str(value)
    return f"{comment}\n{tomli_w.dumps({key: value}).strip() if value != {} else f'{key} = {{}}'}\n"


def notebook(text: str) -> str:
    """Return the cells of a Jupyter notebook as a page: text, code, and the stored output of the code."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            parts += [f"```text\n{shown}\n```" for shown in map(output_text, cell["outputs"]) if shown]
        else:
            parts.append(source)
    return "\n\n".join(parts) + "\n"


def output_text(output: dict[str, Any]) -> str:
    """Return what a cell printed or showed as text; empty for pictures."""
    lines = output.get("text") or output.get("data", {}).get("text/plain", [])
    return "" if "image/png" in output.get("data", {}) else "".join(lines).strip()
