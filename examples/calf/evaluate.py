#!/usr/bin/env python3
"""Ask calf held-out questions through minke and count the right answers.

    python3 examples/calf/evaluate.py [--items N] [--task T] [--json] [--model DIR] [--seed N] [--threads N]

Answers are generated greedily.  --json prints {"tasks": {name: {"accuracy", "items"}}, "contrasts": {...}}: `tasks` are
those with a threshold, `contrasts` the rest.  Exit status 1 when a task is below its threshold.
"""
import argparse
import json
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "bindings", "python")]
import encoding as enc  # noqa: E402
import tasks  # noqa: E402

LONGEST, WINDOW = 400, 64
CALL = re.compile(rf'<{enc.D}invoke name="([^"]*)">\n(.*?)</{enc.D}invoke>', re.S)
PARAMETER = re.compile(rf'<{enc.D}parameter name="([^"]*)" string="(true|false)">(.*?)</{enc.D}parameter>', re.S)


def parse(text, thinking):
    """A generated reply -> the assistant's message"""
    m = {"role": "assistant", "content": text}
    if thinking:
        m["reasoning_content"], _, m["content"] = text.partition(enc.END_THINK)
    head, mark, calls = m["content"].partition(f"\n\n<{enc.D}function_calls>")
    if mark:
        m["content"] = head
        m["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": json.dumps(
            {k: v if s == "true" else json.loads(v) for k, s, v in PARAMETER.findall(p)})}} for n, p in CALL.findall(calls)]
    return m


class Asker:
    def __init__(self, model):
        self.m, self.s, self.greedy = model, model.session(max_tokens=2048, mtp=True), model.sampler()
        self.eos, self.drafted, self.accepted = model.token_find(enc.EOS), 0, 0

    def reply(self, text, window=0):
        """Greedy continuation; counts how often the prediction layer's draft is the model's choice."""
        ids = self.m.tokenize(text)
        if window:
            return self.m.detokenize(self.windowed(ids, window))
        self.s.sync(ids)
        out, draft = [], None
        while len(out) < LONGEST:
            t = self.greedy.sample(self.s)
            if draft is not None:
                self.drafted, self.accepted = self.drafted + 1, self.accepted + (draft == t)
            if t == self.eos:
                break
            out.append(t)
            row = self.s.mtp(t)
            draft = max(range(len(row)), key=row.__getitem__)
            self.s.eval([t], logits="none")
        return self.m.detokenize(out)

    def windowed(self, ids, window):
        """As if only the last tokens could be seen."""
        out = []
        while len(out) < 24:
            self.s.truncate(0)
            self.s.eval(ids[:1] + (ids + out)[1 - window:], logits="none")
            t = self.greedy.sample(self.s)
            if t == self.eos:
                break
            out.append(t)
        return out

    def right(self, item, window=0):
        """Whether an item is answered rightly; tools run until the model answers."""
        messages, wanted = list(item["messages"]), sum(len(s["calls"]) for s in item["steps"])
        good = 0
        for _ in range(4):
            text = self.reply(enc.render(messages, item["thinking"]), window)
            m = parse(text, item["thinking"])
            if not m.get("tool_calls"):
                return good == wanted and tasks.check(item, m)
            if not m.get("reasoning_content"):
                m.pop("reasoning_content", None)
            messages.append(m)
            for c in m["tool_calls"]:
                f = c["function"]
                result = tasks.run_tool(item, {"name": f["name"], "arguments": json.loads(f["arguments"])})
                good += not result.startswith("error")
                messages.append({"role": "tool", "content": result})
        return False


def score(asker, task, n, seed, window=0, **options):
    items = tasks.items(task, n, seed, **options)
    return {"accuracy": sum(asker.right(i, window) for i in items) / len(items), "items": len(items)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--items", type=int, default=100), p.add_argument("--task"), p.add_argument("--json", action="store_true")
    p.add_argument("--model", default=HERE), p.add_argument("--seed", type=int, default=1), p.add_argument("--threads", type=int, default=2)
    p.add_argument("--no-contrasts", action="store_true")
    a = p.parse_args()
    import minke
    out, begun = {"tasks": {}, "contrasts": {}}, time.time()
    with minke.Model(a.model, threads=a.threads) as model:
        asker = Asker(model)
        for t in tasks.TASKS:
            if a.task in (None, t):
                out["tasks"][t] = score(asker, t, a.items, a.seed)
        if asker.drafted:
            out["contrasts"]["mtp_acceptance"] = {"accuracy": asker.accepted / asker.drafted, "items": asker.drafted}
        few = max(1, a.items // 5)
        if not a.no_contrasts:
            for t in tasks.EXTRA:
                if a.task in (None, t, t.split("_")[0]):
                    out["contrasts"][t] = score(asker, t, few if t in ("solution", "one_step") else a.items, a.seed)
            if a.task in (None, "recall"):
                out["contrasts"]["recall_window"] = score(asker, "recall", few, a.seed, window=WINDOW)
    if a.json:
        print(json.dumps(out))
    else:
        for kind, rows in out.items():
            for t, r in rows.items():
                need = f"  at least {tasks.THRESHOLDS[t]:.0%}" if t in tasks.THRESHOLDS else ""
                print(f"{kind:9} {t:18} {r['accuracy']:7.1%} of {r['items']}{need}")
        print(f"{time.time() - begun:.1f} s")
    return int(any(r["accuracy"] < tasks.THRESHOLDS[t] for t, r in out["tasks"].items()))


if __name__ == "__main__":
    sys.exit(main())
