"""Header of PNG files: what Pillow does not say of the samples that it decodes."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"

DEPTH_AT, COLOUR_AT = 24, 25
"""Positions in a PNG of the bits per sample and of the colour type, which is 0 for grey."""


def is_deep_colour(data: bytes) -> bool:
    """Return whether `data` is a PNG with 16-bit samples and several of them: RGB, or with transparency."""
    header = data[DEPTH_AT : COLOUR_AT + 1]
    return data.startswith(SIGNATURE) and header in (b"\x10\2", b"\x10\4", b"\x10\6")


def is_grey(data: bytes) -> bool:
    """Return whether `data` is a PNG in grey without alpha."""
    return data.startswith(SIGNATURE) and data[COLOUR_AT : COLOUR_AT + 1] == b"\0"
