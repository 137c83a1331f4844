#!/usr/bin/env python3
"""Ask calf held-out questions through minke and count the right answers.

    python3 examples/calf/evaluate.py [--items N] [--task T] [--json] [--no-contrasts]
                                      [--model DIR] [--seed N] [--threads N] [--experts FILE.svg]

Answers are generated greedily.  --json prints {"tasks": {name: {"accuracy", "items"}}, "contrasts": {...}}: `tasks` are
those with a threshold, `contrasts` the rest: tasks without one, recall by length with sparse, dense and windowed
attention, the model in other types, how often the prediction layer's draft was the model's choice.  --task takes a
task's name or a contrast's (types, lengths, refinement).  Exit status 1 when a task is below its threshold.
"""
import argparse
import collections
import concurrent.futures
import json
import math
import os
import queue
import re
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "bindings", "python")]
import encoding as enc  # noqa: E402
import tasks  # noqa: E402
import variants  # noqa: E402

LONGEST, WINDOW, ROUNDS = 400, 64, 2
PAIRS = [8, 16, 32, 46]                        # of the lists of `lengths`
SHARE = {"solution": .4, "one_step": .4}       # of the items, where answers are long
CALL = re.compile(rf'<{enc.D}invoke name="([^"]*)">\n(.*?)</{enc.D}invoke>', re.S)
PARAMETER = re.compile(rf'<{enc.D}parameter name="([^"]*)" string="(true|false)">(.*?)</{enc.D}parameter>', re.S)


def arguments(text):
    """The parameters of a call; what is no JSON stays a text."""
    out = {}
    for k, is_text, v in PARAMETER.findall(text):
        try:
            out[k] = v if is_text == "true" else json.loads(v)
        except ValueError:
            out[k] = v
    return out


def parse(text, thinking):
    """A generated reply -> the assistant's message"""
    m = {"role": "assistant", "content": text}
    if thinking:
        m["reasoning_content"], _, m["content"] = text.partition(enc.END_THINK)
    head, mark, calls = m["content"].partition(f"\n\n<{enc.D}function_calls>")
    if mark:
        m["content"] = head
        m["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": json.dumps(arguments(p))}}
                           for n, p in CALL.findall(calls)]
    return m


class Asker:
    """One session: a conversation at a time."""

    def __init__(self, model, mtp=True, **attention):
        self.m, self.s, self.greedy, self.mtp = model, model.session(max_tokens=2048, mtp=mtp, **attention), model.sampler(), mtp
        self.eos, self.drafts = model.token_find(enc.EOS), collections.defaultdict(lambda: [0, 0])

    def close(self):
        self.s.close(), self.greedy.close()

    def reply(self, text, task, longest=LONGEST):
        """Greedy continuation; counts how often the prediction layer's draft is the model's choice."""
        self.s.sync(self.m.tokenize(text))
        out, draft, seen = [], None, self.drafts[task]
        while len(out) < longest:
            t = self.greedy.sample(self.s)
            if draft is not None:
                seen[0], seen[1] = seen[0] + (draft == t), seen[1] + 1
            if t == self.eos:
                break
            out.append(t)
            if self.mtp:
                draft = self.greedy.sample(self.s.mtp(t))
            self.s.eval([t], logits="none")
        return self.m.detokenize(out)

    def answer(self, item, longest=LONGEST):
        """-> (the final message, whether every tool call was a wanted one); tools run until the model answers."""
        messages, wanted, good = list(item["messages"]), sum(len(s["calls"]) for s in item["steps"]), 0
        for _ in range(4):
            m = parse(self.reply(enc.render(messages, item["thinking"]), item["task"], longest), item["thinking"])
            if not m.get("tool_calls"):
                return m, good == wanted
            if not m.get("reasoning_content"):
                m.pop("reasoning_content", None)
            messages.append(m)
            for c in m["tool_calls"]:
                f = c["function"]
                result = tasks.run_tool(item, {"name": f["name"], "arguments": json.loads(f["arguments"])})
                good += not result.startswith("error")
                messages.append({"role": "tool", "content": result})
        return {"content": ""}, False

    def right(self, item, longest=LONGEST):
        m, calls = self.answer(item, longest)
        return calls and tasks.check(item, m)

    def refined(self, item):
        """A solution with its own evaluation, then better ones made from it: [right, right after one round, ...] and
        for each whether the solution's own evaluation told the truth."""
        asked = item["messages"][-1]["content"]
        right, honest, ask = [], [], asked
        for _ in range(ROUNDS + 1):
            text = self.reply(enc.render([{"role": "user", "content": ask}], False), item["task"])
            proof, _, rating = text.partition("\n\n## Self Evaluation\n")
            right.append(tasks.check(item, {"content": text}))
            honest.append(tasks.boxed(rating) is not None and (tasks.boxed(rating) > 0) == right[-1])
            ask = tasks.PROMPTS["proof_refinement"].format(instruction=asked, proofs_to_refine=(
                f"--- Solution 1 ---\n{proof.partition(chr(10))[2]}\n\n=== Evaluation 1 of Solution 1 ===\n{rating}"))
        return right, honest

    def rows(self, item):
        """Logits before every token of the right answer."""
        ids, learnt = [], []
        for text, own in enc.segments(item["messages"] + item["gold"], item["thinking"]):
            t = self.m.tokenize(text)
            ids, learnt = ids + t, learnt + [own] * len(t)
        self.s.truncate(0)
        rows = self.s.eval(ids, logits="all")
        return [rows[i - 1] for i in range(1, len(ids)) if learnt[i]]


class Room:
    """A model and as many sessions as threads; every thread evaluates its own items on one core."""

    def __init__(self, path, threads, **options):
        import minke
        self.model, self.askers = minke.Model(path, threads=1), queue.Queue()
        for _ in range(threads):
            self.askers.put(Asker(self.model, **options))
        self.threads = threads

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drafts = collections.Counter()
        for _ in range(self.threads):
            a = self.askers.get()
            for task, (hit, seen) in a.drafts.items():
                self.drafts[task, 0] += hit
                self.drafts[task, 1] += seen
            a.close()
        self.model.close()

    def map(self, f, items):
        """[f(asker, item)], in the items' order"""
        def work(item):
            asker = self.askers.get()
            try:
                return f(asker, item)
            finally:
                self.askers.put(asker)
        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, items))

    def accuracy(self, items, longest=LONGEST):
        return mean(self.map(lambda a, i: a.right(i, longest), items))


def mean(x):
    x = list(x)
    return {"accuracy": sum(x) / len(x) if x else 0.0, "items": len(x)}


def softmax(row):
    top = max(row)
    e = [math.exp(x - top) for x in row]
    z = sum(e)
    return [x / z for x in e], top + math.log(z)


def kl(p, q):
    """Of two rows of logits, in nats."""
    (w, zp), (_, zq) = softmax(p), softmax(q)
    return sum(a * (x - y) for a, x, y in zip(w, p, q) if a > 1e-9) - zp + zq


def lengths(a, n):
    """Recall from lists of several lengths, by what attention may see."""
    out, lists = {}, {k: tasks.items("recall", n, a.seed, pairs=k) for k in PAIRS}
    for kind in ("dsa", "dense", "window"):
        with Room(a.model, a.threads, mtp=False, attention=kind, window=WINDOW * (kind == "window")) as room:
            for k, items in lists.items():
                size = sum(len(room.model.tokenize(i["messages"][-1]["content"])) for i in items) / n
                out[f"recall_{k}_pairs_{kind}"] = {**room.accuracy(items, 24), "tokens": round(size)}
    return out


def types(a, n):
    """All tasks in smaller types, and how far their distributions are from the model's own."""
    out, items = {}, [i for t in tasks.TASKS for i in tasks.items(t, n, a.seed + 1)]
    few = [i for t in tasks.TASKS for i in tasks.items(t, 2, a.seed + 2)]
    size = os.path.getsize(os.path.join(a.model, "model.safetensors"))
    with Room(a.model, a.threads, mtp=False) as room:
        own = room.map(lambda s, i: s.rows(i), few)
        out["type_bf16"] = {**room.accuracy(items), "kl": 0.0, "bytes": size}
    with tempfile.TemporaryDirectory() as folder:
        for kind in variants.TYPES:
            path, size = variants.write(a.model, folder, kind)
            with Room(path, a.threads, mtp=False) as room:
                pairs = [(p, q) for x, y in zip(own, room.map(lambda s, i: s.rows(i), few)) for p, q in zip(x, y)]
                out[f"type_{kind}"] = {**room.accuracy(items), "kl": sum(kl(p, q) for p, q in pairs) / len(pairs), "bytes": size}
    return out


def refinement(room, a, n):
    """Sums in one step: right at once, after refinement, and whether the model's own evaluation tells which."""
    got = room.map(lambda s, i: s.refined(i), tasks.items("one_step", n, a.seed))
    out = {f"refined_{k}": mean(right[k] for right, _ in got) for k in range(ROUNDS + 1)}
    out["self_evaluation"] = mean(h for _, honest in got for h in honest)
    return out


def expert_use(a, n, path):
    """Shares of routed tokens by task, layer and expert, drawn as SVG; -> {task: rows of shares, one a layer}"""
    import minke
    with open(os.path.join(a.model, "config.json"), encoding="utf-8") as f:
        c = json.load(f)
    first, last, E = c["first_k_dense_replace"], c["num_hidden_layers"], c["n_routed_experts"]
    use, now = {t: [[0] * E for _ in range(last)] for t in tasks.TASKS + ["courtesy"]}, [None]

    def see(kind, layer, token, values):
        for e, _ in values:
            use[now[0]][layer][e] += layer < last

    with minke.Model(a.model, threads=a.threads) as model, model.session(max_tokens=2048, observe=see, observe_kinds=["experts"]) as s:
        for now[0] in use:
            for i in tasks.items(now[0], n, a.seed):
                s.truncate(0)
                s.eval(model.tokenize(enc.render(i["messages"] + i["gold"], i["thinking"])), logits="none")
    shares = {t: [[x / max(1, sum(row)) for x in row] for row in rows[first:]] for t, rows in use.items()}
    with open(path, "w", encoding="utf-8") as f:
        f.write(drawing(shares, first, E))
    return shares


def drawing(shares, first, E):
    """A row a task, a group of squares a layer, a square an expert: the darker, the more tokens it gets."""
    cell, left, top, gap = 22, 100, 56, 18
    layers = len(next(iter(shares.values())))
    width, height = left + layers * (E * cell + gap) + 8, top + cell * len(shares) + 46
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{left}" y="18">Expert use by task: share of the routed tokens in percent</text>']
    for l in range(layers):
        x = left + l * (E * cell + gap)
        out.append(f'<text x="{x}" y="{top - 20}">layer {first + l}</text>')
        out += [f'<text x="{x + e * cell + cell / 2}" y="{top - 5}" text-anchor="middle" font-size="10" fill="#666">{e}</text>' for e in range(E)]
    for r, (task, rows) in enumerate(shares.items()):
        y = top + r * cell
        out.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{task}</text>')
        for l, row in enumerate(rows):
            for e, v in enumerate(row):
                x, deep = left + l * (E * cell + gap) + e * cell, min(1, v * E / 3)
                shade = [round(a + (b - a) * deep) for a, b in zip((239, 244, 248), (12, 68, 112))]
                out.append(f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="rgb({shade[0]},{shade[1]},{shade[2]})"/>')
                out.append(f'<text x="{x + cell / 2 - .5}" y="{y + 15}" text-anchor="middle" font-size="9" '
                           f'fill="{"#fff" if deep > .5 else "#345"}">{100 * v:.0f}</text>')
    out.append(f'<text x="{left}" y="{height - 14}" font-size="10" fill="#666">equal use: {100 / E:.1f} percent each</text></svg>')
    return "\n".join(out) + "\n"


def contrasts(a, room, out):
    wanted = lambda *names: not a.no_contrasts and (a.task is None or a.task in names)
    few = max(2, a.items // 5)
    for t in tasks.EXTRA:
        if wanted(t) and t != "one_step":
            out[t] = room.accuracy(tasks.items(t, max(2, int(a.items * SHARE.get(t, 1))), a.seed))
    if wanted("refinement", "one_step"):
        out.update(refinement(room, a, max(2, int(a.items * SHARE["one_step"]))))
    if wanted("lengths", "recall"):
        out.update(lengths(a, few))
    if wanted("types"):
        out.update(types(a, max(2, a.items // 8)))


def table(out):
    for kind, rows in out.items():
        for t, r in rows.items():
            need = f"  at least {tasks.THRESHOLDS[t]:.0%}" if t in tasks.THRESHOLDS else ""
            more = "".join(f"  {k} {v:.4g}" for k, v in r.items() if k not in ("accuracy", "items"))
            print(f"{kind:9} {t:24} {r['accuracy']:7.1%} of {r['items']}{need}{more}")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--items", type=int, default=100), p.add_argument("--task"), p.add_argument("--json", action="store_true")
    p.add_argument("--model", default=HERE), p.add_argument("--seed", type=int, default=1), p.add_argument("--threads", type=int, default=2)
    p.add_argument("--no-contrasts", action="store_true"), p.add_argument("--experts", metavar="FILE.svg", help="draw expert use by task")
    a = p.parse_args()
    known = tasks.TASKS + tasks.EXTRA + ["types", "lengths", "refinement"]
    if a.items < 1 or a.threads < 1 or a.task not in [None] + known:
        p.error("--items and --threads are at least 1, tasks are: " + " ".join(known))
    out, begun = {"tasks": {}, "contrasts": {}}, time.time()
    with Room(a.model, a.threads) as room:
        for t in tasks.TASKS:
            if a.task in (None, t):
                out["tasks"][t] = room.accuracy(tasks.items(t, a.items, a.seed))
        contrasts(a, room, out["contrasts"])
    for t in [t for t in tasks.TASKS + ["all"] if not a.no_contrasts and room.drafts]:
        hit, seen = (sum(v for (x, k), v in room.drafts.items() if k == j and t in (x, "all")) for j in (0, 1))
        if seen:
            out["contrasts"][f"drafts_{t}"] = {"accuracy": hit / seen, "items": seen}
    if a.experts:
        expert_use(a, max(2, a.items // 2), a.experts)
    if a.json:
        print(json.dumps(out))
    else:
        table(out)
        print(f"{time.time() - begun:.1f} s")
    return int(any(r["accuracy"] < tasks.THRESHOLDS[t] for t, r in out["tasks"].items()))


if __name__ == "__main__":
    sys.exit(main())
