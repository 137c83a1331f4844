"""What calf gains by judging and refining its own solutions: accuracy over iterations, drawn as SVG.

    python3 refine.py [--items 200] [--seed 1] [--threads 2] [--json] [-o refinement.svg]

Sums of three numbers in one step, which calf cannot do at once and can check digit by digit.  Sequential
refinement (minke.learn.prove) at several temperatures, each with the whole distribution, and beside it what as many
independent samples give, by majority vote and by the best self-score.  A solution counts by its result, whatever calf
says of it.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "bindings", "python")]
import tasks  # noqa: E402

ITERATIONS = 8
REFINED, SAMPLED = [1.0, 1.5, 2.0], 1.0          # temperatures
PROMPTS = pathlib.Path(HERE, "prompts.txt")
COLORS = {"refined": ["#0c4470", "#2374ab", "#5aa0cc"], "vote": "#b5562f", "best": "#d9a441"}


def right(solution, want):
    """Whether the last number of a solution is the wanted one."""
    found = re.findall(r"-?\d+", solution or "")
    return bool(found) and int(found[-1]) == want


def problems(n, seed):
    """[(statement, result)] of held-out sums in one step"""
    return [(re.search(r"## Problem\n(.*)", item["messages"][-1]["content"], re.S)[1], item["check"][1])
            for item in tasks.items("one_step", n, seed)]


def refined(learn, model, problem, seed, temperature):
    """-> (right after 1, 2, ... iterations, [its own judgement was true], [it said 1 and was wrong])"""
    statement, want = problem
    found = learn.prove(statement, model, seed=seed, max_rounds=ITERATIONS, max_tokens=400, context=2048,
                        temperature=temperature, top_p=1.0)
    last = {p.round: right(p.solution, want) for p in found.proofs}
    curve, now = [], False
    for k in range(1, ITERATIONS + 1):
        now = last.get(k, now)
        curve.append(now)
    told = [(p.self_score, right(p.solution, want)) for p in found.proofs]
    return curve, [((s or 0) > 0) == r for s, r in told], [s == 1 and not r for s, r in told]


def sampled(learn, model, problem, seed):
    """-> (right by majority vote, right by the best self-score) of the first 1, 2, ... samples"""
    statement, want = problem
    made = []

    def answer(ask, prompt, n, first):
        """The model's samples, kept."""
        with model.session(max_tokens=2048) as session:
            made.extend(learn.completions(model, session, prompt, n, first, max_tokens=400, temperature=SAMPLED, top_p=1.0))
        return made

    def chosen(driver, k):
        found = learn.prove(statement, lambda *_: made[:k], driver=driver, n_first=k)
        return right(found.solution, want)
    learn.prove(statement, answer, driver="vote", n_first=ITERATIONS, prompts=PROMPTS)
    return [[chosen(driver, k) for k in range(1, ITERATIONS + 1)] for driver in ("vote", "best")]


def shares(rows):
    return [sum(column) / len(column) for column in zip(*rows)]


def measure(a):
    """{name: {"accuracy": [...], ...}}"""
    from minke import Model, learn
    items, out = problems(a.items, a.seed), {}
    with Model(a.model, threads=1) as model, concurrent.futures.ThreadPoolExecutor(a.threads) as pool:
        def each(f, *more):
            return list(pool.map(lambda i: f(learn, model, items[i], a.seed * 1000003 + i, *more), range(len(items))))
        for t in REFINED:
            rows = each(refined, t)
            true, false = ([x for row in rows for x in row[k]] for k in (1, 2))
            out[f"refined_T{t:g}"] = {"accuracy": shares(row[0] for row in rows), "judgements_true": sum(true) / max(1, len(true)),
                                      "false_ones": sum(false), "solutions": len(true)}
        rows = each(sampled)
        for k, driver in enumerate(("vote", "best")):
            out[driver] = {"accuracy": shares(row[k] for row in rows)}
    return out


# ---------------------------------------------------------------------------------------------- drawing


def spread(places, gap, lowest):
    """Heights for labels, at least gap apart and none below lowest, near their places."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    y = [places[i] for i in order]
    for k in range(1, len(y)):
        y[k] = max(y[k], y[k - 1] + gap)
    for k in range(len(y) - 1, -1, -1):
        y[k] = min(y[k], lowest if k == len(y) - 1 else y[k + 1] - gap)
    return [v for _, v in sorted(zip(order, y))]


def drawing(out, n):
    """A line for each way, with its name behind its end."""
    width, height, left, top, right_, bottom = 720, 380, 64, 64, 190, 52
    w, h = width - left - right_, height - top - bottom
    x = lambda k: left + w * k / (ITERATIONS - 1)
    y = lambda v: top + h * (1 - v)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{left}" y="24" font-size="15">calf refines its own solutions</text>',
           f'<text x="{left}" y="43" fill="#666">Sums of three numbers in one step: right results of {n} problems</text>']
    for v in (0, .25, .5, .75, 1):
        svg.append(f'<line x1="{left}" x2="{left + w}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="{"#888" if v == 0 else "#e3e6e8"}"/>')
        svg.append(f'<text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end" fill="#444">{100 * v:.0f} %</text>')
    for k in range(ITERATIONS):
        svg.append(f'<text x="{x(k):.1f}" y="{top + h + 18}" text-anchor="middle" fill="#444">{k + 1}</text>')
    svg.append(f'<text x="{left + w / 2}" y="{height - 14}" text-anchor="middle">solutions made: iterations of refinement, or independent samples</text>')
    names = {**{f"refined_T{t:g}": (f"refined, T = {t:g}", c) for t, c in zip(REFINED, COLORS["refined"])},
             "vote": (f"majority vote, T = {SAMPLED:g}", COLORS["vote"]), "best": (f"best self-score, T = {SAMPLED:g}", COLORS["best"])}
    ends = spread([y(out[name]["accuracy"][-1]) for name in names], 17, y(0))
    for (name, (label, color)), end in zip(names.items(), ends):
        points = [(x(k), y(v)) for k, v in enumerate(out[name]["accuracy"])]
        svg.append(f'<polyline points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}" fill="none" stroke="{color}" stroke-width="2"'
                   + (' stroke-dasharray="5 3"' if name in ("vote", "best") else "") + '/>')
        svg += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{color}"/>' for px, py in points]
        svg.append(f'<text x="{left + w + 12}" y="{end + 4:.1f}" fill="{color}">{label}: {100 * out[name]["accuracy"][-1]:.0f} %</text>')
    return "\n".join(svg + ["</svg>"]) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--items", type=int, default=200), p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2), p.add_argument("--model", default=HERE)
    p.add_argument("--json", action="store_true"), p.add_argument("-o", metavar="FILE.svg", help="draw the curves")
    a = p.parse_args()
    if a.items < 1 or a.threads < 1:
        p.error("--items and --threads are at least 1")
    begun, out = time.time(), measure(a)
    if a.o:
        with open(a.o, "w", encoding="utf-8") as f:
            f.write(drawing(out, a.items))
    if a.json:
        print(json.dumps(out))
        return
    for name, row in out.items():
        more = "" if "false_ones" not in row else \
            f"  judged rightly {row['judgements_true']:.1%} of {row['solutions']}, {row['false_ones']} wrong ones called right"
        print(f"{name:13}" + "".join(f"{v:7.1%}" for v in row["accuracy"]) + more)
    print(f"{time.time() - begun:.1f} s")


if __name__ == "__main__":
    main()
