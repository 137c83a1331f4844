"""From logits to a token."""

from __future__ import annotations

import ctypes
from array import array
from ctypes import byref, c_float, c_int32, c_void_p
from typing import TYPE_CHECKING, List, Mapping, Optional, Sequence, Tuple, Union

from ._calls import Handle, fitting, int32_array
from ._ffi import Library, SamplerParams

if TYPE_CHECKING:
    from .session import Session


def _float_array(values: Sequence[float]) -> "ctypes.Array[c_float]":
    copy = values if isinstance(values, array) and values.typecode == "f" else array("f", values)
    return (c_float * len(copy)).from_buffer(copy)


class Sampler(Handle):
    """Turns logits into a token and owns its random state.  Made by Model.sampler.

    One thread at a time.  Penalties count the tokens given to accept(); Model.generate
    does that by itself.
    """

    _free_name = "minke_sampler_free"

    def __init__(self, lib: Library, *, temperature: float = 0.0, top_k: int = 0,
                 top_p: float = 1.0, min_p: float = 0.0, seed: int = 0,
                 repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
                 frequency_penalty: float = 0.0, penalty_window: int = 64,
                 logit_bias: Optional[Mapping[int, float]] = None) -> None:
        self._lib = lib
        params = SamplerParams()
        lib.minke_sampler_params_init(byref(params), ctypes.sizeof(params))
        params.temperature, params.top_p, params.min_p = temperature, top_p, min_p
        params.top_k, params.seed = top_k, seed & (2**64 - 1)
        params.repetition_penalty = repetition_penalty
        params.presence_penalty = presence_penalty
        params.frequency_penalty = frequency_penalty
        params.penalty_window = penalty_window
        if logit_bias:
            params.n_bias = len(logit_bias)
            params.bias_tokens = int32_array(logit_bias.keys())
            params.bias_values = (c_float * len(logit_bias))(*logit_bias.values())
        out = c_void_p()
        lib.check(lib.minke_sampler_open(byref(out), byref(params)))
        self._ptr = out.value

    def sample(self, source: Union["Session", Sequence[float]]) -> int:
        """Choose a token from the last logits of a session, or from a row of logits.

        Ties go to the lowest id when greedy.  Does not accept the token by itself.
        """
        token = c_int32()
        lib = self._lib
        if isinstance(source, Handle):
            pointer, n = source._logits()
            lib.check(lib.minke_sampler_sample(self._handle, pointer, n, byref(token)))
        else:
            row = _float_array(source)
            lib.check(lib.minke_sampler_sample(self._handle, row, len(row), byref(token)))
        return token.value

    def accept(self, token: int) -> None:
        """Tell the sampler that token was taken, so that the penalties count it."""
        self._lib.check(self._lib.minke_sampler_accept(
            self._handle, fitting(c_int32, "token", token)))

    def logprob(self) -> Tuple[float, float]:
        """Log-probability of the last sample: under the distribution it was drawn from,
        and under the plain softmax of the logits."""
        chosen, full = c_float(), c_float()
        self._lib.check(self._lib.minke_sampler_logprob(self._handle, byref(chosen),
                                                        byref(full)))
        return chosen.value, full.value


def best(lib: Library, logits: Sequence[float], n: int) -> List[Tuple[int, float]]:
    """The n most likely tokens of a row of logits with their log-probabilities."""
    row = _float_array(logits)
    tokens, logprobs = (c_int32 * n)(), (c_float * n)()
    lib.check(lib.minke_logprobs_best(row, len(row), n, tokens, logprobs))
    return list(zip(tokens, logprobs))
