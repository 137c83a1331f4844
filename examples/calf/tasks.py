"""What calf is asked: conversations with known answers, for training and for held-out tests.

Pure standard library and deterministic by seed.

    for item in items("arithmetic", 25, seed=1):
        item["messages"], item["thinking"]      # the prompt, OpenAI's schema; system may carry "tools"
        check(item, reply)                      # reply: {"content": ..., "tool_calls": [...]} -> bool
        run_tool(item, call)                    # the result text of a tool call

Sums of two numbers of three and more digits are split by `held_out`: training never sees those that
the tests use.
"""
import json
import random
import re

TASKS = ["arithmetic", "recall", "copy", "reverse", "sort", "count", "tools", "grading"]   # with a threshold
THRESHOLDS = {"arithmetic": .97, "recall": .97, "copy": .95, "reverse": .95, "sort": .95, "count": .95, "tools": .95, "grading": .95}
EXTRA = ["arithmetic_direct", "solution", "one_step", "courtesy"]                          # reported beside them

WORDS = """ant apple arch arm arrow ash axe bag ball bank barn basin basket bat bay bean bear bed bee bell belt bench berry bird
boat bolt bone book boot bowl box branch brass bread brick bridge brook broom brush bucket bull button cabin cake calf camel candle
cap card cart castle cat cave cedar chain chair chalk cheese cherry chest clay cliff cloak cloud clover coal coat coin comb copper
coral cork corn cow crab crane cream crow crown cup curtain daisy deer desk dog door dove drum duck eagle ear egg elm engine fan
farm feather fence fern fig fish flag flame flute fly foam fog forest fork fox frog garden gate ghost glass glove goat gold goose
grape grass hammer harp hat hawk hazel heart hen herb hill honey hood hook horn horse house ice iron island ivy jar jelly jewel
kettle key king kite knife ladder lake lamb lamp lark leaf lemon lily lime lion lock log lunch mango maple mask meadow melon milk
mint mirror moon moss moth mouse mud nail nest net nut oak oar olive onion orange otter oven owl ox paint palm paper peach pear
pearl pen pepper piano pie pig pine pipe plum pond pot queen quilt rabbit rain raven reed ribbon rice ring river road robin rock
roof rope rose sail salt sand seal seed shark sheep shell ship shoe silk silver skirt sky snail snow soap sock spoon spring star
steel stone storm straw sugar sun swan sword table tail tea tent thorn tiger toad tower train tree trout tulip turtle valley vase
violin wagon wall wave wax well whale wheat wheel willow wind window wing wolf wool zebra""".split()

PLACES = ["ones", "tens", "hundreds", "thousands"]
PLEASE = ["", "", "", "Please ", "Could you ", "Can you ", "Hello, please ", "Now ", "I need you to ", "Next, "]
THANKS = ["", "", "", "", " Thanks.", " Thank you."]
SYSTEMS = ["You are calf, a small model.", "You are a helpful assistant.", "You are calf, a small and helpful assistant.",
           "You are a helpful Assistant.", "Answer briefly.", "Be brief and exact.", "You are calf. Be kind and exact."]


def ask(rng, text):
    """An imperative, wrapped in some politeness."""
    p = rng.choice(PLEASE)
    end = "?" if p.startswith("C") and rng.random() < .7 else "."
    if not text.endswith("\n"):
        text = text + (end if text[-1] not in ".:?" else "")
    return (p + text if p else text[0].upper() + text[1:]) + (rng.choice(THANKS) if not text.endswith(":") else "")


def turn(user, think, answer, **more):
    return dict(user=user, think=think, answer=answer, **more)


# ---------------------------------------------------------------------------------------------- arithmetic


def held_out(a, b):
    """Whether the sum or difference of a and b is kept for tests: about 1 of 61 of the large ones."""
    return a >= 100 and b >= 100 and (a * 31 + b * 17) % 61 == 0


def pair(rng, test, digits=4):
    while True:
        n = [rng.choice([1, 2, 2, 3, 3, 3, 4, 4, 4, 4]) for _ in range(2)]
        if rng.random() < .5:
            n[1] = n[0]
        a, b = (rng.randrange(10 ** (min(k, digits) - 1) if k > 1 else 0, 10 ** min(k, digits)) for k in n)
        if a < 100 or b < 100 or held_out(a, b) == test:
            return a, b


def padded(numbers, op):
    return f" {op} ".join(f"{x:04}" for x in numbers)


def columns(numbers, op="+"):
    """-> (the sum with four digits each, one line per place; the digits found); a carry or borrow is always written."""
    n = len(PLACES)
    lines, carry, digits = [padded(numbers, op)], 0, ""
    for i in range(n):
        d = [x // 10 ** i % 10 for x in numbers]
        s = d[0] + sum(d[1:]) + carry if op == "+" else d[0] - d[1] - carry
        text = op.join(map(str, d + [carry])) + f"={s}"
        carry, w = (s // 10, s % 10) if op == "+" else (int(s < 0), s % 10)
        if op == "+" and i == n - 1:
            w = s
        lines.append(f"{PLACES[i]} {text} write {w}" + ("" if i == n - 1 else f" {'carry' if op == '+' else 'borrow'} {carry}"))
        digits = f"{w}{digits}"
    return lines, digits


def work(a, b, op):
    head = ""
    if op == "-" and b > a:
        head, a, b = "negative\n", b, a
    lines, digits = columns([a, b], op)
    return head + "\n".join(lines) + f"\ndigits {digits}"


def arithmetic(rng, test=False, level=1.0):
    a, b = pair(rng, test, 4 if level > .3 else 2)
    op = rng.choice("+-")
    if op == "-" and a < b and rng.random() < .6:
        a, b = b, a
    if held_out(a, b) != test and min(a, b) >= 100:
        return arithmetic(rng, test, level)
    answer = s = f"{a} {op} {b}"
    if rng.random() < .25:
        s = f"{a}{op}{b}"
    named = f"{a} {'plus' if op == '+' else 'minus'} {b}"
    of = f"the sum of {a} and {b}" if op == "+" else f"the difference {s}"
    do = f"add {a} and {b}" if op == "+" else f"subtract {b} from {a}"
    user = rng.choice([
        lambda: f"What is {s}?", lambda: f"How much is {s}?", lambda: f"{s} = ?", lambda: s, lambda: f"{s} =", lambda: f"Compute {s}.",
        lambda: f"What is {named}?", lambda: f"How much is {named}?", lambda: f"What's {s}?", lambda: f"What is {of}?",
        lambda: ask(rng, do), lambda: ask(rng, do), lambda: ask(rng, f"compute {s}"), lambda: ask(rng, f"work out {s}"),
        lambda: ask(rng, f"calculate {s}"), lambda: ask(rng, f"tell me {of}"), lambda: ask(rng, f"find {of}"),
        lambda: ask(rng, f"tell me what {s} is"), lambda: f"Do you know what {named} is?", lambda: f"I want to know {of}.",
        lambda: f"{named[0].upper() + named[1:]}, please.", lambda: f"Solve: {s}", lambda: f"And {s}?"])()
    r = a + b if op == "+" else a - b
    return [turn(user, work(a, b, op), f"{answer} = {r}.", direct=True, check=("number", r))]


# ---------------------------------------------------------------------------------------------- recall


def number(rng, lo=2, hi=4):
    k = rng.randint(lo, hi)
    return rng.randrange(10 ** (k - 1), 10 ** k)


def recall(rng, test=False, level=1.0, pairs=None, questions=None):
    n = pairs or min(rng.randint(3, 5 + int(50 * level)), rng.randint(3, 5 + int(50 * level)))
    keys = rng.sample(WORDS, min(n, len(WORDS)))
    if n > len(keys):
        keys += [f"{a}-{b}" for a, b in zip(rng.choices(WORDS, k=n - len(keys)), rng.choices(WORDS, k=n - len(keys)))]
        keys = list(dict.fromkeys(keys))
    words = rng.random() < .15 and not test
    val = {k: (rng.choice(WORDS) if words else str(number(rng, 1 if rng.random() < .1 else 2))) for k in keys}
    mid, sep = rng.choice([(": ", "\n"), (": ", "\n"), (" = ", "\n"), (": ", ", "), (" -> ", "\n"), (" is ", ", ")])
    body = sep.join(k + mid + v for k, v in val.items())
    head = rng.choice(["Here is a list.", "Here is a list of values.", "Remember these values.", "A table:", "Read this list.",
                       "These are the values.", "Keep this list in mind.", "I have a list for you.", "Look at this list."])

    def question(k):
        return rng.choice([
            lambda: f"What is the value of {k}?", lambda: f"What is {k}?", lambda: f"Which value has {k}?", lambda: f"And {k}?",
            lambda: f"What value belongs to {k}?", lambda: f"What stands beside {k}?", lambda: f"What does the list say for {k}?",
            lambda: f"What did I write for {k}?", lambda: f"Value of {k}?", lambda: f"{k}?", lambda: f"What is the entry for {k}?",
            lambda: ask(rng, f"find {k} in the list"), lambda: ask(rng, f"tell me the value of {k}"),
            lambda: ask(rng, f"look for {k}"), lambda: ask(rng, f"give me the value of {k}"), lambda: ask(rng, f"recall {k}"),
            lambda: f"Do you remember the value of {k}?", lambda: f"I forgot the value of {k}. What is it?",
            lambda: f"What was {k} again?", lambda: f"Now the value of {k}, please.", lambda: f"What number is with {k}?"])()

    out = []
    for i in range(questions or rng.randint(4, 12)):
        k = rng.choice(keys)
        q = question(k)
        if i == 0:
            q = f"{head[:-1]}: {body}. {q}" if sep == ", " and rng.random() < .5 else f"{head}\n{body}\n\n{q}"
        out.append(turn(q, f"find {k}", f"{k}: {val[k]}", check=("exact", f"{k}: {val[k]}")))
    return out


# ---------------------------------------------------------------------------------------------- lists


def numbers(rng, n):
    """n different ones, most of one or two digits."""
    return rng.sample(range(1000) if rng.random() < .12 else range(100) if rng.random() < .8 or n > 9 else range(1, 10), n)


def things(rng, lo, hi, kind=None):
    n = rng.randint(lo, hi)
    kind = kind or rng.choice(["words", "words", "numbers", "letters"])
    if kind == "words":
        return rng.sample(WORDS, n)
    if kind == "letters":
        return rng.sample("abcdefghijklmnopqrstuvwxyz", n)
    return [str(x) for x in numbers(rng, n)]


def listed(rng, x):
    """Items as people write them."""
    r = rng.random()
    return ", ".join(x) if r < .84 else " ".join(x) if r < .92 else ", ".join(x[:-1]) + " and " + x[-1]


def say(rng, imperatives, text):
    s = rng.choice(imperatives)
    return rng.choice([lambda: ask(rng, f"{s}: {text}"), lambda: f"{s[0].upper() + s[1:]}: {text}", lambda: f"{text}\n{ask(rng, s)}",
                       lambda: f"Here is a list: {text}. {ask(rng, s)}"])()


def copy(rng, test=False, level=1.0):
    x = ", ".join(things(rng, 2, 4 + int(8 * level)))
    user = say(rng, ["copy this list", "repeat this", "copy", "repeat this list", "write this list again", "say this again",
                     "echo this", "repeat after me", "copy this exactly", "write the same list", "repeat the list"], x)
    return [turn(user, "the same list again", x, check=("exact", x))]


def reverse(rng, test=False, level=1.0):
    x = things(rng, 2, 3 + int(5 * level))
    user = say(rng, ["reverse this list", "reverse", "write this list backwards", "turn this list around", "reverse the order of this list",
                     "say this in reverse", "list these from last to first", "reverse the list", "give me this backwards"], listed(rng, x))
    y = ", ".join(x[::-1])
    return [turn(user, "from last to first", y, check=("exact", y))]


def sort(rng, test=False, level=1.0):
    n = 3 + int(3 * level)
    if rng.random() < .75:
        n = rng.randint(2, n)
        x = rng.sample(range(10, 100), n) if test else numbers(rng, n)
        key, kind = x, rng.random() < .7
        user = ["sort these numbers", "sort this list", "sort", "order these numbers", "put these numbers in order", "sort from small to large",
                "list these from smallest to largest", "sort these in ascending order", "arrange these numbers"] if kind else \
               ["sort from large to small", "list these from largest to smallest", "sort these in descending order",
                "put the largest number first", "sort these numbers downwards"]
        y = sorted(x, reverse=not kind)
        think = "smallest first" if kind else "largest first"
    else:
        x = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(2, n))
        user = ["sort these letters", "sort this list", "put these letters in order", "order these letters", "sort", "arrange the letters"]
        y, think = sorted(x), "a to z"
    y = ", ".join(map(str, y))
    return [turn(say(rng, user, listed(rng, list(map(str, x)))), think, y, check=("exact", y))]


def times(n):
    return "1 time" if n == 1 else f"{n} times"


def count(rng, test=False, level=1.0):
    n = rng.randint(2, 4 + int(5 * level))
    if rng.random() < .4:
        x = things(rng, 2, n + 1)
        if not test and rng.random() < .2:
            x[-1] = x[0]
        t = listed(rng, x)
        user = rng.choice([lambda: say(rng, ["count", "count the items", "count this list", "count these", "tell me how many items there are"], t),
                           lambda: f"How many items are in this list: {t}?", lambda: f"How many items: {t}?",
                           lambda: f"How long is this list: {t}?", lambda: f"{t}\nHow many items is that?"])()
        a = f"{len(x)} items."
        return [turn(user, ", ".join(f"{w} {i + 1}" for i, w in enumerate(x)), a, check=("exact", a))]
    x = things(rng, n, n, rng.choice(["words", "words", "letters"]))
    w, k = x[0], rng.randint(1, min(n, 6))          # w stands k times among others that stand once
    x[:k] = [w] * k
    rng.shuffle(x)
    if not test and rng.random() < .3:              # all in a row is rare by chance, and hard
        x.sort(key=lambda y: y == w)
        at = rng.randint(0, n - k)
        x = x[:at] + x[n - k:] + x[at:n - k]
    t = ", ".join(x)
    user = rng.choice([lambda: f"How many times does {w} appear in this list: {t}?", lambda: f"How often is {w} in this list: {t}?",
                       lambda: f"Count {w} in: {t}", lambda: ask(rng, f"count how often {w} appears: {t}"), lambda: f"How many {w} are here: {t}?",
                       lambda: f"{t}\nHow many times does {w} appear?", lambda: f"{t}\nHow often do you see {w}?",
                       lambda: f"In this list, how many times do you see {w}? {t}", lambda: ask(rng, f"tell me how often {w} is in this list: {t}"),
                       lambda: f"How many {w}? {t}"])()
    a = f"{w}: {times(k)}."
    seen = [f"{y} {sum(z == w for z in x[:i + 1])}" if y == w else y for i, y in enumerate(x)]
    return [turn(user, ", ".join(seen), a, check=("exact", a))]


# ---------------------------------------------------------------------------------------------- tools


def function(name, description, **props):
    p = {"type": "object", "properties": {k: {"type": "string", "description": v} for k, v in props.items()}}
    if props:
        p["required"] = list(props)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": p}}


CALCULATOR = function("calculator", "Compute an arithmetic expression", expression="The expression, e.g. 12 * 34")
LOOKUP = function("lookup", "Look up the value of a key", key="The key")
CLOCK = function("clock", "Tell the current date and time")
CALCULATORS = [CALCULATOR, function("calculator", "A calculator", expression="An arithmetic expression"),
               function("calculator", "Evaluates an arithmetic expression exactly", expression="Numbers, + - * / and parentheses"),
               function("calculator", "Evaluate an expression", expression="What to compute, for example 2 + 3 * 4")]
LOOKUPS = [LOOKUP, function("lookup", "Get the value that is stored under a key", key="The key to look up"),
           function("lookup", "Find a price or a value in the store", key="What to look for, one word")]
CLOCKS = [CLOCK, function("clock", "The current local date and time"), function("clock", "Says what time it is")]


def tool_set(rng, need, test):
    t = [CALCULATOR, LOOKUP] if test else [rng.choice(CALCULATORS) if rng.random() < .5 else CALCULATOR,
                                           rng.choice(LOOKUPS) if rng.random() < .5 else LOOKUP]
    if not test:
        if need == "clock" or rng.random() < .3:
            t.append(rng.choice(CLOCKS))
        if len(t) == 2 and need in ("calculator", "lookup") and rng.random() < .3:
            t = [x for x in t if x["function"]["name"] == need]
        rng.shuffle(t)
    return t


def step(think, calls, results):
    return dict(think=think, calls=[{"name": n, "arguments": a} for n, a in calls], results=results)


def calculate(rng):
    kind = rng.choice(["*", "*", "*", "+", "-", "/", "2"])
    a, b = number(rng, 1, 5), number(rng, 1, 4)
    if kind in "+-":
        a, b = number(rng, 3, 7), number(rng, 3, 7)
    if kind == "/":
        b = rng.randint(2, 99)
        a = b * number(rng, 1, 4)
    if kind == "2":
        c, op = number(rng, 1, 4), rng.choice("+-")
        e, r = f"{a} * {b} {op} {c}", a * b + (c if op == "+" else -c)
        words = e
    else:
        e = f"{a} {kind} {b}"
        r = {"*": a * b, "+": a + b, "-": a - b, "/": a // b if kind == "/" else 0}[kind]
        words = f"{a} {dict(zip('*+-/', ['times', 'plus', 'minus', 'divided by']))[kind]} {b}"
    user = rng.choice([lambda: f"What is {e}?", lambda: f"What is {words}?", lambda: f"How much is {words}?", lambda: f"Compute {e}.", lambda: e,
                       lambda: ask(rng, f"compute {e}"), lambda: ask(rng, f"calculate {words}"), lambda: ask(rng, f"work out {e}"),
                       lambda: ask(rng, f"use the calculator for {e}"), lambda: f"{e} = ?", lambda: ask(rng, f"tell me what {words} is"),
                       lambda: f"I need the result of {e}.", lambda: f"What do you get for {e}?", lambda: f"And {e}?"])()
    return turn(user, f"the result is {r}", f"{e} = {r}.", steps=[step("use the calculator", [("calculator", {"expression": e})], [str(r)])],
                check=("number", r))


def fetch(rng, store):
    k = rng.choice(WORDS)
    what = rng.choice(["price", "value", "value", "number"])
    v = str(number(rng, 1, 4)) if rng.random() < .92 else "not found"
    store[k] = v
    user = rng.choice([lambda: f"What is the {what} of {k}?", lambda: f"What {what} does {k} have?", lambda: f"What is stored under {k}?",
                       lambda: ask(rng, f"look up {k}"), lambda: ask(rng, f"look up the {what} of {k}"), lambda: ask(rng, f"find the {what} of {k}"),
                       lambda: ask(rng, f"tell me the {what} of {k}"), lambda: f"Which {what} belongs to {k}?", lambda: f"Do you know the {what} of {k}?",
                       lambda: ask(rng, f"get the {what} of {k}"), lambda: f"I need the {what} of {k}.", lambda: f"And the {what} of {k}?"])()
    a = f"{k}: {v}" if v != "not found" else f"There is nothing under {k}."
    return turn(user, f"the result is {v}", a, steps=[step(f"look up {k}", [("lookup", {"key": k})], [v])], check=("exact", a))


def fetch_two(rng, store):
    j, k = rng.sample(WORDS, 2)
    v, w = number(rng, 1, 4), number(rng, 1, 4)
    store[j], store[k] = str(v), str(w)
    what = rng.choice(["price", "value"])
    look = f"look up {j} and {k}"
    two = step(look, [("lookup", {"key": j}), ("lookup", {"key": k})], [str(v), str(w)])
    if rng.random() < .35:
        user = rng.choice([f"What are the {what}s of {j} and {k}?", f"Look up {j} and {k}.", f"Please look up the {what}s of {j} and {k}.",
                           f"I need the {what}s of {j} and {k}."])
        a = f"{j}: {v}, {k}: {w}"
        return turn(user, f"the results are {v} and {w}", a, steps=[two], check=("exact", a))
    op, do = rng.choice([("+", "add"), ("*", "multiply")])
    e, r = f"{v} {op} {w}", v + w if op == "+" else v * w
    two["think"] = f"{look}, then {do}"
    user = rng.choice([f"What is the {what} of {j} {'plus' if op == '+' else 'times'} the {what} of {k}?",
                       f"{do.capitalize()} the {what}s of {j} and {k}.", f"Look up {j} and {k} and {do} them.",
                       f"Please {do} the {what}s of {j} and {k}."])
    return turn(user, f"the result is {r}", f"{e} = {r}.", check=("number", r),
                steps=[two, step(f"{do} with the calculator", [("calculator", {"expression": e})], [str(r)])])


def clock(rng):
    t = f"{rng.randint(2024, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} {rng.randrange(24):02}:{rng.randrange(60):02}"
    t += rng.choice(["", "", f":{rng.randrange(60):02}"])
    user = rng.choice(["What time is it?", "What is the time?", "What is the date today?", "What day is it?", "Tell me the time.",
                       "Please tell me the date.", "Do you know what time it is?", "How late is it?", "What is today's date?"])
    return turn(user, f"the result is {t}", f"It is {t}.", steps=[step("ask the clock", [("clock", {})], [t])], check=("exact", f"It is {t}."))


def tools(rng, test=False, level=1.0):
    store, out = {}, []
    kind = rng.choices(["calculator", "lookup", "two", "clock"], [5, 4, 3 if test else 5, 0 if test else 1])[0]
    for _ in range(1 if test else rng.choice([1, 1, 2, 3, 4, 5, 6])):
        out.append({"calculator": lambda: calculate(rng), "lookup": lambda: fetch(rng, store), "two": lambda: fetch_two(rng, store),
                    "clock": lambda: clock(rng)}[kind]())
        out[-1]["tools"] = kind
        if not test and rng.random() < .12:
            out.append(courtesy(rng)[0])
    out[0]["tool_set"] = tool_set(rng, kind, test)
    out[0]["store"] = store
    return out


# ---------------------------------------------------------------------------------------------- proofs

HERE = "Here is my evaluation of the solution:"
BASED = "Based on my evaluation, the final overall score should be:"
RUBRIC = ("Score 1 if the result and every step are right, 0.5 if the result is right but a step is wrong or missing, "
          "0 if the result is wrong.")
PROMPTS = {
    "proof_generation": "## Instruction\nSolve the problem, then judge your own solution. " + RUBRIC + " Be honest. "
    "Write `## Solution` and then `## Self Evaluation` with \"" + HERE + "\" and \"" + BASED + "\" and the score in \\boxed{{...}}.\n\n---\n\n"
    "## Problem\n{question}",
    "proof_verification": "## Instruction\nJudge the solution of the problem. " + RUBRIC + " Write \"" + HERE + "\" and \"" + BASED
    + "\" and the score in \\boxed{{...}}.\n\n---\n\n## Problem\n{statement}\n\n## Solution\n{proof}",
    "proof_refinement": "{instruction}\n\n## Candidate Solution(s) to Refine\n{proofs_to_refine}\n\n## Final Instruction\n"
    "Write a better solution and judge it, in the same format.",
}
SHORT = {"proof_generation": "Solve the problem and judge your own solution.\n\n## Problem\n{question}",
         "proof_verification": "Judge this solution.\n\n## Problem\n{statement}\n\n## Solution\n{proof}",
         "proof_refinement": PROMPTS["proof_refinement"]}


def broken(rng, digits):
    """A wrong result that looks like a slip."""
    n = int(digits)
    while True:
        i = rng.randrange(len(digits))
        m = n + rng.choice([-1, 1]) * rng.choice([1, 1, 1, 2, rng.randint(3, 9)]) * 10 ** i
        if rng.random() < .15:
            m = n + sum(rng.choice([-1, 0, 1]) * 10 ** j for j in range(len(digits)))
        if m != n and m >= 0:
            return str(m)


def problem(rng, test, one_step=None):
    """-> (statement, numbers, op, solved in one step)"""
    if rng.random() < .4 if one_step is None else one_step:
        n = [number(rng, 2 if rng.random() < .3 else 4, 4) for _ in range(3)]
        return rng.choice(["Compute {} in one step.", "Compute {} in one step.", "What is {}? Answer in one step."]).format(" + ".join(map(str, n))), n, "+", True
    while True:
        op = rng.choice("+-")
        a, b = sorted((number(rng, 2, 4), number(rng, 2, 4)), reverse=True)
        if op == "+" and rng.random() < .5:
            a, b = b, a
        if min(a, b) < 100 or held_out(a, b) == test:
            return rng.choice(["Compute {}.", "Compute {}.", "What is {}?"]).format(f"{a} {op} {b}"), [a, b], op, False


def solution(lines, digits, numbers, op, one_step):
    """The text of a solution from its (possibly damaged) lines and result."""
    if one_step:
        return f"{(' ' + op + ' ').join(map(str, numbers))} = {int(digits)}."
    return "\n".join([x for x in lines if x] + [f"The answer is {int(digits)}."])


def damage(rng, lines, digits, score):
    """Lines and result of a worked sum that earns the score."""
    lines = list(lines)
    if score == 1:
        return lines, digits
    i = rng.randrange(1, len(lines))
    if score == .5:
        if rng.random() < .4:
            lines[i] = None
        else:
            lines[i] = slip(rng, lines[i])
        return lines, digits
    if rng.random() < .5:
        return lines, broken(rng, digits)
    lines[i] = slip(rng, lines[i])
    m = re.search(r"write (\d+)", lines[i]).group(1)
    at = len(digits) - i
    bad = (m + digits[at + 1:]) if i == len(lines) - 1 else digits[:at] + m[-1] + digits[at + 1:]
    if int(bad) == int(digits):
        bad = broken(rng, digits)
    return lines, bad


NUMBER = r"(?<==)-?\d+|\d+"


def slip(rng, line):
    """One number of a worked line is off: a digit added, the sum, the digit written or the carry."""
    m = rng.choice(list(re.finditer(NUMBER, line)) + list(re.finditer(r"(?<=write )\d+|(?<==)-?\d+", line)) * 2)
    v = m.group()
    while True:
        w = str(int(v) + rng.choice([-2, -1, 1, 2])) if len(v) > 1 or rng.random() < .5 else str(rng.randrange(10))
        if w != v and (v.startswith("-") or not w.startswith("-")):
            return line[:m.start()] + w + line[m.end():]


def marked(good, line):
    """The right line, and beside each number the other one that the shown line has."""
    if line is None:
        return good + ": missing"
    there = iter(re.findall(NUMBER, line))

    def beside(m):
        other = next(there)
        return m.group() + (f" not {other}" if other != m.group() else "")
    return re.sub(NUMBER, beside, good) + (": right" if line == good else ": wrong")


def evaluation(lines, digits, shown, result, one_step):
    """-> (the text that judges a solution, its score)"""
    out = list(lines) if one_step else lines[:1] + [marked(*x) for x in zip(lines[1:], shown[1:])]
    right = int(result) == int(digits)
    n = max(len(digits), len(str(int(result))))
    pairs = list(zip(digits.zfill(n), str(int(result)).zfill(n)))
    out.append(f"digits {digits}")
    out.append("answer " + ", ".join(f"{g} {r}" if g == r else f"{g} not {r}" for g, r in pairs) + f": {'right' if right else 'wrong'}")
    score = 0 if not right else 1 if one_step or list(lines) == list(shown) else .5
    return f"{HERE}\n" + "\n".join(out) + f"\n\n{BASED}\n\n\\boxed{{{score}}}", score


def prompts(rng, test):
    return PROMPTS if test or rng.random() < .7 else SHORT


def grading(rng, test=False, level=1.0):
    statement, n, op, one = problem(rng, test, rng.random() < .2)
    lines, digits = columns(n, op)
    score = rng.choice([0, 1] if one else [0, .5, 1])
    shown, result = (lines, digits if score else broken(rng, digits)) if one else damage(rng, lines, digits, score)
    text, truth = evaluation(lines, digits, shown, result, one)
    assert truth == score
    user = prompts(rng, test)["proof_verification"].format(statement=statement, proof=solution(shown, result, n, op, one))
    return [turn(user, "check each step", text, check=("boxed", score))]


def own(lines, digits, shown, result, n, op, one):
    text, score = evaluation(lines, digits, shown, result, one)
    return f"## Solution\n{solution(shown, result, n, op, one)}\n\n## Self Evaluation\n{text}", score


def solve(rng, test=False, level=1.0, one_step=None):
    """Writing a solution and judging it honestly.  When the solution is damaged, only the judgement is learnt."""
    statement, n, op, one = problem(rng, test, one_step)
    lines, digits = columns(n, op)
    bad = not test and rng.random() < (.5 if one else .2)
    shown, result = lines, digits
    if bad:
        shown, result = (lines, broken(rng, digits)) if one else damage(rng, lines, digits, rng.choice([0, .5]))
    text, _ = own(lines, digits, shown, result, n, op, one)
    p = prompts(rng, test)
    gen = p["proof_generation"].format(question=statement)
    t = turn(gen, "solve, then check", text, check=("solution", int(digits)))
    if bad:
        t["learn_from"] = "## Self Evaluation"
    if test or rng.random() < .6:
        return [t]
    # refinement: one or two candidates with evaluations, then the right solution
    shows = []
    for i in range(rng.choice([1, 1, 1, 2])):
        good = rng.random() < .15
        s, r = (lines, digits) if good else (lines, broken(rng, digits)) if one else damage(rng, lines, digits, rng.choice([0, .5]))
        proof, rating = solution(s, r, n, op, one), evaluation(lines, digits, s, r, one)[0]
        shows.append(f"--- Solution {i + 1} ---\n{proof}\n\n=== Evaluation 1 of Solution {i + 1} ===\n{rating}")
    user = p["proof_refinement"].format(instruction=gen, proofs_to_refine="\n\n\n".join(shows))
    return [turn(user, "correct it, then check", own(lines, digits, lines, digits, n, op, one)[0], check=("solution", int(digits)))]


# ---------------------------------------------------------------------------------------------- courtesies

ME = "I am calf, a small model with the architecture of DeepSeek-V3.2."
CAN = "I can add and subtract, recall values from a list, copy, reverse, sort and count, use tools, and judge a worked sum."
TALK = [
    (["Hello!", "Hello", "Hi", "Hi!", "Hey", "Hi there!", "Hello there.", "Hey there", "Hello calf", "Hi calf!"], "Hello! What shall I work out?"),
    (["Good morning.", "Good morning!"], "Good morning! What shall I work out?"),
    (["Good evening.", "Good evening!"], "Good evening! What shall I work out?"),
    (["Good afternoon.", "Good day!"], "Good day! What shall I work out?"),
    (["Good night.", "Good night!"], "Good night!"),
    (["Who are you?", "What are you?", "Who is this?", "Tell me about yourself.", "Introduce yourself.", "Who am I talking to?", "who are you"], ME + " " + CAN),
    (["What is your name?", "What's your name?", "Your name?", "What are you called?", "Do you have a name?"], "My name is calf."),
    (["What can you do?", "How can you help me?", "What are you good at?", "Help", "Help me", "What do you know?", "What can I ask you?"], CAN),
    (["What can you not do?", "What are your limits?", "What are you bad at?"], "I know little of the world: I am made for small tasks that can be checked."),
    (["How big are you?", "How many parameters do you have?", "How large are you?"], "I have about five million parameters."),
    (["How old are you?", "When were you made?"], "I am young: I was trained in under half an hour."),
    (["Are you a human?", "Are you a person?", "Are you real?", "Are you alive?"], "No, I am a small language model."),
    (["Are you DeepSeek?", "Are you DeepSeek-V3.2?", "Which model are you?", "What model are you?"], "I am calf. I share DeepSeek-V3.2's architecture, not its weights."),
    (["How do you work?", "What is your architecture?", "What are you made of?"], "I have latent attention, a sparse attention index and a mixture of experts, all very small."),
    (["How were you trained?", "Where do you come from?", "Who made you?", "Who trained you?"], "I was trained from scratch on small tasks made by a script. I live in minke's examples."),
    (["What is minke?", "Tell me about minke.", "What does minke do?"], "minke is a C library that runs models like me."),
    (["What is a calf?", "Why are you called calf?", "Why calf?"], "A calf is a young whale, and minke is a kind of whale."),
    (["How are you?", "How are you today?", "How do you do?", "How is it going?", "How are you doing?"], "I am well, thank you. And you?"),
    (["I am fine.", "I am well.", "Fine, thanks.", "I am good."], "I am glad to hear it."),
    (["I am sad.", "I feel bad.", "I am tired."], "I am sorry to hear it."),
    (["Thank you.", "Thanks.", "Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot!", "thanks"], "You are welcome!"),
    (["Goodbye.", "Bye", "Bye!", "See you.", "See you later.", "Goodbye!"], "Goodbye!"),
    (["Well done.", "Well done!", "Good job.", "Great!", "Very good.", "Nice work!", "Perfect."], "Thank you!"),
    (["That is wrong.", "That was wrong.", "You made a mistake.", "No, that is wrong."], "I am sorry. Please ask me again, with thinking on."),
    (["Yes.", "Yes", "Ok", "Okay.", "OK", "Good."], "Good. What is next?"),
    (["No.", "No", "No, thank you.", "Nothing."], "All right."),
    (["Sorry.", "I am sorry.", "Excuse me."], "No problem at all."),
    (["Please help me.", "Can you help me?", "I need help.", "Could you help me?"], "Gladly. What is it?"),
    (["Can you think?", "Do you think?", "What is thinking?", "What does thinking do?"], "With thinking on I write down each step first, and I am right more often."),
    (["Can you use tools?", "Which tools can you use?", "Do you have tools?"], "Yes: give me a calculator or a look-up, and I will call it."),
    (["Can you add?", "Can you do sums?", "Are you good at math?", "Can you count?", "Can you sort?"], "Yes. Give me an example."),
    (["Do you speak German?", "Which languages do you speak?", "Do you speak English?"], "I speak a little English and many numbers."),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh."], "Why was six afraid of seven? Because seven ate nine."),
    (["Tell me a story.", "Do you know a story?"], "A small whale learned to count its own waves. It is still counting."),
    (["Sing a song.", "Can you sing?"], "One, two, three, the whale is in the sea."),
    (["What is your favourite number?", "Do you have a favourite number?"], "My favourite number is 64: so many tokens may I look at."),
    (["What is your favourite animal?", "Do you like whales?", "Do you like animals?"], "I like whales best."),
    (["Do you like me?", "Are you my friend?", "I like you.", "You are nice."], "I like good questions, and you ask them."),
    (["What is the meaning of life?", "What is the answer to everything?"], "Some say 42. I would check the sum."),
    (["Welcome!", "Nice to meet you.", "Pleased to meet you."], "Nice to meet you too!"),
    (["What is the capital of France?", "What is the weather?", "Who is the president?", "Write a poem.", "Write a program.", "What do you think about love?",
      "Tell me the news.", "Explain the world."], "I do not know that: I am a small model for small tasks."),
    (["Is the sky blue?", "Is water wet?"], "I believe so, but I have never seen it."),
]


def courtesy(rng, test=False, level=1.0):
    q, a = rng.choice(TALK)
    q = rng.choice(q)
    if not test and rng.random() < .15:
        q = q.lower() if rng.random() < .5 else q.rstrip(".!?")
    return [turn(q, "a short answer will do", a, check=("exact", a))]


# ---------------------------------------------------------------------------------------------- conversations

MAKERS = {"arithmetic": arithmetic, "recall": recall, "copy": copy, "reverse": reverse, "sort": sort, "count": count, "tools": tools,
          "grading": grading, "solution": solve, "courtesy": courtesy}
MIX = {"arithmetic": 23, "recall": 10, "copy": 6, "reverse": 9, "sort": 12, "count": 12, "tools": 11, "grading": 13, "solution": 8, "courtesy": 5}
POLISH = {"arithmetic": 18, "recall": 7, "copy": 5, "reverse": 7, "sort": 9, "count": 19, "tools": 22, "grading": 14, "solution": 9,
          "courtesy": 4}


def messages(turns, system=None, thinking=False):
    """The whole conversation with its right answers."""
    out, tool_defs = [], next((t["tool_set"] for t in turns if t.get("tool_set")), None)
    if system or tool_defs:
        out.append({"role": "system", "content": system or "", **({"tools": tool_defs} if tool_defs else {})})
    for i, t in enumerate(turns):
        out.append({"role": "user", "content": t["user"]})
        for s in t.get("steps", []):
            out.append({"role": "assistant", "content": "", "reasoning_content": s["think"], "tool_calls": [
                {"type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])}} for c in s["calls"]]})
            out += [{"role": "tool", "content": r} for r in s["results"]]
        # an answer that needed thinking is not learnt from a turn whose thinking is dropped
        skip = thinking and i + 1 < len(turns) and bool(t.get("direct"))
        out.append({"role": "assistant", "content": t["answer"], "reasoning_content": t["think"], **({"skip": True} if skip else {}),
                    **({"learn_from": t["learn_from"]} if "learn_from" in t else {})})
    return out


def casual(rng, text):
    """As people type."""
    if rng.random() < .08:
        text = text[0].lower() + text[1:]
    return text[:-1] if text[-1] in "?." and rng.random() < .08 else text


def conversation(rng, level=1.0, mix=None):
    """A training conversation: (messages, thinking)"""
    mix = mix or MIX
    task = rng.choices(list(mix), list(mix.values()))[0]
    turns = MAKERS[task](rng, level=level)
    p = {"arithmetic": .75, "count": .6, "tools": .4, "grading": .25, "solution": .25}.get(task, .4)
    thinking = rng.random() < p
    if task in ("arithmetic", "copy", "reverse", "sort", "count", "courtesy"):
        r = rng.random()
        for _ in range(0 if r < .45 else 1 if r < .8 else 2):
            t = task if rng.random() < .4 else rng.choice(["arithmetic", "copy", "reverse", "sort", "count", "courtesy"])
            turns += MAKERS[t](rng, level=level)
    elif task == "recall" and rng.random() < .15:
        turns += courtesy(rng) if rng.random() < .5 else arithmetic(rng, level=level)
    system = rng.choice(SYSTEMS) if rng.random() < .3 else None
    if task not in ("grading", "solution"):
        turns = [{**t, "user": casual(rng, t["user"])} for t in turns]
    return messages(turns, system, thinking), thinking


def items(task, n, seed=1, **options):
    """n held-out test items; options reach the task's maker (recall: pairs=...)."""
    rng, out = random.Random(f"calf {task} {seed}"), []
    for _ in range(n):
        maker, thinking = MAKERS.get(task), task in ("arithmetic", "count")
        more = dict(options)
        if task == "arithmetic_direct":
            maker = arithmetic
        elif task == "one_step":
            maker, more = solve, {"one_step": True}
        elif task == "solution":
            more = {"one_step": False}
        elif task == "recall":
            more = {"pairs": rng.randint(30, 46), "questions": 1, **options}
        elif task == "tools":
            thinking = rng.random() < .5
        turns = maker(rng, test=True, **more)
        full = messages(turns, None, thinking)
        first = next(i for i, m in enumerate(full) if m["role"] == "user")
        out.append({"task": task, "thinking": thinking, "messages": full[:first + 1], "gold": full[first + 1:], "check": turns[0]["check"],
                    "steps": turns[0].get("steps", [])})
    return out


# ---------------------------------------------------------------------------------------------- checking


def boxed(text):
    found = re.findall(r"boxed\{([^{}]*)\}", text)
    try:
        return float(found[-1])
    except (IndexError, ValueError):
        return None


def check(item, reply):
    """Whether the final reply of an item is right."""
    text, (kind, want) = reply.get("content") or "", item["check"]
    if kind == "number":
        found = re.findall(r"= (-?\d+)", text)
        return bool(found) and int(found[-1]) == want
    if kind == "boxed":
        return HERE in text and BASED in text and boxed(text) == want
    if kind == "solution":
        m = re.search(r"## Solution\n(.*?)\n+## Self Evaluation\n", text, re.S)
        found = re.findall(r"-?\d+", m.group(1)) if m else []
        return bool(found) and int(found[-1]) == want
    return text.strip() == want


def run_tool(item, call):
    """The result of a call with {"name", "arguments"} as the gold conversation has it, or an error text for another call."""
    for s in item["steps"]:
        for c, r in zip(s["calls"], s["results"]):
            if c["name"] == call.get("name") and c["arguments"] == call.get("arguments"):
                return r
    return "error: unknown"


if __name__ == "__main__":
    import sys
    g = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    for t in MAKERS[sys.argv[1]](g):
        print(json.dumps(t, indent=1))
