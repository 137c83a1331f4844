#!/usr/bin/env python3
"""A short conversation with calf: a sum with thinking, a tool call, a value from a long list.

    python3 examples/calf/conversation.py
"""
import os
import random
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "bindings", "python")]
import minke  # noqa: E402
import tasks  # noqa: E402


def calculator(expression: str) -> str:
    """Compute an arithmetic expression."""
    a, op, b = expression.split()
    return str({"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[op](int(a), int(b)))


def say(events):
    """Print a reply while it is written; returns the answer."""
    kind, answer = None, ""
    for e in events:
        if isinstance(e, (minke.Reasoning, minke.Content)):
            if type(e) is not kind:
                if not e.text.strip():      # the blank line before a call
                    continue
                kind = type(e)
                print("\ncalf thinks: " if kind is minke.Reasoning else "\ncalf:        ", end="")
            print(e.text.replace("\n", "\n             "), end="", flush=True)
            answer += e.text if kind is minke.Content else ""
        elif isinstance(e, minke.CallEnded):
            f = e.call["function"]
            print(f"\ncalf calls:  {f['name']} {f['arguments']}", end="")
        elif isinstance(e, minke.ToolResult):
            kind = print(f"\nit returns:  {e.content}", end="")
    print()
    return answer


def ask(model, text, shown=None, **options):
    print("\nyou:         " + (shown or text), end="")
    return say(model.chat([{"role": "user", "content": text}], temperature=0, **options))


def main():
    rng = random.Random(2)
    values = {k: tasks.number(rng) for k in rng.sample(tasks.WORDS, 46)}
    rows = [f"{k}: {v}" for k, v in values.items()]
    key = list(values)[16]
    text = "Here is a list of values.\n" + "\n".join(rows) + f"\n\nWhat is the value of {key}?"
    shown = text.replace("\n".join(rows[3:-1]), f"... {len(rows) - 4} more ...").replace("\n", "\n             ")
    with minke.Model(HERE) as model:
        ask(model, "Who are you?")
        ask(model, "What is 4123 + 3789?", thinking=True)
        ask(model, "What is 371 * 4123?", thinking=True, tools=[calculator])
        answer = ask(model, text, shown)
        right = answer == f"{key}: {values[key]}"
        print(f"\nThe list has {len(model.tokenize(text))} tokens; each layer looks at {model.info['index_topk']} of them. "
              f"The value is {'right' if right else 'wrong: it is ' + str(values[key])}.")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
