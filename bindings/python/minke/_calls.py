"""Small things that the handles share: arrays for C, and exceptions inside callbacks."""

from __future__ import annotations

import ctypes
import operator
import os
import signal
import threading
from array import array
from types import TracebackType
from typing import Any, Callable, Iterable, List, NoReturn, Optional, Type, TypeVar, Union

from ._ffi import Library
from .errors import EINVAL, MinkeError

T = TypeVar("T", bound="Handle")


def fitting(kind: Any, name: str, value: int) -> int:
    """value, which must be in the range of a C type: ctypes alone would cut it."""
    number = operator.index(value)
    if kind(number).value != number:
        raise MinkeError(EINVAL, f"{name}: {number} is out of range")
    return number


def path_bytes(path: Union[str, bytes, "os.PathLike[str]"]) -> bytes:
    """A path for C, where it would end at a NUL."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("NUL in a path")
    return name


def int32_array(ids: Iterable[int]) -> Any:
    """ids as a C array of int32; a number outside int32 is an error, not a wrap."""
    if isinstance(ids, (bytes, bytearray, memoryview)):
        raise TypeError(f"token ids must be a sequence of int, not {type(ids).__name__}")
    try:
        values = array("i", ids)
    except OverflowError:
        raise MinkeError(EINVAL, "token id out of range for 32 bits") from None
    except TypeError as error:
        raise TypeError(f"token ids must be a sequence of int: {error}") from None
    return (ctypes.c_int32 * len(values)).from_buffer(values) if values \
        else (ctypes.c_int32 * 0)()


def float_row(pointer: Any, n: int) -> "array[float]":
    """A copy of n floats."""
    row = array("f")
    row.frombytes(ctypes.string_at(pointer, n * row.itemsize))
    return row


class Raised:
    """Keeps the exception of a callback until the C call that made it has returned: the call is
    made "with" this object, then follows reraise().

    Python looks for Ctrl-C when it enters a function, so that a callback would be interrupted
    before its first line, where nothing can catch that, and the interrupt would be lost.  In the
    main thread the handler of SIGINT is therefore this object while C runs; in the callback's own
    code it raises as ever.
    """

    def __init__(self) -> None:
        self.error: Optional[BaseException] = None
        self._inside = False    # in the callback's own code
        self._handlers: List[Any] = []

    def __enter__(self) -> "Raised":
        handler = None
        if not self._handlers:
            self.error = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
        self._handlers.append(handler if callable(handler) and handler is not self else None)
        if self._handlers[-1] is not None:
            signal.signal(signal.SIGINT, self)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._handlers[-1] is not None and signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, self._handlers[-1])
        self._handlers.pop()

    @property
    def running(self) -> bool:
        """C is running."""
        return bool(self._handlers)

    def __call__(self, number: int, frame: Any) -> None:
        """SIGINT came."""
        handler = next((h for h in reversed(self._handlers) if h is not None), None)
        try:
            if handler is not None:
                handler(number, frame)
        except BaseException as error:
            if self._inside:
                raise
            self.error = error

    def run(self, function: Callable[[], object]) -> int:
        """Call function; 0 to go on, 1 to stop."""
        try:
            self._inside = True
            if self.error is None:
                function()
            self._inside = False
        except BaseException as error:  # KeyboardInterrupt too: C must return first
            self._inside = False
            self.error = error
        return int(self.error is not None)

    def reraise(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


class Handle:
    """What Model, Session and Sampler have in common: one C pointer, freed once."""

    _lib: Library
    _ptr: Optional[int] = None
    _free_name = ""

    def close(self) -> None:
        """Free the handle now; calls after this raise MinkeError.  Idempotent."""
        pointer, self._ptr = self._ptr, None
        if pointer is not None:
            getattr(self._lib, self._free_name)(pointer)

    @property
    def _handle(self) -> int:
        if self._ptr is None:
            raise MinkeError(EINVAL, f"the {type(self).__name__} is closed")
        return self._ptr

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        # Two objects with one pointer would free it twice.
        raise TypeError(f"a {type(self).__name__} can be neither copied nor pickled")
