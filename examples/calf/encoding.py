"""The chat encoding of DeepSeek-V3.2, as far as calf needs it.

    text = "".join(t for t, _ in segments(messages, thinking=True))

Messages follow OpenAI's schema (system, user, assistant with reasoning_content and tool_calls, tool);
the system message may carry `tools`.  Each segment says whether the assistant wrote it: those are the
tokens that training learns.  Between two of those lies one segment: every assistant segment starts after
a think marker and ends with the end-of-sentence token, so segments can be tokenized one by one and give the
tokens of the whole text.
"""
import itertools
import json

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, END_THINK = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"
D = "｜DSML｜"

TOOLS_HEAD = f"""## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<{D}function_calls>" block like the following as part of your reply to the user:
<{D}function_calls>
<{D}invoke name="$FUNCTION_NAME">
<{D}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{D}parameter>
...
</{D}invoke>
<{D}invoke name="$FUNCTION_NAME2">
...
</{D}invoke>
</{D}function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types (numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:

<{D}function_calls>
...
</{D}function_calls>

<function_results>
...
</function_results>

<think>...thinking about results</think>

Here are the functions available in JSONSchema format:
<functions>
"""
TOOLS_TAIL = "\n</functions>\n"


def dumps(x):
    return json.dumps(x, ensure_ascii=False)


def tools_text(tools):
    return TOOLS_HEAD + "\n".join(dumps(t["function"]) for t in tools) + TOOLS_TAIL


def calls_text(calls):
    out = []
    for c in calls:
        f = c.get("function", c)
        a = f["arguments"]
        a = json.loads(a) if isinstance(a, str) else a
        p = "\n".join(f'<{D}parameter name="{k}" string="{"true" if isinstance(v, str) else "false"}">'
                      f'{v if isinstance(v, str) else dumps(v)}</{D}parameter>' for k, v in a.items())
        out.append(f'<{D}invoke name="{f["name"]}">\n{p}\n</{D}invoke>')
    return f"\n\n<{D}function_calls>\n" + "\n".join(out) + f"\n</{D}function_calls>"


def segments(messages, thinking, drop_thinking=True):
    """-> [(text, written by the assistant)]; the last user message may be left unanswered."""
    last = max((i for i, m in enumerate(messages) if m["role"] in ("user", "developer")), default=-1)
    out = [(BOS, False)]
    for i, m in enumerate(messages):
        text = m.get("content") or ""
        if m["role"] == "system":
            if m.get("tools"):
                text += "\n\n" + tools_text(m["tools"])
            if m.get("response_format"):
                text += ("\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"
                         + dumps(m["response_format"]))
            out.append((text, False))
        elif m["role"] == "user":
            think = thinking and i == last or thinking and not drop_thinking and i >= last
            out.append((USER + text + ASSISTANT + (THINK if think else END_THINK), False))
        elif m["role"] == "assistant":
            if thinking and i > last:
                if not (m.get("reasoning_content") or m.get("tool_calls")):
                    raise ValueError("an assistant message after the last user message needs reasoning or calls")
                text = (m.get("reasoning_content") or "") + END_THINK + text
            if m.get("tool_calls"):
                text += calls_text(m["tool_calls"])
            out.append((text + EOS, True))
        elif m["role"] == "tool":
            first = messages[i - 1]["role"] != "tool"
            final = i + 1 == len(messages) or messages[i + 1]["role"] != "tool"
            text = ("\n\n<function_results>" if first else "") + f"\n<result>{text}</result>"
            if final:
                text += "\n</function_results>\n\n" + (THINK if thinking and i > last else END_THINK)
            out.append((text, False))
        else:
            raise ValueError(f"role {m['role']}")
    return [("".join(t for t, _ in group), own) for own, group in itertools.groupby(out, key=lambda s: s[1])]


def render(messages, thinking, drop_thinking=True):
    return "".join(t for t, _ in segments(messages, thinking, drop_thinking))
