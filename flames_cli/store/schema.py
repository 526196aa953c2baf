"""Names and versions of every file format, and the one check that readers make."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.parse import parse_json


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: its name stands in the file, with the version that wrote it."""

    name: str
    version: int = 1


CHECK = Format("flames-check")
PREPROCESSED = Format("flames-preprocessed", 4)
PREPROCESSED_REPORT = Format("flames-preprocessed-report", 4)
PARTITION = Format("flames-partition", 3)
SHARD = Format("flames-shard", 4)
RUN = Format("flames-run", 2)
CHECKPOINT = Format("flames-checkpoint", 4)
CLIENT_STATE = Format("flames-memory")
EVALUATION = Format("flames-evaluation", 2)
EMBEDDING = Format("flames-embedding")
CLIENT_TESTS = Format("flames-client-tests")
DEPLOYMENT = Format("flames-deployment")
SITE = Format("flames-site")

MADE_BY = {
    CHECK.name: "flames check",
    PREPROCESSED.name: "flames preprocess",
    PREPROCESSED_REPORT.name: "flames preprocess",
    PARTITION.name: "flames partition",
    SHARD.name: "flames partition",
    RUN.name: "flames federate --fresh",
    CHECKPOINT.name: "flames federate",
    CLIENT_STATE.name: "flames federate",
    EVALUATION.name: "flames evaluate",
    EMBEDDING.name: "flames tsne",
    CLIENT_TESTS.name: "flames federate",
    DEPLOYMENT.name: "flames deploy init",
    SITE.name: "flames deploy init",
}


def stamp(format_: Format) -> dict[str, Any]:
    """The first entries of every file."""
    return {"format": format_.name, "version": format_.version}


def check_stamp(found: Mapping[str, Any], expected: Format, path: Path) -> None:
    """Refuse a file of another format or of a version that this release does not read.

    Raises:
        FlamesError: naming what was found and the command that makes the file anew.
    """
    command = MADE_BY[expected.name]
    name, version = (_shown(found.get(key)) for key in ("format", "version"))
    if name != expected.name:
        raise FlamesError(
            f"{path} is {name or 'not a FLAMES file'}, expected {expected.name}; run `{command}` again"
        )
    if version != expected.version:
        raise FlamesError(
            f"{path} has version {version} of {expected.name}, this release reads {expected.version}; "
            f"run `{command}` again or use the release that wrote it"
        )


def read_json(path: Path, expected: Format) -> dict[str, Any]:
    """Return the JSON object in `path`; its format and version are not checked (see `check_stamp`).

    Raises:
        MissingArtifact: there is no such file; the message names the command that makes it.
        FlamesError: the file contains no JSON object.
    """
    command = MADE_BY[expected.name]
    if not path.exists():
        raise MissingArtifact(f"{path} is not there; make it with `{command}`")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FlamesError(f"{path} cannot be read as JSON; make it anew with `{command}`") from error
    if not isinstance(content, dict):
        raise FlamesError(f"{path} holds no JSON object; make it anew with `{command}`")
    return content


def _shown(value: Any) -> Any:
    """Short, whatever a file says of itself."""
    return value[:40] if isinstance(value, str) else value
