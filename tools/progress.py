# SPDX-License-Identifier: GPL-2.0
"""How far a long step is: one line that changes, or a plain line now and then."""

import os
import shutil
import time

# Taken when we are loaded: pytest may capture standard error later.
_out = os.fdopen(os.dup(2), "w")
_terminal = _out.isatty()

# Seconds between two lines.
_PAUSE = 0.2 if _terminal else 30


def elapsed(seconds):
    """Seconds as a person reads them."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def say(text):
    """A line that stays."""
    _out.write(("\r\033[K" if _terminal else "") + text + "\n")
    _out.flush()


class Step:
    """One long step. As a context it says how long the step took."""

    def __init__(self, what):
        self.what = what
        self._began = self._told = time.monotonic()
        if not _terminal:
            say(what)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        time_taken = elapsed(time.monotonic() - self._began)
        say(f"{self.what}: " +
            (f"stopped after {time_taken}" if kind else f"done in {time_taken}"))

    def now(self, text):
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if now - self._told < _PAUSE:
            return
        self._told = now
        line = f"{self.what}: {elapsed(now - self._began)}  {text}"
        if _terminal:
            columns = shutil.get_terminal_size().columns
            _out.write("\r\033[K" + line[:columns - 1])
            _out.flush()
        else:
            say(line)
