"""`formats.json` of a model folder: the files for other programs, and how well they agree with torch."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import write_json
from flames_cli.store.schema import MODEL_FORMATS, check_stamp, read_json, stamp

FORMATS = "formats.json"
"""Name of the file in a model folder."""


@dataclass(frozen=True, slots=True)
class WrittenFormat:
    """A file for other programs, and its check."""

    format: str
    """Name of the format, such as onnx."""
    path: str
    """File or folder, in the folder of the model."""
    largest_difference: float
    """Largest difference of a probability from that of torch, in [0, 1]."""
    random_images: int
    """Number of random images of the check."""
    real_images: int
    """Number of real images of the check; 0: none were at hand."""
    batch_sizes: tuple[int, ...]
    versions: dict[str, str]
    """Versions of the packages that wrote and checked it."""
    weights_sha256: str
    """SHA-256 of the weights of the model, as in model.toml."""


def read_formats(folder: Path) -> dict[str, WrittenFormat]:
    """Return the files for other programs in a model folder, by format; empty without any.

    Raises:
        FlamesError: formats.json cannot be read.
    """
    path = folder / FORMATS
    if not path.is_file():
        return {}
    content = read_json(path, MODEL_FORMATS)
    check_stamp(content, MODEL_FORMATS, path)
    try:
        found = TypeAdapter(list[WrittenFormat]).validate_python(content.get("formats"))
    except ValidationError as error:
        raise FlamesError(f"{path} has wrong entries; export the model again") from error
    return {one.format: one for one in found}


def record_format(folder: Path, written: WrittenFormat) -> None:
    """Add a file to formats.json of a model folder, or replace the entry of the same format.

    Raises:
        FlamesError: formats.json cannot be read or written.
    """
    every = {**read_formats(folder), written.format: written}
    write_json(
        folder / FORMATS, {**stamp(MODEL_FORMATS), "formats": [asdict(every[name]) for name in sorted(every)]}
    )
