"""A loaded checkpoint and its tokenizer."""

from __future__ import annotations

import ctypes
import os
import pathlib
import sys
from ctypes import byref, c_char_p, c_int32, c_int64, c_size_t, c_void_p
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

from . import _ffi
from ._calls import Handle, Raised, fitting, int32_array, path_bytes
from .chat import ChatMixin
from .errors import EFULL, EINVAL, ENOSPC, MinkeError
from .sampler import Sampler, best
from .session import Session, session_memory, session_params


def _default_model(library: str) -> str:
    """MINKE_MODEL, or calf: beside this package, in the source tree that holds it, or
    installed with the C library."""
    here = pathlib.Path(__file__).resolve().parent
    beside = pathlib.Path(library).resolve().parents
    places = [here / "calf", here.parents[2] / "examples" / "calf",
              *(p / "share" / "minke" / "calf" for p in (*beside, pathlib.Path(sys.prefix)))]
    named = os.environ.get("MINKE_MODEL")
    if named:
        return named
    for place in places if named is None else []:
        if (place / "config.json").is_file():
            return str(place)
    raise MinkeError(EINVAL, "no model given, and calf is not there")


class Model(ChatMixin, Handle):
    """A model directory: config.json, *.safetensors and the tokenizer's files.

    path: the directory; None for the one that the environment variable MINKE_MODEL names, or
    else for calf, the small model that comes with minke.
    threads: 0 for what the machine allows.
    tokenizer_only: read the tokenizer alone; sessions cannot be opened.
    mmap: map the weights instead of reading them; the files must not change meanwhile.
    verify: refuse weights that hold NaN or infinity.
    strict: refuse tensors that the model does not use.
    deterministic: the same bits also for any chunking of the prompt.
    fast: activations may be rounded to 16 bits where that is faster (see the header).
    log(level, text): lines that the library reports; level 0 error, 1 warning, 2 information.
    progress(done, total): bytes while loading; an exception in it stops the loading.
    library: path of the C library (see the package's description).

    Immutable once open: any number of threads may use it at once.
    """

    _free_name = "minke_context_free"

    def __init__(self, path: Optional[_ffi.PathLike] = None, threads: int = 0,
                 tokenizer_only: bool = False, *, mmap: bool = False, verify: bool = False,
                 strict: bool = False, deterministic: bool = False, fast: bool = False,
                 log: Optional[Callable[[int, str], object]] = None,
                 progress: Optional[Callable[[int, int], object]] = None,
                 library: Optional[_ffi.PathLike] = None) -> None:
        self._lib = lib = _ffi.load(library)
        raised = Raised()
        params = _ffi.ContextParams()
        lib.minke_context_params_init(byref(params), ctypes.sizeof(params))
        params.n_threads = threads
        params.flags = sum(flag for flag, wanted in (
            (_ffi.CONTEXT_MMAP, mmap), (_ffi.CONTEXT_VERIFY, verify),
            (_ffi.CONTEXT_STRICT, strict), (_ffi.CONTEXT_TOKENIZER_ONLY, tokenizer_only),
            (_ffi.CONTEXT_DETERMINISTIC, deterministic), (_ffi.CONTEXT_FAST, fast)) if wanted)
        params.progress = _ffi.PROGRESS_FN(lambda _user, done, total: raised.run(
            lambda: progress(done, total) if progress is not None else None))
        if log is not None:
            def on_log(_user: Any, level: int, text: bytes) -> None:
                log(level, text.decode("utf-8", "replace"))
            # The library may log for as long as the model lives.
            self._on_log = _ffi.LOG_FN(on_log)
            params.log = self._on_log
        self._params = params
        out = c_void_p()
        #: Where the model was opened from.
        self.path = os.fsdecode(_default_model(lib.path) if path is None else path)
        with raised:
            status = lib.minke_context_open(byref(out), path_bytes(self.path), byref(params))
        self._ptr = out.value if status >= 0 else None
        raised.reraise()
        lib.check(status)

    # ---- Facts

    @property
    def info(self) -> Dict[str, Any]:
        """Facts about the model: counts and sizes by the names of the header's
        MINKE_INFO_* in lower case ("n_vocab", "n_layers", "token_bos", "weight_bytes"...),
        texts ("model_type", "tokenizer", "cpu", "weight_type", "tokenizer_error"), and
        "surplus", the names of tensors that no layer uses."""
        lib, handle = self._lib, self._handle
        facts: Dict[str, Any] = {}
        for name, key in _ffi.INFO_KEYS.items():
            number = c_int64()
            if lib.minke_context_info(handle, key, byref(number)) >= 0:
                facts[name] = number.value
        for name, key in _ffi.TEXT_KEYS.items():
            text = c_char_p()
            if lib.minke_context_text(handle, key, byref(text)) >= 0:
                facts[name] = (text.value or b"").decode("utf-8", "replace")
        facts["surplus"] = [
            (lib.minke_context_surplus(handle, i) or b"").decode("utf-8", "replace")
            for i in range(facts.get("n_surplus", 0))]
        return facts

    def _number(self, name: str) -> int:
        number = c_int64()
        self._lib.check(self._lib.minke_context_info(self._handle, _ffi.INFO_KEYS[name],
                                                     byref(number)))
        return number.value

    # ---- Text

    def tokenize(self, text: Union[str, bytes], add_bos: bool = False,
                 parse_special: bool = True) -> List[int]:
        """Token ids of text.

        add_bos: begin with the beginning-of-sentence token.
        parse_special: read "<｜User｜>" and the like as the tokens they name; pass False
        for text from strangers.  Bytes that are not UTF-8 are read as U+FFFD.
        """
        if not isinstance(text, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"text must be str or bytes, not {type(text).__name__}")
        data = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
        flags = (_ffi.TOKENIZE_BOS if add_bos else 0) | \
                (_ffi.TOKENIZE_SPECIAL if parse_special else 0)
        lib, handle, n = self._lib, self._handle, c_size_t()
        capacity = len(data) + 1   # enough, unless bytes become U+FFFD
        while True:
            ids = (c_int32 * capacity)()
            status = lib.minke_tokenize(handle, data, len(data), flags, ids, capacity, byref(n))
            if status != ENOSPC or n.value <= capacity:
                break
            capacity = n.value
        lib.check(status)
        return ids[:n.value]

    def detokenize(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD.

        skip_special: leave out tokens marked special, such as the end of sentence.
        """
        return self._decode(ids, _ffi.DETOKENIZE_SKIP_SPECIAL if skip_special else 0)[0]

    def _decode(self, ids: Iterable[int], flags: int) -> Tuple[str, int]:
        """Text, and of how many leading tokens it is the text."""
        tokens, n, used = int32_array(ids), c_size_t(), c_size_t()
        lib, handle, size = self._lib, self._handle, 16 * len(tokens) + 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            status = lib.minke_detokenize(handle, tokens, len(tokens), flags, buffer, size,
                                          byref(n), byref(used))
            if status >= 0 or n.value <= size:
                break
            size = n.value
        lib.check(status)
        return buffer.raw[:n.value].decode("utf-8", "replace"), used.value

    def token_bytes(self, token: int) -> bytes:
        """Bytes of one token, which may be a part of a character."""
        text, n = c_char_p(), c_size_t()
        lib = self._lib
        pointer = ctypes.cast(byref(text), ctypes.POINTER(c_void_p))
        lib.check(lib.minke_token_bytes(self._handle, fitting(c_int32, "token", token),
                                        byref(text), byref(n)))
        return ctypes.string_at(pointer[0], n.value) if n.value else b""

    def token_find(self, text: str) -> Optional[int]:
        """Id of the token with exactly this text, special or not; None if there is none."""
        data, token = text.encode("utf-8", "replace"), c_int32()
        self._lib.check(self._lib.minke_token_find(self._handle, data, len(data),
                                                   byref(token)))
        return token.value if token.value >= 0 else None

    # ---- Sessions and samplers

    def session(self, max_tokens: int = 4096, cache: str = "f32",
                observe: Optional[Callable[..., object]] = None, **options: Any) -> Session:
        """Open a session.

        max_tokens: its capacity; 0 for the longest context of the model.
        cache: how latents and rope keys are kept: "f32", "bf16", "fp8", or "native", what
            the model was trained for.
        observe(kind, layer, token, values): called for every layer and token evaluated.
            kind "experts": values is a list of (expert, weight), best first;
            kind "selected": a list of (position, index score), positions ascending;
            kind "residual": the residual stream after the layer, a row of floats.
        Options: observe_kinds, the kinds wanted (all three); prefill_chunk, tokens per
        step; mtp, keep the caches of the prediction layer; form, "auto", "naive" or
        "absorbed" attention; attention, which past tokens are seen: "default" (the model's
        own), "dense", "window" (the last window=N tokens) or "dsa" (those that the indexer
        selects); index, how the indexer's keys are kept: "f32", "int8", "rescored" or
        "native" (the default with a native cache); progress(done, total), in tokens.
        """
        return Session(self._lib, self._handle, max_tokens=max_tokens, cache=cache,
                       observe=observe, **options)

    def session_memory(self, max_tokens: int = 4096, cache: str = "f32", *,
                       prefill_chunk: int = 0, mtp: bool = False, form: str = "auto",
                       attention: str = "default", window: int = 0,
                       index: Optional[str] = None) -> int:
        """Bytes that such a session would allocate, without allocating them."""
        return session_memory(self._lib, self._handle,
                              session_params(max_tokens, cache, prefill_chunk, mtp, form, attention,
                                             window, index))

    def sampler(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0,
                min_p: float = 0.0, seed: int = 0, **options: Any) -> Sampler:
        """A sampler; temperature 0 is greedy.

        Options: repetition_penalty (1 = off), presence_penalty, frequency_penalty,
        penalty_window (tokens that they look at), logit_bias ({token: added value}).
        """
        return Sampler(self._lib, temperature=temperature, top_k=top_k, top_p=top_p,
                       min_p=min_p, seed=seed, **options)

    def logprobs(self, logits: Sequence[float], n: int) -> List[Tuple[int, float]]:
        """The n most likely tokens of a row of logits: (token, log-probability)."""
        return best(self._lib, logits, n)

    # ---- Generating

    def generate(self, prompt: Union[str, bytes, Iterable[int]], max_tokens: int = 64,
                 sampler: Optional[Sampler] = None, *, session: Optional[Session] = None,
                 stop_at_eos: bool = True) -> Iterator[str]:
        """Yield the continuation of prompt, piece by piece, never half a character.

        prompt: token ids, taken as they are; or text, which gets the beginning-of-sentence
        token in front unless it begins with it.
        sampler: greedy if None.
        session: one to go on with (what it holds is reused where prompt begins the same
        way); if None, one is opened for this call.
        Ends at the end-of-sentence token, after max_tokens, or when the session is full.
        """
        pending: List[int] = []
        for token in self.generate_ids(prompt, max_tokens, sampler, session=session,
                                       stop_at_eos=stop_at_eos):
            pending.append(token)
            text, used = self._decode(pending, _ffi.DETOKENIZE_PARTIAL)
            del pending[:used]
            if text:
                yield text
        if pending:
            yield self.detokenize(pending)

    def generate_ids(self, prompt: Union[str, bytes, Iterable[int]], max_tokens: int = 64,
                     sampler: Optional[Sampler] = None, *,
                     session: Optional[Session] = None,
                     stop_at_eos: bool = True) -> Iterator[int]:
        """As generate, but yield token ids; needs no tokenizer when prompt is ids."""
        ids = self._prompt_ids(prompt)
        eos = self._number("token_eos") if stop_at_eos else -1
        own_sampler = self.sampler() if sampler is None else None
        own_session = self.session(max_tokens=self._room(len(ids) + max(max_tokens, 1))) \
            if session is None else None
        choose, s = sampler or own_sampler, session or own_session
        assert choose is not None and s is not None
        try:
            s.sync(ids)
            yield from self._continue(s, choose, max_tokens, eos)
        finally:
            for own in (own_sampler, own_session):
                if own is not None:
                    own.close()

    def _prompt_ids(self, prompt: Union[str, bytes, Iterable[int]]) -> List[int]:
        if not isinstance(prompt, (str, bytes, bytearray, memoryview)):
            return list(prompt)
        ids = self.tokenize(prompt)
        bos = self._number("token_bos")
        return ids if bos < 0 or ids[:1] == [bos] else [bos] + ids

    def _room(self, wanted: int) -> int:
        longest = self._number("max_tokens")
        return min(wanted, longest) if longest > 0 else wanted

    @staticmethod
    def _continue(s: Session, choose: Sampler, max_tokens: int, eos: int) -> Iterator[int]:
        for i in range(max_tokens):
            token = choose.sample(s)
            choose.accept(token)
            if token == eos:
                return
            yield token
            if i + 1 < max_tokens:
                try:
                    s.eval([token], logits="none")
                except MinkeError as error:
                    if error.code == EFULL:
                        return
                    raise
