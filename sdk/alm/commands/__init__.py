"""The `alm` command. Exit status: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage."""

from __future__ import annotations

import os
import sys

import typer

from alm.commands import asking, choosing, doctor, inspecting, verifying
from alm.errors import AlmError

app = typer.Typer(
    name="alm",
    help="Ask questions about sound, offline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("ask")(asking.ask)
app.command("compare")(asking.compare)
app.command("choose")(choosing.choose)
app.command("inspect")(inspecting.inspect)
app.command("verify")(verifying.verify)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; every failure becomes one line and an exit status, never a traceback."""
    try:
        app()
    except AlmError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader (such as `head`) has left. Python would complain while flushing stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError:
        fail("out of memory; close other programs, or use a package of a smaller scheme such as int4")
    except Exception as error:
        fail(f"{type(error).__name__}: {error}. This is a defect; 'alm doctor --json' helps to report it")


def fail(reason: str) -> None:
    """Say why on stderr, in one line, and leave with status 1."""
    print("alm: " + " ".join(reason.split()), file=sys.stderr)
    sys.exit(1)
