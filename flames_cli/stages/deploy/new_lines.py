"""Lines that other processes add to a log."""

from pathlib import Path


class NewLines:
    """Reader of the lines that are added to a log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._position = 0

    def skip(self) -> None:
        """Skip the lines that the log already contains."""
        self._position = self._log.stat().st_size if self._log.exists() else 0

    def read(self) -> bytes:
        """Return the lines since the last call; an unfinished last line is read next time."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._position)
                new = file.read()
        except FileNotFoundError:
            return b""
        complete = new[: new.rfind(b"\n") + 1]
        self._position += len(complete)
        return complete
