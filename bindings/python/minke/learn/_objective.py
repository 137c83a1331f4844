"""The policy objectives of the GRPO family."""

from __future__ import annotations

import ctypes
import operator
from array import array
from ctypes import byref, c_double, c_int32, c_size_t
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from .. import _ffi
from .._calls import int32_array
from ..errors import EINVAL, MinkeError

PRESETS = ("grpo", "dapo", "dr_grpo", "olmo3", "v3.2")
ADVANTAGES = {"mean": 1, "mean_std": 2}
AGGREGATIONS = {"sequence_mean": 1, "token_mean": 2, "group_tokens": 3, "constant_length": 4}
KLS = {"none": 1, "k1": 2, "k2": 3, "k3": 4, "unbiased": 5}

# Switches whose fields count when their bit of MINKE_OBJECTIVE_* is set.
GIVEN = {"std_ddof": 1 << 0, "std_eps": 1 << 1, "clip_low": 1 << 2, "clip_high": 1 << 3,
         "off_policy_delta": 1 << 4}

Rows = Sequence[Sequence[float]]


class Stats(Dict[str, Any]):
    """What was counted: a dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Objective:
    """A loss, its gradient by each log-probability (lists as logp), the advantage of each
    sequence, and statistics."""

    def __init__(self, loss: float, grad: List[List[float]], advantages: List[float],
                 stats: Stats) -> None:
        self.loss = loss
        self.grad = grad
        self.advantages = advantages
        self.stats = stats

    def __repr__(self) -> str:
        return f"Objective(loss={self.loss!r}, stats={dict(self.stats)!r})"


def _doubles(values: Iterable[float]) -> Any:
    numbers = array("d", values)
    return (c_double * len(numbers)).from_buffer(numbers) if numbers else (c_double * 0)()


def _flat(name: str, rows: Optional[Rows], logp: Rows) -> Any:
    """rows one behind the other; each as long as that of logp."""
    if rows is None:
        return None
    if len(rows) != len(logp):
        raise MinkeError(EINVAL, f"{name} has {len(rows)} sequences, logp {len(logp)}")
    numbers = array("d")
    for i, row in enumerate(rows):
        if len(row) != len(logp[i]):
            raise MinkeError(EINVAL, f"{name}[{i}] has {len(row)} numbers, logp[{i}] "
                             f"{len(logp[i])}")
        numbers.extend(array("d", row))
    return _doubles(numbers)


def _choice(name: str, names: Dict[str, int], value: Optional[str]) -> int:
    if value is None:
        return 0
    if value not in names:
        raise MinkeError(EINVAL, f"{name} {value!r}: one of {', '.join(names)} expected")
    return names[value]


def _whole(name: str, value: int) -> int:
    if not 0 <= value < 2**63:
        raise MinkeError(EINVAL, f"{name} is {value}")
    return int(value)


def _params(lib: _ffi.Library, preset: str, advantage: Optional[str],
            aggregation: Optional[str], kl: Optional[str], filter_groups: Optional[bool],
            overlong: Optional[Tuple[int, int]], numbers: Dict[str, Optional[float]]) -> Any:
    p = _ffi.ObjectiveParams()
    lib.minke_objective_params_init(byref(p), ctypes.sizeof(p))
    p.preset = preset.encode("utf-8", "replace").replace(b"\0", b"?")
    p.advantage = _choice("advantage", ADVANTAGES, advantage)
    p.aggregation = _choice("aggregation", AGGREGATIONS, aggregation)
    p.kl = _choice("kl", KLS, kl)
    p.filter = 0 if filter_groups is None else 2 if filter_groups else 1
    for name, value in numbers.items():
        if value is None:
            continue
        if name == "std_ddof":
            value = min(_whole(name, operator.index(value)), 2**32 - 1)
        elif name in ("constant_length", "tis_cap") and value == 0:
            raise MinkeError(EINVAL, f"{name} is 0: above 0 expected")
        p.given |= GIVEN.get(name, 0)
        setattr(p, name, value)
    if overlong is not None:
        p.overlong_max, p.overlong_cache = (_whole("overlong", n) for n in overlong)
    return p


def _check_sequences(**columns: Any) -> None:
    n = len(columns["logp"])
    for name, column in columns.items():
        if len(column) != n:
            raise MinkeError(EINVAL, f"{name} has {len(column)} sequences, logp {n}")


def objective(preset: str, *, rewards: Sequence[float], groups: Sequence[int], logp: Rows,
              old: Rows, ref: Optional[Rows] = None, rollout: Optional[Rows] = None,
              kl_weight: Union[float, Sequence[float]] = 0.0, advantage: Optional[str] = None,
              std_ddof: Optional[int] = None, std_eps: Optional[float] = None,
              aggregation: Optional[str] = None, constant_length: Optional[float] = None,
              clip_low: Optional[float] = None, clip_high: Optional[float] = None,
              kl: Optional[str] = None, off_policy_delta: Optional[float] = None,
              tis_cap: Optional[float] = None, filter_groups: Optional[bool] = None,
              overlong: Optional[Tuple[int, int]] = None) -> Objective:
    """Loss and gradient of a batch of sequences, in groups that answer one prompt.

    preset: "grpo", "dapo", "dr_grpo", "olmo3" or "v3.2"; minke.h has them as a table.  rewards
    and groups (an integer id): one per sequence.  logp, old, ref, rollout: the log-probabilities
    of each sequence's tokens now, when they were sampled, under the reference, and as the
    inference engine said (None: as old).  kl_weight: a number, or one per sequence.

    Every switch works over every preset; None leaves it to the preset:
    advantage "mean" or "mean_std" (with std_ddof, std_eps); aggregation "sequence_mean",
    "token_mean", "group_tokens" or "constant_length" (which constant_length alone chooses too);
    clip_low, clip_high; kl "none", "k1", "k2", "k3" or "unbiased"; off_policy_delta masks
    negative sequences whose mean of rollout - logp is above it; tis_cap truncates importance
    sampling; filter_groups drops groups of equal rewards; overlong (longest, cache) is DAPO's
    penalty of length.
    """
    lib = _ffi.load()
    _check_sequences(rewards=rewards, groups=groups, logp=logp)
    p = _params(lib, preset, advantage, aggregation, kl, filter_groups, overlong,
                {"std_ddof": std_ddof, "std_eps": std_eps, "constant_length": constant_length,
                 "clip_low": clip_low, "clip_high": clip_high, "tis_cap": tis_cap,
                 "off_policy_delta": off_policy_delta})
    lengths = [len(row) for row in logp]
    n, n_tokens = len(lengths), sum(lengths)
    b = _ffi.ObjectiveBatch()
    lib.minke_objective_batch_init(byref(b), ctypes.sizeof(b))
    b.n_sequences, b.n_tokens = n, n_tokens
    b.groups = ctypes.cast(int32_array(groups), ctypes.POINTER(c_int32))
    b.rewards = _doubles(rewards)
    b.lengths = (c_size_t * n)(*lengths)
    if hasattr(kl_weight, "__len__"):
        weights: Any = kl_weight
        _check_sequences(logp=logp, kl_weight=weights)
        b.kl_weights = _doubles(weights)
    else:
        p.kl_weight = kl_weight
    b.logp, b.old = _flat("logp", logp, logp), _flat("old", old, logp)
    b.ref, b.rollout = _flat("ref", ref, logp), _flat("rollout", rollout, logp)
    loss, grad, advantages = c_double(), (c_double * n_tokens)(), (c_double * n)()
    stats = _ffi.ObjectiveStats()
    lib.minke_objective_stats_init(byref(stats), ctypes.sizeof(stats))
    lib.check(lib.minke_objective(byref(p), byref(b), byref(loss), grad, advantages,
                                  byref(stats)))
    return _result(loss.value, list(grad), list(advantages), lengths, stats)


def _result(loss: float, grad: List[float], advantages: List[float], lengths: List[int],
            stats: Any) -> Objective:
    rows, begin = [], 0
    for length in lengths:
        rows.append(grad[begin:begin + length])
        begin += length
    counted = Stats((name, getattr(stats, name)) for name, _ in stats._fields_
                    if name != "struct_size")
    return Objective(loss, rows, advantages, counted)
