"""Train calf.

    python3 train.py --out RUN                 # the reference run
    python3 train.py --out RUN --smoke         # two minutes on a CPU; fails when the loss has not fallen

Stages: dense attention; then two short ones, in which only the indexer learns (from the attention's own
distribution, as DeepSeek-V3.2 warmed it up); then sparse attention with everything learning, the
multi-token-prediction layer too, at last on more of the tasks that are hard (the polish).  Experts are balanced by their bias alone.
RUN holds the log and checkpoints (several small files); started again with the same arguments it goes on where it was.
--seconds N stops after N seconds with a checkpoint.
"""
import argparse
import json
import math
import os
import queue
import threading
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

import data
import model as M
import tasks

BIAS_SPEED, MTP_WEIGHT, KL_WEIGHT, CLIP = (1e-2, 1e-3), .3, 1.0, 1.0      # the bias is quick until half of the steps


def stage(n, a):
    return "dense" if n < a.dense else "warm" if n < a.dense + a.warm else "sparse"


def rate(n, a):
    """Share of the peak learning rate at step n: a short rise, a plateau, then down to 2 % in a straight line; the
    polish rises once more, to 30 %."""
    if n >= a.steps:
        return min((n - a.steps + 1) / 100, .3 * max(.02, 1 - (n - a.steps) / a.polish))
    return min(1, (n + 1) / 100) * min(1, max(.02, 1 - .98 * (n - a.plateau) / (a.steps - a.plateau)))


class Muon:
    """Momentum whose update is made orthogonal by Newton-Schulz steps, for the matrices inside the layers."""

    def __init__(self, params, experts):
        self.params, self.experts, self.moment = params, experts, [torch.zeros_like(p) for p in params]

    @staticmethod
    def orthogonal(g):
        x = g.bfloat16()
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        tall = x.shape[-2] > x.shape[-1]
        x = x.mT if tall else x
        for _ in range(5):
            s = x @ x.mT
            x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
        return (x.mT if tall else x).float()

    @torch.no_grad()
    def step(self, lr, decay):
        for p, v in zip(self.params, self.moment):
            if p.grad is None:
                continue
            v.lerp_(p.grad, .05)
            g = p.grad.lerp(v, .95)
            E = self.experts.get(id(p))
            g = g.view(E, -1, g.shape[-1]) if E else g
            u = self.orthogonal(g) * (max(1, g.shape[-2] / g.shape[-1]) ** .5)
            p.mul_(1 - lr * decay).add_(u.reshape(p.shape), alpha=-lr)


def optimizers(m):
    inner = {n: p for n, p in m.named_parameters() if p.ndim >= 2 and "embed" not in n and "lm_head" not in n and "gate.weight" not in n
             and "weights_proj" not in n}
    E = m.c["n_routed_experts"]
    stacked = {id(p): E for n, p in inner.items() if n.endswith(("mlp.gate_proj", "mlp.up_proj"))}
    muon = Muon(list(inner.values()), stacked)
    gates = [p for n, p in m.named_parameters() if "gate.weight" in n]
    rest = [{"params": [p for n, p in m.named_parameters() if n not in inner and "gate.weight" not in n], "share": 1.0},
            {"params": gates, "share": .1, "weight_decay": .1}]
    return muon, torch.optim.AdamW(rest, betas=(.9, .95), eps=1e-10, weight_decay=0.0, fused=True)


def losses(m, rows, mode, mtp):
    """-> next-token loss, MTP loss, indexer loss, loads"""
    ids, learnt = rows & 0x7FFF, (rows >> 15).bool()
    h, z, kl, loads = m(ids, mode, mtp)
    real = (ids != data.PAD).float()
    kl = [(x * real).sum() / real.sum() for x in kl if x is not None]
    kl = sum(kl) / len(kl) if kl else None
    if mode == "warm":
        return None, None, kl, loads

    def ce(x, k):
        at, t = learnt[:, k:].flatten().nonzero()[:, 0], ids[:, k:].flatten()
        more = at.new_zeros(-len(at) % 256)           # few different shapes
        label = torch.cat((t[at], torch.full_like(more, -100)))
        z = m.lm_head(x[:, :-k].flatten(0, 1)[torch.cat((at, more))])
        return F.cross_entropy(z.float(), label)

    return ce(h, 1), ce(z, 2) if mtp else None, kl, loads


def balance(m, loads, speed):
    """The bias of an expert that got too little rises, of one that got too much falls."""
    for b, load in zip(m.layers, loads):
        if load is not None:
            b.mlp.gate.e_score_correction_bias += speed * torch.sign(load.mean() - load)


@torch.no_grad()
def evaluate(m, a, mode, n=100, names=None, seed=1, **options):
    """Share of held-out items whose every answer token is the arg-max after the right ones, and how often MTP's
    arg-max is the model's next."""
    out = {}
    for task in names or tasks.TASKS + tasks.EXTRA:
        right, hit, seen = 0, 0, 0
        for rows in data.test_batches(task, n, seed, 16384, **options):
            r = torch.from_numpy(rows.astype("int32")).to(a.device).long()
            ids, learnt = r & 0x7FFF, (r >> 15).bool()
            with torch.autocast(a.device, torch.bfloat16, enabled=a.bf16):
                h, z, _, _ = m(ids, mode)
                best, draft = m.lm_head(h).argmax(-1), m.lm_head(z).argmax(-1)
            right += (((best[:, :-1] == ids[:, 1:]) | ~learnt[:, 1:]).all(1) & learnt.any(1)).sum().item()
            hit += ((draft[:, :-2] == best[:, 1:-1]) & learnt[:, 2:]).sum().item()
            seen += learnt[:, 2:].sum().item()
        out[task] = (right / n, hit / seen)
    return out


def share(m, loads, procs):
    """Mean of all gradients and expert loads over the processes."""
    if procs == 1:
        return
    ts = [p.grad for p in m.parameters() if p.grad is not None] + [x for x in loads if x is not None]
    flat = torch.cat([t.flatten() for t in ts])
    dist.all_reduce(flat)
    flat /= procs
    for t, f in zip(ts, flat.split([t.numel() for t in ts])):
        t.copy_(f.view_as(t))


def show(e):
    return " ".join(f"{k} {v:.3f}/{d:.2f}" for k, (v, d) in e.items())


def parts(folder):
    return sorted(f for f in os.listdir(folder) if f.startswith("state.") and f.endswith(".pt"))


def save(folder, m, muon, adam, n):
    """In files of at most 12 MB; the moments in bf16."""
    flat = {("w", k): v for k, v in m.state_dict().items()}
    flat.update({("m", i): v.to(torch.bfloat16) for i, v in enumerate(muon.moment)})
    for k, s in adam.state_dict()["state"].items():
        flat.update({("a", k, x): (y.to(torch.bfloat16) if y.ndim else y) for x, y in s.items()})
    chunks, size = [{}], 0
    for k, v in flat.items():
        v = v.detach().to("cpu")
        if size + v.nbytes > 12_000_000:
            chunks.append({})
            size = 0
        chunks[-1][k], size = v, size + v.nbytes
    for i, c in enumerate(chunks):
        torch.save({"step": n, "data": c}, os.path.join(folder, f"state.{i}.tmp"))
    for i in range(len(chunks)):
        os.replace(os.path.join(folder, f"state.{i}.tmp"), os.path.join(folder, f"state.{i}.pt"))


def load(folder, m, muon=None, adam=None):
    """-> the step to go on with"""
    flat, n = {}, 0
    for f in parts(folder):
        c = torch.load(os.path.join(folder, f), map_location="cpu", weights_only=True)
        flat.update(c["data"])
        n = c["step"]
    m.load_state_dict({k[1]: v for k, v in flat.items() if k[0] == "w"})
    if muon:
        for i, v in enumerate(muon.moment):
            v.copy_(flat["m", i])
        state = adam.state_dict()
        for k, v in flat.items():
            if k[0] == "a":
                state["state"].setdefault(k[1], {})[k[2]] = v.float()
        adam.load_state_dict(state)
    return n


def feed(a, first):
    """Batches on the device, a few ahead."""
    q = queue.Queue(16)

    def work():
        for rows in data.stream(a.seed, first, a.steps, a.polish, a.size, a.workers, a.rank):
            q.put(torch.from_numpy(rows.astype("int32")))

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield q.get().to(a.device).long()


def run(rank, a):
    a.rank, begun, first_rank = rank, time.time(), rank == 0
    torch.manual_seed(a.seed)
    if a.device == "cpu":
        torch.set_num_threads(1 if a.procs > 1 else a.threads)
    if a.procs > 1:
        dist.init_process_group("gloo", init_method=f"file://{os.path.abspath(a.out)}/meet", rank=rank, world_size=a.procs)
    m = M.Calf().to(a.device)
    muon, adam = optimizers(m)
    first = load(a.out, m, muon, adam) if parts(a.out) else 0
    log_file = open(os.path.join(a.out, "log.txt"), "a") if first_rank else None

    def log(s):
        if first_rank:
            print(s, flush=True), print(s, file=log_file, flush=True)

    log(f"settings {json.dumps({k: v for k, v in vars(a).items() if k not in ('out', 'rank')})} "
        f"parameters {sum(x.numel() for x in m.parameters())} from step {first}")
    if first == 0:
        log(f"config {json.dumps(M.CONFIG)}")
    sums, tokens, last, now, start = {}, 0, time.time(), None, None
    trunk = [x for n, x in m.named_parameters() if "indexer" not in n]
    for n, rows in zip(range(first, a.steps + a.polish), feed(a, first)):
        mode = stage(n, a)
        if mode != now:
            log(f"stage {mode} from step {n}")
            now = mode
            for x in trunk:
                x.requires_grad_(mode != "warm")
        r = rate(n, a)
        # to save time the extra layer learns from every eighth batch at first, then it and the indexer from every third
        mtp = n % 8 == 0 if mode == "dense" else mode == "warm" or n % 3 == 0
        form = "sparse_only" if mode == "sparse" and not mtp else mode
        with torch.autocast(a.device, torch.bfloat16, enabled=a.bf16):
            ce, ce2, kl, loads = losses(m, rows, form, mtp)
        sum(w * x for w, x in ((1, ce), (MTP_WEIGHT, ce2), (KL_WEIGHT, kl)) if x is not None).backward()
        share(m, loads, a.procs)
        norm = torch.nn.utils.clip_grad_norm_([x for x in m.parameters() if x.grad is not None], CLIP)
        for g in adam.param_groups:
            g["lr"] = a.adam_lr * r * g["share"]
        adam.step()
        muon.step(a.lr * (1 if mode == "warm" else r), .02)
        m.zero_grad(set_to_none=True)
        if mode != "warm":
            balance(m, loads, BIAS_SPEED[n > .5 * a.steps])
        for k, x in (("loss", ce), ("mtp", ce2), ("kl", kl), ("norm", norm)):
            if x is not None:
                sums.setdefault(k, []).append(x.detach())
        tokens += rows.numel() * a.procs
        done = n + 1 == a.steps + a.polish or time.time() - begun > a.seconds
        if a.procs > 1 and n % 10 == 9:              # all stop at the same step
            flag = torch.tensor([float(done)])
            dist.broadcast(flag, 0)
            done = bool(flag)
        elif a.procs > 1:
            done = n + 1 == a.steps + a.polish
        if (n + 1) % a.log_every == 0 or done:
            means = {k: torch.stack(v).mean().item() for k, v in sums.items()}
            start = start or means
            busy = [round(x.max().item() / x.mean().item(), 2) for x in loads if x is not None]
            log(f"step {n + 1} {mode} " + " ".join(f"{k} {v:.4f}" for k, v in means.items()) +
                f" busiest expert {busy} rate {r:.3f} {tokens / (time.time() - last) / 1e3:.1f} ktok/s {time.time() - begun:.0f} s")
            sums, tokens, last = {}, 0, time.time()
        if first_rank and ((n + 1) % 250 == 0 or done):
            save(a.out, m, muon, adam, n + 1)
        if first_rank and ((n + 1) % a.eval_every == 0 or done) and not a.smoke:
            e = "dense" if mode == "dense" else "sparse_only"
            log(f"eval {e}: " + show(evaluate(m, a, e, a.eval_items)))
            last = time.time()
        if done:
            break
    if a.smoke:
        log(f"smoke: loss {start['loss']:.3f} -> {means['loss']:.3f}")
    log(f"stopped after step {n + 1}, {time.time() - begun:.0f} s")
    os._exit(int(a.smoke and means["loss"] > .7 * start["loss"]))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True), p.add_argument("--steps", type=int, default=7000, help="all but the polish")
    p.add_argument("--dense", type=int, help="steps of dense attention; two thirds"), p.add_argument("--warm", type=int, default=100, help="of the indexer alone")
    p.add_argument("--polish", type=int, default=2900, help="steps behind these, on more of the hard tasks")
    p.add_argument("--plateau", type=int, help="steps before the learning rate falls")
    p.add_argument("--size", type=int, default=65536, help="tokens a step and process"), p.add_argument("--seed", type=int, default=32)
    p.add_argument("--lr", type=float, default=.02), p.add_argument("--adam-lr", type=float, default=3e-3)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu"), p.add_argument("--seconds", type=float, default=1e9)
    p.add_argument("--procs", type=int, default=2, help="processes that share the work (CPU)"), p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=4, help="processes that make data; 0: in the trainer itself")
    p.add_argument("--smoke", action="store_true"), p.add_argument("--no-bf16", dest="bf16", action="store_false")
    p.add_argument("--eval-every", type=int, default=1000), p.add_argument("--eval-items", type=int, default=50)
    p.add_argument("--log-every", type=int, default=100)
    a = p.parse_args()
    a.dense, a.plateau = a.dense or int(.67 * a.steps), a.plateau or int(.35 * a.steps)
    if a.smoke:
        a.device, a.size, a.seconds, a.log_every, a.procs, a.workers = "cpu", 1024, min(a.seconds, 120), 10, 1, 0
    if a.device != "cpu":
        a.procs = 1
    os.makedirs(a.out, exist_ok=True)
    if os.path.exists(os.path.join(a.out, "meet")):
        os.remove(os.path.join(a.out, "meet"))
    if a.procs == 1:
        run(0, a)
    mp.spawn(run, (a,), a.procs)


if __name__ == "__main__":
    main()
