"""Conversations: prompts from messages, messages from replies, and chats with tools."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_char_p, c_float, c_int32, c_size_t, c_void_p
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union,
)

from . import _ffi
from ._calls import Handle, Raised, int32_array
from .errors import EINVAL, ENOSPC, MinkeError

if TYPE_CHECKING:
    from .model import Model
    from .session import Session

Message = Mapping[str, Any]
Tool = Union[Mapping[str, Any], Callable[..., Any]]


@dataclass(frozen=True)
class Reasoning:
    """A piece of what the model thinks."""

    text: str


@dataclass(frozen=True)
class Content:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A tool call begins."""

    index: int
    name: str


@dataclass(frozen=True)
class Arguments:
    """A piece of the arguments of a call, JSON."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnded:
    """A whole call, as OpenAI writes it; its arguments are valid JSON."""

    index: int
    call: Dict[str, Any]


@dataclass(frozen=True)
class Malformed:
    """Something in the reply is not as it should be; its text was passed on."""

    text: str


@dataclass(frozen=True)
class ToolResult:
    """What a tool that was run gave back."""

    name: str
    content: str


@dataclass(frozen=True)
class Finished:
    """The reply is over: "stop", "tool_calls", "length", "thinking_length" (no room was left
    for the answer), "canceled" or "full" (no room is left in the session).  message holds all
    of it, with the token_ids that the model wrote, unless a stop text ended it."""

    reason: str
    message: Dict[str, Any]


Event = Union[Reasoning, Content, CallBegun, Arguments, CallEnded, Malformed, ToolResult, Finished]


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:   # a lone surrogate: the library refuses it by name
        return json.dumps(value).encode("ascii")


def tool_schema(tool: Tool) -> Dict[str, Any]:
    """A tool's definition; a function becomes one by its name, docstring and parameters, or
    by its attribute "schema" if it has one."""
    if isinstance(tool, Mapping):
        return dict(tool)
    schema = getattr(tool, "schema", None)
    if schema is not None:
        return dict(schema)
    import inspect
    if not hasattr(tool, "__name__"):
        raise TypeError(f"the tool {tool!r} has neither a name nor a schema")
    kinds = {int: "integer", float: "number", bool: "boolean", str: "string", list: "array",
             dict: "object", "int": "integer", "float": "number", "bool": "boolean",
             "str": "string", "list": "array", "dict": "object"}
    properties: Dict[str, Any] = {}
    required: List[str] = []
    for name, parameter in inspect.signature(tool).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        kind = kinds.get(parameter.annotation)
        properties[name] = {"type": kind} if kind else {}
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "function", "function": {
        "name": tool.__name__, "description": inspect.getdoc(tool) or "",
        "parameters": {"type": "object", "properties": properties, "required": required}}}


def _params(messages_tools: Optional[Iterable[Tool]], thinking: Optional[bool],
            template: Optional[str], flags: int, context: Optional[Iterable[Message]],
            response_format: Any, retention: int) -> Tuple[_ffi.ChatParams, List[bytes]]:
    """Parameters for C, and what they point to."""
    p, kept = _ffi.ChatParams(), []
    p.struct_size = ctypes.sizeof(p)
    p.flags, p.retention = flags, retention
    p.thinking = 0 if thinking is None else 1 if thinking else 2
    p.encoding = template.encode() if template is not None else None
    for name, value in (("tools", None if messages_tools is None else
                         [tool_schema(t) for t in messages_tools]),
                        ("response_format", response_format),
                        ("context", None if context is None else list(context))):
        if value is not None:
            data = _json(value)
            kept.append(data)
            setattr(p, name, data)
            setattr(p, name + "_len", len(data))
    return p, kept


RETENTION = {None: 0, "turn": 1, "none": 2, "all": 3}


def _retention(name: Optional[str]) -> int:
    if name not in RETENTION:
        raise ValueError(f"retention {name!r}: None, 'turn', 'none' or 'all' expected")
    return RETENTION[name]


class ChatMixin:
    """What a Model can do with conversations."""

    _lib: _ffi.Library
    _handle: int

    @property
    def template(self) -> str:
        """Name of the model's own chat encoding."""
        name = c_char_p()
        self._lib.check(self._lib.minke_chat_encoding(self._handle, byref(name)))
        return (name.value or b"").decode()

    def render(self, messages: Iterable[Message], tools: Optional[Iterable[Tool]] = None,
               thinking: Optional[bool] = None, template: Optional[str] = None,
               add_generation_prompt: bool = True, drop_thinking: bool = True,
               add_bos: bool = True, context: Optional[Iterable[Message]] = None, *,
               response_format: Any = None, retention: Optional[str] = None) -> str:
        """The prompt that messages make, as text.

        tools: definitions or functions.  thinking: None for the encoding's default.
        template: name of the encoding; None for the model's.  context: messages in front,
        which are not written.  retention: None, "turn", "none" or "all": when reasoning
        leaves the prompt.
        """
        flags = (0 if add_generation_prompt else _ffi.CHAT_NO_GENERATION) \
            | (0 if add_bos else _ffi.CHAT_NO_BOS) | (0 if drop_thinking else _ffi.CHAT_NO_DROP)
        p, _kept = _params(tools, thinking, template, flags, context, response_format,
                           _retention(retention))
        data, n = _json(list(messages)), c_size_t()
        size = 4 * len(data) + 8192
        while True:
            buffer = ctypes.create_string_buffer(size)
            status = self._lib.minke_chat_render(self._handle, data, len(data), byref(p), buffer,
                                                 size, byref(n))
            if status != ENOSPC:
                break
            size = n.value
        self._lib.check(status)
        return buffer.raw[:n.value].decode("utf-8")

    def encode_chat(self, messages: Iterable[Message], tools: Optional[Iterable[Tool]] = None,
                    thinking: Optional[bool] = None, template: Optional[str] = None,
                    add_generation_prompt: bool = True, drop_thinking: bool = True,
                    add_bos: bool = True, context: Optional[Iterable[Message]] = None, *,
                    trust_text: bool = False, response_format: Any = None,
                    retention: Optional[str] = None) -> List[int]:
        """The prompt as token ids.  trust_text: special tokens in the text of users and
        tools count; otherwise they are ordinary text."""
        flags = (0 if add_generation_prompt else _ffi.CHAT_NO_GENERATION) \
            | (0 if add_bos else _ffi.CHAT_NO_BOS) | (0 if drop_thinking else _ffi.CHAT_NO_DROP) \
            | (_ffi.CHAT_TRUST_TEXT if trust_text else 0)
        p, _kept = _params(tools, thinking, template, flags, context, response_format,
                           _retention(retention))
        data, n = _json(list(messages)), c_size_t()
        size = len(data) + 1024
        while True:
            ids = (c_int32 * size)()
            status = self._lib.minke_chat_encode(self._handle, data, len(data), byref(p), ids,
                                                 size, byref(n))
            if status != ENOSPC:
                break
            size = n.value
        self._lib.check(status)
        return ids[:n.value]

    def parse_reply(self, text: str, template: Optional[str] = None,
                    thinking: Optional[bool] = None, strict: bool = False) -> Dict[str, Any]:
        """The message that a reply is.  strict: DeepSeek's own parser, whose errors are
        raised; otherwise no text is lost, and "malformed" lists what was wrong."""
        with _Reply(self._lib, self._handle, template, thinking, strict) as reply:
            reply.text(text.encode("utf-8", "replace"))
            reply.finish(None)
            return reply.message()

    def sampling(self, template: Optional[str] = None) -> Dict[str, float]:
        """temperature and top_p as the model's makers advise them."""
        temperature, top_p = c_float(), c_float()
        self._lib.check(self._lib.minke_chat_sampling(
            self._handle, template.encode() if template is not None else None,
            byref(temperature), byref(top_p)))
        return {"temperature": temperature.value, "top_p": top_p.value}

    def chat(self, messages: Iterable[Message], tools: Optional[Iterable[Tool]] = None,
             stream: bool = True, *, thinking: Optional[bool] = None,
             template: Optional[str] = None, max_tokens: int = 1024, max_rounds: int = 16,
             run_tools: bool = True, session: Optional["Session"] = None,
             retention: Optional[str] = None, stop: Union[str, Iterable[str]] = (),
             max_thinking: int = 0, min_thinking: int = 0, closing: str = "",
             **sampling: Any) -> Any:
        """Answer the conversation: an iterator of typed events, or with stream False the
        last message.

        run_tools: functions among tools are called when the model asks for them, and the
        model goes on with their results, at most max_rounds times; the events then end with
        the last reply's.  stop: texts before which the answer ends.  max_thinking: tokens of
        reasoning, behind which closing is written and the answer begins; min_thinking: tokens
        before which it does not.  retention: as render takes it.  sampling: as Model.sampler
        takes it; what is missing is as the model's makers advise.

        With a session, what it holds of the conversation is not evaluated again.  An iterator
        that is closed early leaves it usable.
        """
        stops = [stop] if isinstance(stop, str) else list(stop)
        limits = _Limits(thinking, max_tokens, max_thinking, min_thinking, closing, stops)
        events = _chat(self, list(messages), None if tools is None else list(tools), template,
                       limits, max_rounds if run_tools else 0, session, retention, sampling)
        if stream:
            return events
        last: Optional[Finished] = None
        for event in events:
            if isinstance(event, Finished):
                last = event
        return last.message if last is not None else None


def _event(kind: int, call: int, text: str) -> Optional[Event]:
    """The event that C told; None for the end, which comes with its message."""
    if kind == 1:
        return Reasoning(text)
    if kind == 2:
        return Content(text)
    if kind == 3:
        return CallBegun(call, text)
    if kind == 4:
        return Arguments(call, text)
    if kind == 5:
        return CallEnded(call, json.loads(text))
    return Malformed(text) if kind == 6 else None


def _message(lib: _ffi.Library, read: Callable[..., int],
             handle: Optional[int]) -> Dict[str, Any]:
    """What minke_reply_message or minke_generator_message writes."""
    n, size = c_size_t(), 1 << 14
    while True:
        buffer = ctypes.create_string_buffer(size)
        status = read(handle, buffer, size, byref(n))
        if status != ENOSPC:
            break
        size = n.value
    lib.check(status)
    message: Dict[str, Any] = json.loads(buffer.raw[:n.value])
    return message


class _Reply:
    """One reply being read; events collect in a list."""

    def __init__(self, lib: _ffi.Library, handle: int, template: Optional[str],
                 thinking: Optional[bool], strict: bool = False) -> None:
        self.events: List[Event] = []
        self._lib, self._raised = lib, Raised()
        p = _ffi.ReplyParams()
        p.struct_size = ctypes.sizeof(p)
        p.flags = _ffi.REPLY_STRICT if strict else 0
        p.thinking = 0 if thinking is None else 1 if thinking else 2
        p.encoding = template.encode() if template is not None else None
        p.on_event = _ffi.EVENT_FN(lambda _user, kind, call, text, n: self._raised.run(
            lambda: self._take(kind, call, ctypes.string_at(text, n).decode("utf-8"))))
        self._params, out = p, c_void_p()
        lib.check(lib.minke_reply_open(byref(out), handle, byref(p)))
        self._ptr = out.value

    def __enter__(self) -> "_Reply":
        return self

    def __exit__(self, *_error: object) -> None:
        self._lib.minke_reply_free(self._ptr)
        self._ptr = None

    def _take(self, kind: int, call: int, text: str) -> None:
        event = _event(kind, call, text)
        if event is not None:
            self.events.append(event)

    def _call(self, function: Callable[..., int], *arguments: Any) -> None:
        with self._raised:
            status = function(self._ptr, *arguments)
        self._raised.reraise()
        self._lib.check(status)

    def text(self, data: bytes) -> None:
        self._call(self._lib.minke_reply_text, data, len(data))

    def token(self, token: int) -> None:
        self._call(self._lib.minke_reply_token, token)

    def finish(self, reason: Optional[str]) -> None:
        self._call(self._lib.minke_reply_finish, reason.encode() if reason is not None else None)

    def message(self) -> Dict[str, Any]:
        return _message(self._lib, self._lib.minke_reply_message, self._ptr)


def _run_tool(tools: Iterable[Tool], call: Mapping[str, Any]) -> str:
    """A call's result as text, a lone surrogate in it as "?"; an exception of the tool is told to
    the model."""
    return _call_tool(tools, call).encode("utf-8", "replace").decode("utf-8")


def _call_tool(tools: Iterable[Tool], call: Mapping[str, Any]) -> str:
    name = call["function"]["name"]
    try:
        for tool in tools:
            if callable(tool) and tool_schema(tool)["function"]["name"] == name:
                arguments = json.loads(call["function"]["arguments"] or "{}")
                result = tool(**arguments)
                return result if isinstance(result, str) else json.dumps(
                    result, ensure_ascii=False, default=str)
    except Exception as error:
        return f"error: {type(error).__name__}: {error}"
    return f"error: no tool named {name}"


@dataclass(frozen=True)
class _Limits:
    """What ends a reply or its reasoning."""

    thinking: Optional[bool]
    max_tokens: int
    max_thinking: int
    min_thinking: int
    closing: str
    stops: List[str]


_REASONS = {1: "stop", 2: "length", 3: "thinking_length", 4: "tool_calls", 5: "canceled",
            6: "full"}

# Microseconds of work between two looks at what was written, and for Ctrl-C.
_STEP = 20_000


class _Generator(Handle):
    """A reply being made from a session's logits; events collect in a list."""

    _free_name = "minke_generator_free"

    def __init__(self, m: Any, session: "Session", sampler: Any, template: str,
                 limits: _Limits) -> None:
        self.events: List[Event] = []
        self._lib, self._raised = m._lib, Raised()
        p = _ffi.GenerateParams()
        p.struct_size = ctypes.sizeof(p)
        p.thinking = 0 if limits.thinking is None else 1 if limits.thinking else 2
        p.max_tokens, p.max_thinking = limits.max_tokens, limits.max_thinking
        p.min_thinking, p.encoding = limits.min_thinking, template.encode()
        closing, stops = limits.closing.encode("utf-8"), [s.encode("utf-8") for s in limits.stops]
        p.closing, p.closing_len, p.n_stops = closing, len(closing), len(stops)
        p.stops = (c_char_p * len(stops))(*stops)
        p.stop_lens = (c_size_t * len(stops))(*map(len, stops))
        p.on_event = _ffi.EVENT_FN(lambda _user, kind, call, text, n: self._raised.run(
            lambda: self._take(kind, call, ctypes.string_at(text, n).decode("utf-8"))))
        self._params, self._session, self._sampler, out = p, session, sampler, c_void_p()
        self._lib.check(self._lib.minke_generator_open(
            byref(out), session._handle, sampler._handle, int32_array([]), 0, byref(p)))
        self._ptr = out.value
        session._replies.add(self)

    def _take(self, kind: int, call: int, text: str) -> None:
        event = _event(kind, call, text)
        if event is not None:
            self.events.append(event)

    def step(self) -> int:
        """Work a while; MINKE_FINISH_*, or 0."""
        if self._sampler._ptr is None:
            raise MinkeError(EINVAL, "the sampler of this reply was closed")
        reason = c_int32()
        with self._session._raised, self._raised:
            status = self._lib.minke_generator_step(self._handle, _STEP, byref(reason), None)
        self._raised.reraise()
        self._session._raised.reraise()
        self._lib.check(status)
        return reason.value

    def message(self) -> Dict[str, Any]:
        return _message(self._lib, self._lib.minke_generator_message, self._handle)


def _answer(m: Any, session: "Session", sampler: Any, template: str, limits: _Limits,
            prefix: str) -> Iterator[Event]:
    """One reply; its calls get ids that begin with prefix."""
    with _Generator(m, session, sampler, template, limits) as g:
        reason = 0
        while reason == 0:
            reason = g.step()
            events, g.events = g.events, []
            yield from events
        message = {"reasoning_content": "", "tool_calls": [], **g.message()}
        for i, call in enumerate(message["tool_calls"]):
            call["id"] = f"{prefix}_{i}"
        yield Finished(_REASONS[reason], message)


def _chat(m: Any, messages: List[Message], tools: Optional[List[Tool]], template: Optional[str],
          limits: _Limits, max_rounds: int, session: Optional["Session"],
          retention: Optional[str], sampling: Dict[str, Any]) -> Iterator[Event]:
    name = template if template is not None else m.template
    settings = {**m.sampling(name), **sampling}
    has_functions = any(callable(tool) for tool in tools or ())
    own = None
    try:
        with m.sampler(**settings) as sampler:
            for rounds_left in range(max_rounds, -1, -1):
                ids = m.encode_chat(messages, tools, limits.thinking, name, retention=retention)
                if session is None:
                    room = limits.max_tokens * (4 if has_functions else 1)
                    session = own = m.session(max_tokens=m._room(
                        len(ids) + room + (8192 if has_functions else 0)))
                session.sync(ids)
                finished = None
                for event in _answer(m, session, sampler, name, limits, f"call_{len(messages)}"):
                    finished = event if isinstance(event, Finished) else None
                    yield event
                if finished is None or finished.reason != "tool_calls" or not has_functions \
                        or rounds_left == 0:
                    return
                messages = messages + [finished.message]
                for call in finished.message["tool_calls"]:
                    content = _run_tool(tools or (), call)
                    messages.append({"role": "tool", "content": content,
                                     "tool_call_id": call["id"]})
                    yield ToolResult(call["function"]["name"], content)
    finally:
        if own is not None:
            own.close()
