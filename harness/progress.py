# SPDX-License-Identifier: GPL-2.0
"""Progress of long steps: one changing line on a terminal, else a line at times.

A program that prints while a step runs prints through share_stdout(). The
changing line then stays below the output of the program. A plain line ends a
line that the program has not ended; the next output of the program starts with
that line again, so that it can be read as a whole.
"""

import io
import os
import threading
import time


class _Screen:
    """Standard error with progress on it, or standard output with both."""

    def __init__(self):
        # A duplicate, since pytest redirects the descriptor during tests.
        self._fd = os.dup(2)
        self._lock = threading.RLock()
        self.is_terminal = os.isatty(2) and os.environ.get("TERM") != "dumb"
        # The line of each step that runs, in the order of their starts.
        self._steps = {}
        # The end of the program's output that is not a whole line yet, and
        # whether a line of ours has ended it on the screen.
        self._partial = ""
        self._is_interrupted = False
        # How to remove the changing line; empty if none is shown.
        self._erase = ""

    def share_stdout(self):
        """Move to standard output: the file for the program to print to."""
        self._fd = os.dup(1)
        self.is_terminal = self.is_terminal and os.isatty(1)
        return _SharedOutput(self, os.isatty(1))

    def program_output(self, text):
        """Print text of the program."""
        with self._lock:
            output = text
            if self._is_interrupted:
                # The line is on the screen already if this ends it.
                output = text[1:] if text.startswith("\n") \
                    else self._partial + text
            self._is_interrupted = False
            self._partial = (self._partial + text).rpartition("\n")[2]
            self._print(output)

    def line(self, text):
        """Print a line of progress that stays."""
        with self._lock:
            start = "\n" if self._partial and not self._is_interrupted else ""
            self._is_interrupted = bool(self._partial)
            self._print(f"{start}{text}\n")

    def show(self, step, text):
        """Change the line of a step."""
        with self._lock:
            self._steps[step] = text
            self._print("")

    def hide(self, step):
        """Remove the line of a step."""
        with self._lock:
            self._steps.pop(step, None)
            self._print("")

    def _print(self, text):
        """Print text, with the changing line below it."""
        output = self._erase + text
        self._erase = ""
        if self._steps:
            width = os.get_terminal_size(self._fd).columns - 1
            line = "; ".join(self._steps.values())[:width]
            if self._partial and not self._is_interrupted:
                # Make a line below the cursor, and come back after using it.
                output += f"\033D\033[A\0337\r\n\033[K{line}\0338"
                self._erase = "\0337\r\n\033[K\0338"
            else:
                output += f"\r\033[K{line}"
                self._erase = "\r\033[K"
        data = output.encode(errors="replace")
        while data:
            data = data[os.write(self._fd, data):]


class _SharedOutput(io.TextIOBase):
    """Standard output for a program that runs steps."""

    encoding = "utf-8"

    def __init__(self, screen, is_terminal):
        self._screen = screen
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal

    def write(self, text):
        self._screen.program_output(text)
        return len(text)


_screen = _Screen()
say = _screen.line
share_stdout = _screen.share_stdout


def elapsed(seconds):
    """Seconds as minutes:seconds."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"


class Step:
    """A long step. As a context manager it prints how long the step took."""

    def __init__(self, what):
        self.what = what
        self._start = self._last_report = time.monotonic()
        if not _screen.is_terminal:
            say(what)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.end("stopped after" if kind else "done in")

    def end(self, words="done in"):
        """Print these words and how long the step took."""
        _screen.hide(self)
        say(f"{self.what}: {words} {elapsed(time.monotonic() - self._start)}")

    def now(self, text, at_once=False):
        """Report the state, unless the last report was a moment ago."""
        now = time.monotonic()
        pause = 0.2 if _screen.is_terminal else 30
        if now - self._last_report < pause and not at_once:
            return
        self._last_report = now
        line = f"{self.what}: {elapsed(now - self._start)}  {text}"
        if _screen.is_terminal:
            _screen.show(self, line)
        else:
            say(line)
