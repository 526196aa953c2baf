"""Loaded by every Python process below a command of a test's cluster: records messages, or ends a node.

The environment says what to do, and PYTHONPATH has this folder. FLAMES itself has no code for it.

- RECORD: folder. Flower's server writes the body of every request from a node there, and the run's process
  every message that it receives.
- KILL: `VICTIM TYPE WHEN NUMBER`, such as `node query.shares before 2`, and COUNTS: folder. The process that
  answers messages ends itself by SIGKILL, and its node if VICTIM is `node`, at the NUMBERth message of this
  type: before it answers, or after, before the reply is sent. The messages are counted over all processes of
  the node, so that the restarted one goes on.
- LIE: the node changes the shares that it gives to the server.
- SLOW: number of seconds by which every training of the node takes longer.
"""

import os
import signal
import sys
import time
from pathlib import Path


def record_requests(folder):
    """Write the body of every request to /v1/fleet in a file of its own."""
    from flames_cli.flower.gate import Gate

    real = Gate.__call__

    async def call(self, scope, receive, send):
        if not str(scope.get("path")).startswith("/v1/fleet"):
            return await real(self, scope, receive, send)
        path = folder / f"{os.getpid()}-{len(list(folder.iterdir())):06d}-{Path(scope['path']).name}.request"

        async def receive_and_record():
            event = await receive()
            with path.open("ab") as file:
                file.write(event.get("body") or b"")
            return event

        return await real(self, scope, receive_and_record, send)

    Gate.__call__ = call


def record_replies(folder):
    """Write every message that the run's process receives in a file of its own."""
    from flwr.common.serde import message_to_proto
    from flwr.superlink.grid.http_grid import HttpGrid

    real = HttpGrid.pull_messages

    def pull_messages(self, message_ids):
        for message in real(self, message_ids):
            path = folder / f"{message.metadata.message_id}.reply"
            path.write_bytes(message_to_proto(message).SerializeToString())
            yield message

    HttpGrid.pull_messages = pull_messages


def change_app(change):
    """Replace the ClientApp by change(app)."""
    from flames_cli.flower import clientapp_process

    real = clientapp_process.load_app
    clientapp_process.load_app = lambda reference: change(real(reference))


def killing(what, folder):
    """Return the change of an app that kills its node once."""
    victim, kind, when, number = what.split()

    def is_time(message, now):
        if message.metadata.message_type != kind or when != now:
            return False
        counts = folder / "count"
        with counts.open("ab") as file:
            file.write(b".")
        return counts.stat().st_size == int(number)

    def die():
        if victim == "node":
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def change(app):
        def answer(message, context):
            if is_time(message, "before"):
                die()
            reply = app(message=message, context=context)
            if is_time(message, "after"):
                die()
            return reply

        return answer

    return change


def slowing(seconds):
    """Return the change of an app that makes its trainings slower."""

    def change(app):
        def answer(message, context):
            if message.metadata.message_type == "train":
                time.sleep(seconds)
            return app(message=message, context=context)

        return answer

    return change


def lie():
    """Change the first byte of every share of a client's opening."""
    from flames_cli.secagg import Opening, Participant

    real = Participant.unmask

    def unmask(self, *given):
        opening = real(self, *given)
        return Opening({name: _changed(share) for name, share in opening.seeds.items()}, opening.keys)

    Participant.unmask = unmask


def _changed(share):
    return bytes([share[0] ^ 1]) + share[1:]


def main():
    """Do what the environment says, in the processes for which it is."""
    words = {Path(word).name for word in sys.orig_argv}
    if folder := os.environ.get("RECORD"):
        if "superlink" in words:
            record_requests(Path(folder))
        elif "flwr-serverapp" in words:
            record_replies(Path(folder))
    if "clientapp" in words:
        if what := os.environ.get("KILL"):
            change_app(killing(what, Path(os.environ["COUNTS"])))
        if os.environ.get("LIE"):
            lie()
        if seconds := os.environ.get("SLOW"):
            change_app(slowing(float(seconds)))


main()
