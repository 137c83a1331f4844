"""Rewards that follow from exact rules, and a judge.  minke.h states each rule."""

from __future__ import annotations

import contextlib
import ctypes
from array import array
from ctypes import byref, c_double, c_int32, c_size_t
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Union

from .. import _ffi
from .._calls import Raised
from ..errors import EFORMAT, EINVAL, MinkeError
from ._proof import Complete, _callback, completions

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["Judgement", "answer", "boxed", "equal", "format", "judge", "language", "overlong",
           "rubric"]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _flags(percent_is_unit: bool, same_units: bool) -> int:
    return (1 if percent_is_unit else 0) | (2 if same_units else 0)


def _doubles(values: Optional[Sequence[float]]) -> Any:
    if values is None:
        return None
    numbers = array("d", values)
    return (c_double * len(numbers)).from_buffer(numbers) if numbers else (c_double * 0)()


def boxed(text: str) -> Optional[str]:
    r"""The content of the last \boxed{} of a reply behind its thinking; None when there is
    none."""
    data, begin, length = _bytes(text), c_size_t(), c_size_t()
    lib = _ffi.load()
    status = lib.minke_reward_boxed(data, len(data), byref(begin), byref(length))
    if status == EFORMAT:
        return None
    lib.check(status)
    return data[begin.value:begin.value + length.value].decode("utf-8", "replace")


def equal(a: str, b: str, *, percent_is_unit: bool = False, same_units: bool = False) -> bool:
    """Whether two answers are the same, as exact numbers or else as texts.

    50% is 1/2, or 50 with percent_is_unit; 5 cm is 5, unless same_units."""
    one, two, out = _bytes(a), _bytes(b), c_int32()
    lib = _ffi.load()
    lib.check(lib.minke_reward_equal(one, len(one), two, len(two),
                                     _flags(percent_is_unit, same_units), byref(out)))
    return bool(out.value)


def answer(text: str, gold: str, *, percent_is_unit: bool = False,
           same_units: bool = False) -> float:
    """1.0 when the boxed answer of a reply equals gold, else 0.0."""
    data, right, out = _bytes(text), _bytes(gold), c_double()
    lib = _ffi.load()
    lib.check(lib.minke_reward_answer(data, len(data), right, len(right),
                                      _flags(percent_is_unit, same_units), byref(out)))
    return out.value


def format(text: str, rule: str = "think") -> float:
    """1.0 when a reply begins with its one <think>...</think>, else 0.0; with rule "answer",
    <answer>...</answer> must follow and end it."""
    rules = {"think": 0, "answer": 1}
    if rule not in rules:
        raise MinkeError(EINVAL, f"rule {rule!r}: think or answer expected")
    data, out = _bytes(text), c_double()
    lib = _ffi.load()
    lib.check(lib.minke_reward_format(data, len(data), rules[rule], byref(out)))
    return out.value


def language(text: str, script: str) -> float:
    """Share of the words that are of a script ("latin", "han", ...) or of a language's ("en",
    "zh", "ja", ...).  A Han or Kana character is a word; code and mathematics are none."""
    data, out = _bytes(text), c_double()
    lib = _ffi.load()
    lib.check(lib.minke_reward_language(data, len(data), _bytes(script), byref(out)))
    return out.value


def overlong(length: int, longest: int, cache: int) -> float:
    """DAPO's penalty of length: 0.0 up to longest - cache tokens, -1.0 from longest on, linear
    between them."""
    if min(length, longest, cache) < 0 or max(length, longest, cache) >= 2**64:
        raise MinkeError(EINVAL, f"lengths are {length}, {longest} and {cache}")
    out = c_double()
    lib = _ffi.load()
    lib.check(lib.minke_reward_overlong(length, longest, cache, byref(out)))
    return out.value


def rubric(scores: Sequence[float], weights: Optional[Sequence[float]] = None) -> float:
    """Scores of several rubrics into one: sum of weight * score over sum of |weight|."""
    if weights is not None and len(weights) != len(scores):
        raise MinkeError(EINVAL, f"{len(weights)} weights for {len(scores)} scores")
    out = c_double()
    lib = _ffi.load()
    lib.check(lib.minke_reward_rubric(_doubles(scores), _doubles(weights), len(scores),
                                      byref(out)))
    return out.value


@dataclass(frozen=True)
class Judgement:
    """reward: the rubrics' scores by their weights.  scores: of each rubric in [0, 1], None where
    no judge gave one (it counts as 0)."""

    reward: float
    scores: List[Optional[float]]


def judge(question: str, answer: str, rubrics: Sequence[str],
          model: Union["Model", Complete, None] = None, *,
          weights: Optional[Sequence[float]] = None, samples: int = 1, max_score: int = 2,
          prompt: Optional[str] = None, seed: int = 0, context: int = 4096,
          **sampling: Any) -> Judgement:
    """The generative reward: a model scores the answer by each of the rubrics.

    model: a Model, None for the one that Model() opens, or a function (ask, prompt, n, seed)
    that yields n replies, ask being "judge".  samples: judgements of each rubric, averaged.
    prompt: text with {question}, {answer}, {rubric} and {max} in it.  context: size of the
    session, with a Model; sampling: as Model.chat takes it."""
    if weights is not None and len(weights) != len(rubrics):
        raise MinkeError(EINVAL, f"{len(weights)} weights for {len(rubrics)} rubrics")
    if not 1 <= samples < 2**32 or not 1 <= max_score < 2**32:
        raise MinkeError(EINVAL, f"samples is {samples}, max_score {max_score}")
    if model is None or not callable(model):
        with contextlib.ExitStack() as stack:
            own = model if model is not None else stack.enter_context(_open())
            session = stack.enter_context(own.session(max_tokens=context))
            return judge(question, answer, rubrics,
                         lambda _ask, text, n, start: completions(own, session, text, n, start,
                                                                  **sampling),
                         weights=weights, samples=samples, max_score=max_score, prompt=prompt,
                         seed=seed)
    if sampling:
        raise TypeError(f"{', '.join(sampling)}: only with a Model")
    lib, raised = _ffi.load(), Raised()
    p = _ffi.JudgeParams()
    lib.minke_judge_params_init(byref(p), ctypes.sizeof(p))
    p.n_samples, p.max_score, p.seed = samples, max_score, seed & (2**64 - 1)
    p.weights = _doubles(weights)
    texts, n = [_bytes(text) for text in rubrics], len(rubrics)
    p.rubrics, p.n_rubrics = (ctypes.c_char_p * n)(*texts), n
    p.rubric_lens = (c_size_t * n)(*map(len, texts))
    for name, text in (("question", question), ("answer", answer), ("prompt", prompt)):
        if text is not None:
            data = _bytes(text)
            setattr(p, name, data)
            setattr(p, f"{name}_len", len(data))
    p.complete = _callback(raised, model)
    reward, scores = c_double(), (c_double * n)()
    with raised:
        status = lib.minke_judge(byref(p), byref(reward), scores)
    raised.reraise()
    lib.check(status)
    return Judgement(reward.value, [s if s >= 0 else None for s in scores])


def _open() -> "Model":
    from ..model import Model
    return Model()
