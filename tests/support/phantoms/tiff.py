"""TIFF files written byte by byte (TIFF 6.0), in the variants that scanners and programs write."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Tiff:
    """Choices of the program that writes a TIFF file."""

    order: str = "<"
    is_big: bool = False
    """True for BigTIFF."""
    meaning: int = 1
    """PhotometricInterpretation."""
    sample_format: int | None = None
    bits: int | None = None
    """Bits of a sample, if not those of the array: 12."""
    is_planar: bool = False
    compression: int = 1
    """1 none, 5 LZW, 7 JPEG, 8 Deflate, 32773 PackBits."""
    has_predictor: bool = False
    strip_rows: int = 5
    tile: tuple[int, int] | None = None
    """Height and width of the tiles; None: strips."""
    extra: tuple[int, ...] = ()
    orientation: int | None = None
    pages: int = 1


def tiff_bytes(pixels: np.ndarray, choices: Tiff | None = None) -> bytes:
    """Return H×W or H×W×S samples as a TIFF file."""
    made = choices or Tiff()
    samples = pixels if pixels.ndim == 3 else pixels[..., None]
    planes = np.split(samples, samples.shape[2], axis=2) if made.is_planar else [samples]
    blocks = [_pack(block, made) for plane in planes for block in _blocks(plane, made)]
    start = 16 if made.is_big else 8
    offsets = (start + np.cumsum([0, *map(len, blocks)])[:-1]).tolist()
    tags = _tags(samples.shape, pixels.dtype.itemsize * 8, made)
    strips = ((324, 325), (273, 279))[made.tile is None]
    tags |= {strips[0]: (4, offsets), strips[1]: (4, [len(block) for block in blocks])}
    body = b"".join(blocks)
    body += bytes(-len(body) % 8)
    at = start + len(body)
    form = "Q" if made.is_big else "I"
    head = (b"II" if made.order == "<" else b"MM") + struct.pack(
        made.order + ("HHHQ" if made.is_big else "HI"), *((43, 8, 0, at) if made.is_big else (42, at))
    )
    file = head + body
    for page in range(made.pages):
        file += _directory(tags, len(file), made, is_last=page == made.pages - 1, form=form)
    return file


def _tags(shape: tuple[int, ...], bits: int, made: Tiff) -> dict[int, tuple[int, list[int]]]:
    height, width, samples = shape
    tags = {
        256: (4, [width]),
        257: (3, [height]),
        258: (3, [made.bits or bits] * samples),
        259: (3, [made.compression]),
        262: (3, [made.meaning]),
        277: (3, [samples]),
        284: (3, [2 if made.is_planar else 1]),
    }
    if made.tile:
        tags |= {322: (3, [made.tile[1]]), 323: (3, [made.tile[0]])}
    else:
        tags[278] = (3, [made.strip_rows])
    if made.has_predictor:
        tags[317] = (3, [2])
    if made.extra:
        tags[338] = (3, list(made.extra))
    if made.sample_format is not None:
        tags[339] = (3, [made.sample_format] * samples)
    if made.orientation is not None:
        tags[274] = (3, [made.orientation])
    return tags


def _directory(
    tags: dict[int, tuple[int, list[int]]], at: int, made: Tiff, *, is_last: bool, form: str
) -> bytes:
    room = 8 if made.is_big else 4
    entry = made.order + ("HHQ" if made.is_big else "HHI")
    size = (8 if made.is_big else 2) + len(tags) * (struct.calcsize(entry) + room) + room
    entries, arrays = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(made.order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > room:
            packed, arrays = struct.pack(made.order + form, at + size + len(arrays)), arrays + packed
        entries += struct.pack(entry, tag, kind, len(values)) + packed.ljust(room, b"\0")
    count = struct.pack(made.order + ("Q" if made.is_big else "H"), len(tags))
    arrays += bytes(-len(arrays) % 8)
    following = 0 if is_last else at + size + len(arrays)
    return count + entries + struct.pack(made.order + form, following) + arrays


def _blocks(plane: np.ndarray, made: Tiff) -> list[np.ndarray]:
    height, width, _ = plane.shape
    if made.tile is None:
        return [plane[top : top + made.strip_rows] for top in range(0, height, made.strip_rows)]
    rows, columns = made.tile
    padded = np.pad(plane, ((0, -height % rows), (0, -width % columns), (0, 0)), mode="edge")
    return [
        padded[top : top + rows, left : left + columns]
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]


def _pack(block: np.ndarray, made: Tiff) -> bytes:
    if made.has_predictor:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    if made.compression == 7:
        stream = io.BytesIO()
        Image.fromarray(block).save(stream, "JPEG", quality=100, subsampling=0, keep_rgb=True)
        return stream.getvalue()
    if made.bits == 12:
        rows = "".join(
            "".join(f"{value:012b}" for value in row.ravel()) + "0" * (-12 * row.size % 8) for row in block
        )
        raw = int(rows, 2).to_bytes(len(rows) // 8, "big")
    else:
        raw = block.astype(block.dtype.newbyteorder(made.order)).tobytes()
    row_bytes = len(raw) // len(block)
    return {1: bytes, 5: _lzw, 8: zlib.compress, 32773: lambda data: _packbits(data, row_bytes)}[
        made.compression
    ](raw)


def _packbits(raw: bytes, row_bytes: int) -> bytes:
    rows = [raw[at : at + row_bytes] for at in range(0, len(raw), row_bytes)]
    runs = [row[at : at + 128] for row in rows for at in range(0, len(row), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def _lzw(raw: bytes) -> bytes:
    """Return codes of 9 bits only: the table is cleared before it needs more."""
    codes = []
    for at in range(0, len(raw), 200):
        codes += [256, *raw[at : at + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
