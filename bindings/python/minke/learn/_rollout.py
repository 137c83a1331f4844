"""Records of what a session did while it wrote, and their replay."""

from __future__ import annotations

import ctypes
import json
import os
from array import array
from ctypes import byref, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from .. import _ffi
from .._calls import Handle, path_bytes
from ..errors import ENOSPC, EUNSUPPORTED, MinkeError
from ..model import Model
from ..sampler import Sampler
from ..session import Session
from ._proof import FINISHES

_CODES = {"I64": "q", "I32": "i", "F32": "f", "U16": "H", "U8": "B"}
_REPLAY = {"experts": 1, "selected": 2}


class Rollout(Handle):
    """What a session evaluated and drew: tokens, probabilities, allowed sets, experts.

        rollout = minke.learn.Rollout(model, max_tokens=1024)
        rollout.record(session)
        ...                                  # model.chat(..., session=session), or a loop with
        token = rollout.sample(session, sampler)
        rollout.save("rollout.safetensors")

    Arrays are read by name: rollout["logprobs"], rollout["experts"]; rollout.shape(name) is what
    the flat list's shape is.
    """

    _free_name = "minke_rollout_free"

    def __init__(self, model: Model, max_tokens: int = 4096, *, allowed: bool = True,
                 experts: bool = True, selected: bool = False, max_allowed: int = 0) -> None:
        self._lib = model._lib
        params = _ffi.RolloutParams(struct_size=ctypes.sizeof(_ffi.RolloutParams))
        params.flags = (0 if allowed else 1) | (0 if experts else 2) | (4 if selected else 0)
        params.max_tokens, params.max_allowed = max_tokens, max_allowed
        out = c_void_p()
        self._lib.check(self._lib.minke_rollout_open(byref(out), model._handle, byref(params)))
        self._ptr = out.value

    @classmethod
    def load(cls, model: Model, path: Union[str, "os.PathLike[str]"]) -> "Rollout":
        """A record from its file, for a model of the shape of the one that wrote it."""
        self = cls.__new__(cls)
        self._lib = model._lib
        out = c_void_p()
        self._lib.check(self._lib.minke_rollout_load(byref(out), model._handle, path_bytes(path)))
        self._ptr = out.value
        return self

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Write a safetensors file, which any reader of that format opens."""
        self._lib.check(self._lib.minke_rollout_save(self._handle, path_bytes(path)))

    def record(self, session: Session) -> None:
        """From now on write down what session does."""
        self._lib.check(self._lib.minke_rollout_record(session._handle, self._handle))

    def sample(self, session: Session, sampler: Sampler) -> int:
        """Draw a token from the session's logits, accept it and write it down."""
        token = c_int32()
        self._lib.check(self._lib.minke_rollout_sample(session._handle, sampler._handle,
                                                       byref(token)))
        return token.value

    def finish(self, reason: str) -> None:
        """Say how the sequence ended: "stop", "length"."""
        self._lib.check(self._lib.minke_rollout_finish(self._handle, FINISHES.get(reason, 0)))

    def score(self, session: Session) -> Tuple[List[float], List[float]]:
        """Evaluate the record's tokens in the session, which is emptied first.

        Returns the log-probability of every drawn token at the recorded temperature over the
        recorded allowed set, and under the softmax of the logits; 0 where none was drawn.
        """
        n = len(self)
        masked, full = (ctypes.c_float * n)(), (ctypes.c_float * n)()
        with session._raised:
            status = self._lib.minke_rollout_score(self._handle, session._handle, masked, full, n)
        session._raised.reraise()
        self._lib.check(status)
        return list(masked), list(full)

    @property
    def facts(self) -> Dict[str, Any]:
        """Model, finish reason, length of the prompt, sampling parameters."""
        n = c_size_t()
        status = self._lib.minke_rollout_facts(self._handle, None, 0, byref(n))
        if status != ENOSPC:
            self._lib.check(status)
        text = ctypes.create_string_buffer(n.value)
        self._lib.check(self._lib.minke_rollout_facts(self._handle, text, n.value, byref(n)))
        facts: Dict[str, Any] = json.loads(text.raw[:n.value])
        return facts

    def _array(self, key: int) -> Tuple[str, str, List[int], int]:
        name, dtype, data = c_char_p(), c_char_p(), c_void_p()
        shape, n_dims = (c_uint64 * 3)(), c_uint32()
        self._lib.check(self._lib.minke_rollout_array(self._handle, key, byref(name), byref(dtype),
                                                      shape, byref(n_dims), byref(data)))
        return ((name.value or b"").decode(), (dtype.value or b"").decode(),
                list(shape)[:n_dims.value], data.value or 0)

    def _find(self, name: str) -> Tuple[str, str, List[int], int]:
        for key in range(1, 9):
            try:
                found = self._array(key)
            except MinkeError:
                continue
            if found[0] == name:
                return found
        raise KeyError(name)

    def names(self) -> List[str]:
        """Arrays that this record keeps."""
        out = []
        for key in range(1, 9):
            try:
                out.append(self._array(key)[0])
            except MinkeError:
                continue
        return out

    def shape(self, name: str) -> List[int]:
        return self._find(name)[2]

    def __getitem__(self, name: str) -> "array[Any]":
        """A copy of one array, flat."""
        _, dtype, shape, data = self._find(name)
        out: "array[Any]" = array(_CODES[dtype])
        count = 1
        for n in shape:
            count *= n
        out.frombytes(ctypes.string_at(data, count * out.itemsize))
        return out

    def __len__(self) -> int:
        return self.shape("tokens")[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def allowed(self, token: int) -> Optional[List[int]]:
        """Ids that the token-th token could have been, ascending; None = all."""
        offsets = self["allowed_offsets"]
        row = self["allowed"][offsets[token]:offsets[token + 1]]
        return list(row) or None


def replay(session: Session, rollout: Optional[Rollout], *kinds: str) -> None:
    """From now on take experts and selection of each position from a record.

    kinds: "experts", "selected"; none = all that the record keeps.  With rollout None the session
    chooses freely again.
    """
    for kind in kinds:
        if kind not in _REPLAY:
            raise MinkeError(EUNSUPPORTED, f"{kind!r}: {' or '.join(_REPLAY)} expected")
    lib = session._lib
    lib.check(lib.minke_rollout_replay(session._handle,
                                       None if rollout is None else rollout._handle,
                                       sum(_REPLAY[kind] for kind in set(kinds))))
