"""One sequence of tokens with its caches."""

from __future__ import annotations

import ctypes
import os
import weakref
from array import array
from ctypes import byref, c_float, c_int32, c_size_t, c_uint64, c_void_p
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from . import _ffi
from ._calls import Handle, Raised, fitting, float_row, int32_array, path_bytes
from .errors import EBUSY, EUNSUPPORTED, MinkeError

Row = Sequence[float]
Pairs = List[Tuple[int, float]]
Observe = Callable[[str, int, int, Union[Pairs, Row]], object]
Progress = Callable[[int, int], object]

_KINDS = {"experts": _ffi.OBSERVE_EXPERTS, "selected": _ffi.OBSERVE_SELECTED,
          "residual": _ffi.OBSERVE_RESIDUAL}
_KIND_NAMES = {bit: name for name, bit in _KINDS.items()}
_FORMS = {"auto": 0, "naive": _ffi.SESSION_NAIVE, "absorbed": _ffi.SESSION_ABSORBED}
_CACHES = {"f32": 0, "bf16": 1, "fp8": 2, "native": 3}
_INDEXES = {"f32": 0, "int8": 1, "rescored": 2, "native": 3}
_ATTENTION = {"default": _ffi.ATTENTION_DEFAULT, "dense": _ffi.ATTENTION_DENSE,
              "window": _ffi.ATTENTION_WINDOW, "dsa": _ffi.ATTENTION_DSA}


def session_params(max_tokens: int, cache: str, prefill_chunk: int, mtp: bool,
                   form: str, attention: str = "default",
                   window: int = 0, index: Optional[str] = None) -> _ffi.SessionParams:
    """What of a session's parameters decides its memory; struct_size is the caller's."""
    if cache not in _CACHES:
        raise MinkeError(EUNSUPPORTED, f"cache {cache!r}: {' or '.join(_CACHES)} expected")
    if index is None:
        index = "native" if cache == "native" else "f32"
    if index not in _INDEXES:
        raise MinkeError(EUNSUPPORTED, f"index {index!r}: {' or '.join(_INDEXES)} expected")
    if form not in _FORMS:
        raise ValueError(f"form {form!r}: {', '.join(_FORMS)} expected")
    if attention not in _ATTENTION:
        raise ValueError(f"attention {attention!r}: {', '.join(_ATTENTION)} expected")
    params = _ffi.SessionParams(struct_size=ctypes.sizeof(_ffi.SessionParams))
    params.max_tokens = max_tokens
    params.prefill_chunk = prefill_chunk
    params.attention = _ATTENTION[attention]
    params.window = window
    params.cache_type = _CACHES[cache]
    params.index_type = _INDEXES[index]
    params.flags = _FORMS[form] | (_ffi.SESSION_MTP if mtp else 0)
    return params


class Session(Handle):
    """One sequence: its caches and position.  Made by Model.session.

    One thread at a time, but for cancel().  An exception raised in a callback (Ctrl-C
    included) stops the evaluation and comes out of the call that was running; whole
    chunks already evaluated stay.
    """

    _free_name = "minke_session_free"

    def __init__(self, lib: _ffi.Library, context: int, *, max_tokens: int = 4096,
                 cache: str = "f32", observe: Optional[Observe] = None,
                 observe_kinds: Iterable[str] = tuple(_KINDS), prefill_chunk: int = 0,
                 mtp: bool = False, form: str = "auto", attention: str = "default",
                 window: int = 0, index: Optional[str] = None,
                 progress: Optional[Progress] = None, parent: Optional[Session] = None) -> None:
        self._lib = lib
        self._context = context
        self._raised = Raised()
        self._replies: "weakref.WeakSet[Handle]" = weakref.WeakSet()
        self._options: Dict[str, Any] = dict(
            max_tokens=max_tokens, cache=cache, observe=observe,
            observe_kinds=tuple(observe_kinds), prefill_chunk=prefill_chunk, mtp=mtp, form=form,
            attention=attention, window=window, index=index, progress=progress)
        params = session_params(max_tokens, cache, prefill_chunk, mtp, form, attention,
                                window, index)
        # Always set: Python handles Ctrl-C when this runs.
        self._on_progress = _ffi.PROGRESS_FN(
            lambda _user, done, total: self._raised.run(
                lambda: progress(done, total) if progress is not None else None))
        params.progress = self._on_progress
        if observe is not None:
            for kind in self._options["observe_kinds"]:
                if kind not in _KINDS:
                    raise ValueError(f"observe_kinds {kind!r}: {', '.join(_KINDS)} expected")
            self._on_values = _ffi.OBSERVER_FN(self._observer(observe))
            params.observer = self._on_values
            params.observe = sum(_KINDS[kind] for kind in set(self._options["observe_kinds"]))
        out = c_void_p()
        if parent is None:
            lib.check(lib.minke_session_open(byref(out), context, byref(params)))
        else:
            lib.check(lib.minke_session_fork(byref(out), parent._handle, byref(params)))
        self._ptr = out.value

    def close(self) -> None:
        """Free the session, and the replies being made from it.  MinkeError EBUSY while it
        evaluates: see cancel()."""
        if "_raised" in self.__dict__:
            self._check_idle()
        for reply in list(getattr(self, "_replies", ())):
            reply.close()
        super().close()

    def _observer(self, observe: Observe) -> Callable[..., int]:
        raised = self._raised

        def on_values(_user: Any, kind: int, layer: int, token: int, ids: Any, values: Any,
                      n: int) -> int:
            def call() -> None:
                row = float_row(values, n) if n else array("f")
                observe(_KIND_NAMES.get(kind, str(kind)), layer, token,
                        list(zip(ids[:n], row)) if ids else row)
            return raised.run(call)

        return on_values

    def _check_idle(self) -> None:
        if self._raised.running:
            raise MinkeError(EBUSY, "the Session is in use by another thread, or by its callback")

    def _call(self, function: Callable[..., int], *arguments: Any) -> None:
        """Call C and check the status; what a callback raised comes first."""
        self._check_idle()
        with self._raised:
            status = function(self._handle, *arguments)
        self._raised.reraise()
        self._lib.check(status)

    def eval(self, ids: Iterable[int], logits: str = "last") -> List[Row]:
        """Append tokens and return logits: one row for the "last" token, a row for each
        with "all", no row with "none".

        A row is an array('f') of n_vocab floats; numpy.asarray(row) does not copy it.
        MinkeError EFULL, with nothing evaluated, when the tokens do not fit.
        """
        tokens = int32_array(ids)
        if logits == "all":
            return self._eval_all(tokens)
        if logits not in ("last", "none"):
            raise ValueError(f'logits {logits!r}: "last", "all" or "none" expected')
        self._call(self._lib.minke_session_eval, tokens, len(tokens))
        return [self.logits()] if logits == "last" else []

    def _eval_all(self, tokens: Any) -> List[Row]:
        rows: List[Row] = []
        on_row = _ffi.ROW_FN(lambda _user, _token, row, n: self._raised.run(
            lambda: rows.append(float_row(row, n))))
        self._call(self._lib.minke_session_eval_rows, tokens, len(tokens), on_row, None)
        return rows

    def sync(self, ids: Iterable[int]) -> int:
        """Make the session hold exactly these tokens, with the logits of the last.
        Returns how many of those it held were reused."""
        tokens, reused = int32_array(ids), c_size_t()
        self._call(self._lib.minke_session_sync, tokens, len(tokens), byref(reused))
        return reused.value

    def truncate(self, n: int) -> None:
        """Forget all but the first n tokens."""
        self._call(self._lib.minke_session_truncate, fitting(c_size_t, "n", n))

    def fork(self, **options: Any) -> Session:
        """Another session that holds the same tokens, caches and logits; from then on the two
        know nothing of each other.  Options: those of Model.session that are to differ, for
        instance max_tokens or observe; attention, cache, index and mtp may not."""
        return Session(self._lib, self._context, **{**self._options, **options}, parent=self)

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the session to a file, which appears when it is complete and replaces an
        older one."""
        self._call(self._lib.minke_session_save, path_bytes(path))

    def load(self, path: Union[str, os.PathLike[str]]) -> None:
        """Become what was saved, bit for bit.  MinkeError ESNAPSHOT, with the session as it
        was, where the file is damaged, or of another model or kind of session."""
        self._call(self._lib.minke_session_load, path_bytes(path))

    def fill(self, n: int, seed: int = 0) -> None:
        """For benchmarks: append n tokens with random numbers in their caches, unevaluated."""
        self._call(self._lib.minke_session_fill, fitting(c_size_t, "n", n), seed)

    def cancel(self) -> None:
        """Stop the running eval, or the next: it raises MinkeError ECANCELED.  The one
        method that any thread may call."""
        self._lib.minke_session_cancel(self._handle)

    @property
    def length(self) -> int:
        """Tokens held."""
        return int(self._lib.minke_session_length(self._handle))

    @property
    def tokens(self) -> List[int]:
        """The tokens held."""
        n = self.length
        return list(self._lib.minke_session_tokens(self._handle)[:n]) if n else []

    def _logits(self) -> Tuple[Any, int]:
        pointer, n = ctypes.POINTER(c_float)(), c_size_t()
        self._call(self._lib.minke_session_logits, byref(pointer), byref(n))
        return pointer, n.value

    def logits(self) -> Row:
        """Logits of the last token evaluated, as a copy."""
        return float_row(*self._logits())

    def mtp(self, next_token: int) -> Row:
        """Logits of the multi-token-prediction layer: given the token that follows the
        last one evaluated, predict the one after it.  Needs session(mtp=True)."""
        _, n = self._logits()
        row = array("f", bytes(4 * n))
        buffer = (c_float * n).from_buffer(row)
        self._call(self._lib.minke_session_mtp, fitting(c_int32, "token", next_token), buffer, n)
        return row


def session_memory(lib: _ffi.Library, context: int, params: _ffi.SessionParams) -> int:
    """Bytes that a session with these parameters would allocate."""
    out = c_uint64()
    lib.check(lib.minke_session_memory(context, byref(params), byref(out)))
    return out.value
