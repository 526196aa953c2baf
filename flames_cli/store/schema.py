"""Names and versions of every file format, and the check that readers make."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.parse import parse_json, read_text


@dataclass(frozen=True, slots=True)
class Format:
    """A file format; every file states its name and the version that wrote it."""

    name: str
    version: int = 1
    earlier: tuple[int, ...] = ()
    """Earlier versions that this release still reads."""


CHECK = Format("flames-check")
PREPROCESSED = Format("flames-preprocessed", 6, earlier=(4, 5))
PREPROCESSED_REPORT = Format("flames-preprocessed-report", 4)
PARTITION = Format("flames-partition", 3)
SHARD = Format("flames-shard", 6, earlier=(4, 5))
RUN = Format("flames-run", 3, earlier=(2,))
CHECKPOINT = Format("flames-checkpoint", 6, earlier=(4, 5))
CLIENT_STATE = Format("flames-memory")
EVALUATION = Format("flames-evaluation", 4)
COMPARISON = Format("flames-comparison")
PREDICTIONS = Format("flames-predictions")
EMBEDDING = Format("flames-embedding", 2)
CLIENT_TESTS = Format("flames-client-tests")
MODEL = Format("flames-model")
MODEL_FORMATS = Format("flames-model-formats")
PREDICTION = Format("flames-prediction")
CLIENTS = Format("flames-clients")
FINAL_MODELS = Format("flames-final-models", 2, earlier=(1,))
DEPLOYMENT = Format("flames-deployment")
SITE = Format("flames-site")
SECURE_OPENED = Format("flames-opened-sums")

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
    COMPARISON.name: "flames compare",
    PREDICTIONS.name: "flames evaluate",
    EMBEDDING.name: "flames tsne",
    CLIENT_TESTS.name: "flames federate",
    MODEL.name: "flames export",
    MODEL_FORMATS.name: "flames export",
    PREDICTION.name: "flames predict",
    CLIENTS.name: "flames federate",
    FINAL_MODELS.name: "flames federate",
    DEPLOYMENT.name: "flames deploy init",
    SITE.name: "flames deploy init",
    SECURE_OPENED.name: "flames federate",
}


def stamp(format_: Format) -> dict[str, Any]:
    """Return the first entries of every file."""
    return {"format": format_.name, "version": format_.version}


def check_stamp(found: Mapping[str, Any], expected: Format, path: Path) -> None:
    """Check that a file has the expected format and a version that this release reads.

    Raises:
        FlamesError: it has another format or version; the message names both and the command that makes the
            file again.
    """
    command = MADE_BY[expected.name]
    name, version = (_shown(found.get(key)) for key in ("format", "version"))
    if name != expected.name:
        raise FlamesError(
            f"{path} is {name or 'not a FLAMES file'}, expected {expected.name}; run `{command}` again"
        )
    if version not in (expected.version, *expected.earlier):
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
        raise MissingArtifact(f"{path} does not exist; make it with `{command}`")
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise FlamesError(f"{path} cannot be read as JSON; make it again with `{command}`") from error
    if not isinstance(content, dict):
        raise FlamesError(f"{path} contains no JSON object; make it again with `{command}`")
    return content


def _shown(value: Any) -> Any:
    """Return `value`, cut to 40 characters if it is a text: a file may contain anything."""
    return value[:40] if isinstance(value, str) else value
