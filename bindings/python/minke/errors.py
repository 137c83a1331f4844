"""Failures of the library as one exception, and the status codes behind it."""

from __future__ import annotations

OK = 0
EINVAL = -1
ENOMEM = -2
EIO = -3
EFORMAT = -4
EUNSUPPORTED = -5
ENOSPC = -6
EFULL = -7
ECANCELED = -8
EVERSION = -9
EINTERNAL = -10
EBUSY = -11
EFORK = -12
ESNAPSHOT = -13

_NAMES = {value: "MINKE_" + name for name, value in list(globals().items())
          if name.isupper() and isinstance(value, int)}


class MinkeError(Exception):
    """A call failed.

    code: the negative status, ``minke.errors.EINVAL`` for instance.
    name: its name, ``"MINKE_EINVAL"``.
    message: one line that says what was wrong.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.name = _NAMES.get(code, f"MINKE_{code}")
        self.message = message

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"
