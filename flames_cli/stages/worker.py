"""Code of the processes that work for `stages.worker_processes`.

This file is run by its path, before the package can be imported, so it imports the standard library only.
"""

import gc
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Variables by which the libraries of linear algebra are limited to one thread a process."""


class Channel(Protocol):
    """Two-way connection to the process that gives out the work (a pipe of `multiprocessing`)."""

    def send(self, obj: Any, /) -> None:
        """Send an object."""

    def send_bytes(self, buf: Any, /) -> None:
        """Send an object that is packed already."""

    def recv(self) -> Any:
        """Wait for an object and return it."""


def main(descriptors: list[int]) -> None:
    """Load the task, then work in one copy of this process for each of `descriptors`, inherited pipes.

    Ends with all copies when the standard input ends, which it does with the process that started this one.
    """
    channels = [Connection(descriptor) for descriptor in descriptors]
    task = load_task(channels[0])
    if task is None:
        return
    gc.freeze()  # objects that no process collects stay in memory that all of them share
    for channel in channels:
        if os.fork() == 0:
            for other in channels:
                if other is not channel:
                    other.close()
            work(task, channel)
            os._exit(0)
    for channel in channels:
        channel.close()
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def serve(channel: Channel) -> None:
    """Load the task and work in this process, until the other end of the channel is closed."""
    task = load_task(channel)
    if task is not None:
        work(task, channel)


def load_task(channel: Channel) -> Any:
    """Receive the search path and the task, load its modules, and report whether that worked.

    Returns None if it did not.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gives out the work ends this one
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    sys.stdout = sys.stderr  # with --json, stdout is for the result alone: a plug-in may print
    try:
        path, packed = channel.recv()
        sys.path[:] = path
        task = ForkingPickler.loads(packed)
        limit_opencv()
        warnings.filterwarnings("ignore", module=r"PIL|pydicom|nibabel")  # as the command does
        channel.send(True)
    except EOFError:
        return None
    except Exception:
        channel.send(False)
        return None
    return task


def limit_opencv() -> None:
    """Limit OpenCV to one thread, if the task has loaded it."""
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(1)


def work(task: Any, channel: Channel) -> None:
    """Answer every batch with its results, up to the first error, until the other end of the channel is
    closed."""
    batches: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=receive, args=(channel, batches), daemon=True).start()
    while (batch := batches.get()) is not None:
        answer = answer_to(task, batch)
        try:
            channel.send_bytes(answer)
        except OSError:
            return


def receive(channel: Channel, batches: "queue.SimpleQueue[Any]") -> None:
    """Put every batch into `batches`, and None when the other end of the channel is closed.

    So the other end can send a batch at any time: it never waits for a process that waits for it.
    """
    try:
        with suppress(EOFError, OSError):
            while True:
                batches.put(channel.recv())
    finally:
        batches.put(None)


def answer_to(task: Any, batch: Sequence[Any]) -> Any:
    """Return the packed results of a batch, the error that ended it, and the error's trace."""
    results: list[Any] = []
    error: BaseException | None = None
    trace = ""
    try:
        results.extend(map(task, batch))
    except BaseException as raised:
        error, trace = portable(raised), traceback.format_exc()
    try:
        return ForkingPickler.dumps((results, error, trace))
    except Exception as raised:  # a result that cannot be sent to another process
        return ForkingPickler.dumps(([], portable(raised), traceback.format_exc()))


def portable(error: BaseException) -> BaseException:
    """Return the error, or one with its name and text if it cannot be sent to another process."""
    try:
        same = ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if type(same) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
