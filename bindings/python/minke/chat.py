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
from ._calls import Raised
from .errors import EFULL, ENOSPC, MinkeError

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
    """The reply is over: "stop", "tool_calls" or "length"; message holds all of it, with the
    token_ids that the model wrote."""

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
    kinds = {int: "integer", float: "number", bool: "boolean", str: "string", list: "array",
             dict: "object", "int": "integer", "float": "number", "bool": "boolean",
             "str": "string", "list": "array", "dict": "object"}
    properties: Dict[str, Any] = {}
    required: List[str] = []
    for name, parameter in inspect.signature(tool).parameters.items():
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
                           RETENTION[retention])
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
                           RETENTION[retention])
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
             **sampling: Any) -> Any:
        """Answer the conversation: an iterator of typed events, or with stream False the
        last message.

        run_tools: functions among tools are called when the model asks for them, and the
        model goes on with their results, at most max_rounds times.  sampling: as
        Model.sampler takes it; what is missing is as the model's makers advise.
        """
        events = _chat(self, list(messages), None if tools is None else list(tools), thinking,
                       template, max_tokens, max_rounds if run_tools else 0, session, sampling)
        if stream:
            return events
        last: Optional[Finished] = None
        for event in events:
            if isinstance(event, Finished):
                last = event
        return last.message if last is not None else None


class _Reply:
    """One reply being read; events collect in a list."""

    def __init__(self, lib: _ffi.Library, handle: int, template: Optional[str],
                 thinking: Optional[bool], strict: bool = False) -> None:
        self._lib, self.events, self._raised = lib, [], Raised()
        p = _ffi.ReplyParams()
        p.struct_size = ctypes.sizeof(p)
        p.flags = _ffi.REPLY_STRICT if strict else 0
        p.thinking = 0 if thinking is None else 1 if thinking else 2
        p.encoding = template.encode() if template is not None else None
        p.on_event = _ffi.REPLY_FN(lambda _user, kind, call, text, n: self._raised.run(
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
        made: Dict[int, Callable[[], Event]] = {
            1: lambda: Reasoning(text), 2: lambda: Content(text),
            3: lambda: CallBegun(call, text), 4: lambda: Arguments(call, text),
            5: lambda: CallEnded(call, json.loads(text)), 6: lambda: Malformed(text)}
        if kind in made:
            self.events.append(made[kind]())

    def _checked(self, status: int) -> None:
        self._raised.reraise()
        self._lib.check(status)

    def text(self, data: bytes) -> None:
        self._checked(self._lib.minke_reply_text(self._ptr, data, len(data)))

    def token(self, token: int) -> None:
        self._checked(self._lib.minke_reply_token(self._ptr, token))

    def finish(self, reason: Optional[str]) -> None:
        self._checked(self._lib.minke_reply_finish(
            self._ptr, reason.encode() if reason is not None else None))

    def message(self) -> Dict[str, Any]:
        n, size = c_size_t(), 1 << 14
        while True:
            buffer = ctypes.create_string_buffer(size)
            status = self._lib.minke_reply_message(self._ptr, buffer, size, byref(n))
            if status != ENOSPC:
                break
            size = n.value
        self._lib.check(status)
        message: Dict[str, Any] = json.loads(buffer.raw[:n.value])
        return message

    def drain(self) -> Iterator[Event]:
        events, self.events = self.events, []
        yield from events


def _run_tool(tools: Iterable[Tool], call: Mapping[str, Any]) -> str:
    """A call's result as text; an exception of the tool is told to the model."""
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


def _chat(m: Any, messages: List[Message], tools: Optional[List[Tool]],
          thinking: Optional[bool], template: Optional[str], max_tokens: int, max_rounds: int,
          session: Optional["Session"], sampling: Dict[str, Any]) -> Iterator[Event]:
    name = template if template is not None else m.template
    settings = {**m.sampling(name), **sampling}
    has_functions = any(callable(tool) for tool in tools or ())
    own = None
    try:
        with m.sampler(**settings) as sampler:
            for _ in range(max_rounds + 1):
                ids = m.encode_chat(messages, tools, thinking, name)
                if session is None:
                    session = own = m.session(max_tokens=m._room(
                        len(ids) + (4 * max_tokens + 8192 if has_functions else max_tokens)))
                session.sync(ids)
                finished = None
                for event in _answer(m, session, sampler, name, thinking, max_tokens):
                    finished = event if isinstance(event, Finished) else None
                    yield event
                if finished is None or finished.reason != "tool_calls" or not has_functions:
                    return
                messages = messages + [finished.message]
                for call in finished.message["tool_calls"]:
                    content = _run_tool(tools or (), call)
                    messages.append({"role": "tool", "content": content,
                                     "tool_call_id": call.get("id", "")})
                    yield ToolResult(call["function"]["name"], content)
    finally:
        if own is not None:
            own.close()


def _answer(m: Any, session: "Session", sampler: Any, template: str, thinking: Optional[bool],
            max_tokens: int) -> Iterator[Event]:
    """One reply, token by token."""
    eos, ids, reason = m._number("token_eos"), [], "length"
    with _Reply(m._lib, m._handle, template, thinking) as reply:
        for i in range(max_tokens):
            token = sampler.sample(session)
            sampler.accept(token)
            ids.append(token)
            reply.token(token)
            yield from reply.drain()
            if token == eos:
                reason = None
                break
            if i + 1 < max_tokens:
                try:
                    session.eval([token], logits="none")
                except MinkeError as error:
                    if error.code != EFULL:
                        raise
                    break
        reply.finish(reason)
        yield from reply.drain()
        message = reply.message()
        for i, call in enumerate(message["tool_calls"]):
            call["id"] = f"call_{i}"
        message["token_ids"] = ids
        yield Finished(reason or ("tool_calls" if message["tool_calls"] else "stop"), message)
