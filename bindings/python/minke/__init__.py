"""minke: CPU inference of the DeepSeek V3 family.

    import minke

    with minke.Model("path/to/checkpoint", threads=2) as m:
        for piece in m.generate("The whale", max_tokens=32):
            print(piece, end="", flush=True)

A Model is a loaded checkpoint, a Session one sequence of tokens with its caches, a Sampler
turns logits into tokens.  All three are context managers and may be closed in any order.
Calls that fail raise MinkeError.

The C library is looked for at the path given as Model(library=...), then at the path in
the environment variable MINKE_LIBRARY, beside this package, in the build folder of the
source tree that holds this package, and where libraries are installed.
"""

from __future__ import annotations

from . import errors, learn
from ._ffi import load as _load
from .chat import (
    Arguments, CallBegun, CallEnded, Content, Finished, Malformed, Reasoning, ToolResult,
)
from .errors import MinkeError
from .model import Model
from .sampler import Sampler
from .session import Session

__version__ = "0.1.0"
__all__ = [
    "Arguments", "CallBegun", "CallEnded", "Content", "Finished", "Malformed", "MinkeError",
    "Model", "Reasoning", "Sampler", "Session", "ToolResult", "errors", "learn",
    "library_version",
]


def library_version() -> str:
    """Version of the C library in use, "0.1.0" for instance."""
    number = _load().minke_version()
    return f"{number >> 16}.{number >> 8 & 0xff}.{number & 0xff}"
