"""Searching for solutions that judge themselves, and what such solutions earn."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
from ctypes import byref, c_char_p, c_double, c_size_t, c_void_p
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union,
)

from .. import _ffi
from .._calls import Raised, path_bytes
from ..chat import Finished
from ..errors import EFORMAT, EFULL, ENOSPC, MinkeError

if TYPE_CHECKING:
    from ..model import Model
    from ..session import Session

ASKS = {1: "proof", 2: "verify", 3: "meta", 4: "refine", 5: "judge"}
FINISHES = {"stop": 1, "length": 2, "thinking_length": 3, "tool_calls": 4, "canceled": 5,
            "full": 6}
MODES = {"default": 0, "released": 1, "strict": 2}
DRIVERS = {"sequential": 0, "pool": 1, "vote": 2, "best": 3, "longest": 4}
PRESETS = {"paper": 0, "repository": 1}

# What a host's function yields for a completion: its text, or (text, finish reason), or (text,
# finish reason, length of the reasoning).
Completion = Union[str, Tuple[str, str], Tuple[str, str, int]]
Complete = Callable[[str, str, int, int], Iterable[Completion]]


@dataclass(frozen=True)
class Proof:
    """One solution that a search has found."""

    id: int
    solution: str
    evaluation: str                      # its own; "" = none
    self_score: Optional[float] = None
    round: int = 1
    chain: int = 0
    parent: Optional[int] = None         # id of what it was made from
    mean: Optional[float] = None         # of ratings
    ratings: List[float] = field(default_factory=list)
    qualities: List[Optional[float]] = field(default_factory=list)
    votes: int = 0
    thinking: int = 0


@dataclass(frozen=True)
class Search:
    """What a search found.  solution: the one chosen, None when there is none; score: mean of its
    verifications, share of the votes or self-score; solved: whether it passed; completions asked
    for, and of these the unfinished and the unreadable ones."""

    driver: str
    solution: Optional[str]
    answer: Optional[str]
    score: Optional[float]
    solved: bool
    best: Optional[int]                  # id
    rounds: int
    completions: int
    unfinished: int
    unreadable: int
    proofs: List[Proof]


def completions(model: "Model", session: "Session", prompt: str, n: int, seed: int,
                thinking: Optional[bool] = None, max_tokens: int = 2048,
                **sampling: Any) -> Iterator[Completion]:
    """n replies of a model to a prompt, each with its own seed; a prompt that does not fit gives
    none."""
    for i in range(n):
        options = {**sampling, "seed": (seed + i) % 2**64}
        try:
            for event in model.chat([{"role": "user", "content": prompt}], thinking=thinking,
                                    max_tokens=max_tokens, session=session, **options):
                if isinstance(event, Finished):
                    message = event.message
                    yield (message.get("content") or "", event.reason,
                           len(message.get("reasoning_content") or ""))
        except MinkeError as error:
            if error.code != EFULL:
                raise
            yield "", "full"


def _callback(raised: Raised, complete: Complete) -> Any:
    """The C callback around a Python function; its exceptions stop the driver and are kept."""
    def run(_user: Any, ask: int, seed: int, prompt: int, prompt_len: int, n: int, take: Any,
            sink: Any) -> int:
        def go() -> None:
            text = ctypes.string_at(prompt, prompt_len).decode("utf-8")
            for item in complete(ASKS.get(ask, str(ask)), text, n, seed):
                reply, reason, thinking = ((item, "stop", 0) if isinstance(item, str)
                                           else (*item, 0)[:3])
                data = reply.encode("utf-8", "replace")
                if take(sink, ctypes.cast(c_char_p(data), c_void_p), len(data),
                        FINISHES.get(reason, FINISHES["canceled"]), thinking) != 0:
                    break
        return raised.run(go)
    return _ffi.COMPLETE_FN(run)


def _result(lib: _ffi.Library, handle: Any) -> Search:
    n, size = c_size_t(), 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(size)
        status = lib.minke_search_result(handle, buffer, size, byref(n))
        if status != ENOSPC:
            break
        size = n.value
    lib.check(status)
    found: Dict[str, Any] = json.loads(buffer.raw[:n.value])
    proofs = [Proof(**proof) for proof in found["proofs"]]
    best = found["best"]
    return Search(found["driver"], proofs[best - 1].solution if best else None, found["answer"],
                  found["score"], found["solved"], best, found["rounds"], found["completions"],
                  found["unfinished"], found["unreadable"], proofs)


def _prompts(prompts: Union[str, "os.PathLike[str]", None], folder: Optional[str]) -> Optional[str]:
    """The text of a file of prompts; where none is given, the model's own, if it has one."""
    if isinstance(prompts, str):
        return prompts
    if prompts is None:
        beside = pathlib.Path(folder, "prompts.txt") if folder is not None else None
        if beside is None or not beside.is_file():
            return None
        prompts = beside
    return pathlib.Path(prompts).read_text("utf-8")


def _named(kind: str, names: Dict[str, int], name: str) -> int:
    if name not in names:
        raise ValueError(f"{kind} {name!r}: one of {', '.join(names)} expected")
    return names[name]


def prove(problem: str, model: Union["Model", Complete, None] = None, *,
          driver: str = "sequential", preset: str = "paper",
          prompts: Union[str, "os.PathLike[str]", None] = None,
          journal: Optional[_ffi.PathLike] = None, seed: int = 0, strict: bool = False,
          n_first: int = 0, n_verifications: int = 0, n_meta: int = 0, n_best: int = 0,
          n_analyses: int = 0, n_samples: int = 0, max_rounds: int = 0, max_bytes: int = 0,
          log: Optional[Callable[[int, str], object]] = None, context: int = 4096,
          library: Optional[_ffi.PathLike] = None, **options: Any) -> Search:
    """Search for a solution of problem.

    model: a Model; None for the one that Model() opens; or a function complete(ask, prompt, n,
        seed) that yields n texts, or tuples of text, finish reason ("stop", "length",
        "canceled"...) and length of the reasoning.  ask is "proof", "verify", "meta" or
        "refine"; completion i is to be drawn with seed + i.
    driver: "sequential" (refined until it gives itself 1), "pool" (many verifications, the best
        refined in rounds), or of n_first samples "vote", "best" (self-score) or "longest"
        (reasoning).
    preset: "paper" or "repository": how the pool works and what 0 in the counts stands for.
    prompts: text, or the path of a file, in the form that minke.h describes at
        minke_proof_prompt; None for prompts.txt beside the model, or else minke's own.
    journal: a file to which every completion is written, and from which a search that was killed
        goes on.
    The counts are those of minke_search_params.  context: size of the session; options, with a
    Model: thinking, max_tokens, and sampling as Model.sampler takes it.
    """
    params = _ffi.SearchParams()
    lib: _ffi.Library = getattr(model, "_lib", None) or _ffi.load(library)
    lib.minke_search_params_init(byref(params), ctypes.sizeof(params))
    params.driver = _named("driver", DRIVERS, driver)
    params.preset = _named("preset", PRESETS, preset)
    params.mode, params.seed = MODES["strict" if strict else "default"], seed % 2**64
    for name, count in (("n_first", n_first), ("n_verifications", n_verifications),
                        ("n_meta", n_meta), ("n_best", n_best), ("n_analyses", n_analyses),
                        ("n_samples", n_samples), ("max_rounds", max_rounds)):
        if not 0 <= count < 2**32:
            raise ValueError(f"{name} {count}: a number from 0 expected")
        setattr(params, name, count)
    params.max_bytes = max_bytes
    if journal is not None:
        params.journal = path_bytes(journal)
    raised = Raised()
    if log is not None:
        params.log = _ffi.LOG_FN(lambda _user, level, text: log(level, text.decode("utf-8")))
    if model is None:
        from ..model import Model as Open
        with Open(library=library) as own:
            return _search(lib, problem, params, own, prompts, context, options, raised)
    return _search(lib, problem, params, model, prompts, context, options, raised)


def _search(lib: _ffi.Library, problem: str, params: _ffi.SearchParams,
            model: Union["Model", Complete], prompts: Union[str, "os.PathLike[str]", None],
            context: int, options: Dict[str, Any], raised: Raised) -> Search:
    own: Optional["Session"] = None
    folder: Optional[str] = None
    if hasattr(model, "_lib"):
        loaded: Any = model
        folder = loaded.path
        own = loaded.session(max_tokens=context)

        def complete(_ask: str, prompt: str, n: int, seed: int) -> Iterable[Completion]:
            return completions(loaded, loaded_session, prompt, n, seed, **options)
        loaded_session: Any = own
    else:
        if options:
            raise TypeError(f"unexpected options: {', '.join(options)}")
        complete = model        # type: ignore[assignment]
    handle = c_void_p()
    try:
        text = _prompts(prompts, folder)
        if text is not None:
            data = text.encode("utf-8")
            params.prompts, params.prompts_len = data, len(data)
        asked = problem.encode("utf-8")
        callback = _callback(raised, complete)
        lib.check(lib.minke_search_open(byref(handle), asked, len(asked), byref(params)))
        with raised:
            status = lib.minke_search_run(handle, callback, None)
        raised.reraise()
        lib.check(status)
        return _result(lib, handle)
    finally:
        lib.minke_search_free(handle)
        if own is not None:
            own.close()


def read_proof(text: str, mode: str = "default",
               library: Optional[_ffi.PathLike] = None) -> Optional[Tuple[str, str, Optional[float]]]:
    """Solution, self-evaluation and score of what a model wrote; None when a section is missing,
    and None for the score when there is none.  mode: "default", "released" or "strict"."""
    lib, data, kind = _ffi.load(library), text.encode("utf-8", "replace"), _named("mode", MODES, mode)
    n, m, size = c_size_t(), c_size_t(), 2 * len(data) + 64
    buffer = ctypes.create_string_buffer(size)
    status = lib.minke_proof_split(data, len(data), kind, buffer, size, byref(n), byref(m))
    if status == EFORMAT:
        return None
    lib.check(status)
    evaluation = buffer.raw[n.value:n.value + m.value]
    return (buffer.raw[:n.value].decode("utf-8"), evaluation.decode("utf-8"),
            read_score(evaluation.decode("utf-8"), mode, library))


def read_score(evaluation: str, mode: str = "default",
               library: Optional[_ffi.PathLike] = None) -> Optional[float]:
    """The score of an evaluation, None when it has none."""
    lib, data, score = _ffi.load(library), evaluation.encode("utf-8", "replace"), c_double()
    status = lib.minke_proof_score(data, len(data), _named("mode", MODES, mode), byref(score))
    if status == EFORMAT:
        return None
    lib.check(status)
    return score.value


def verifier_reward(evaluation: str, score: float, meta: float = 1.0,
                    library: Optional[_ffi.PathLike] = None) -> float:
    """What an evaluation earns whose solution deserves score; meta rates the evaluation."""
    lib, data, reward = _ffi.load(library), evaluation.encode("utf-8", "replace"), c_double()
    lib.check(lib.minke_proof_verifier_reward(data, len(data), score, meta, byref(reward)))
    return reward.value


def generator_reward(text: str, score: float, meta: float = 1.0,
                     library: Optional[_ffi.PathLike] = None) -> float:
    """What a solution with its self-evaluation earns: 0.76 for the one, 0.24 for the other."""
    lib, data, reward = _ffi.load(library), text.encode("utf-8", "replace"), c_double()
    lib.check(lib.minke_proof_generator_reward(data, len(data), score, meta, byref(reward)))
    return reward.value
