"""Training batches: conversations of like length, tokenized on the fly by worker processes.

A row is one conversation, padded at its end, in uint16: bit 15 = the model learns to write this token, the rest is
the token.  Every block of batches depends on its number and the seed alone.
"""
import multiprocessing as mp
import os
import random
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
import encoding as enc  # noqa: E402
import tasks  # noqa: E402
from tokenizer import Tokenizer  # noqa: E402

LEARN, PAD, LENGTHS, BLOCK = 1 << 15, 2, [48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768], 32
TOK = None


def tokenizer():
    global TOK
    if TOK is None:
        TOK = Tokenizer(os.path.join(HERE, "..", "tokenizer.json"))
    return TOK


def sample(messages, thinking):
    """-> values of one conversation"""
    t, out = tokenizer(), []
    written = iter([m for m in messages if m["role"] == "assistant"])
    for text, own in enc.segments(messages, thinking):
        if not own:
            out += t.encode(text)
            continue
        m = next(written)
        learnt = not m.get("skip")
        if learnt and m.get("learn_from"):          # a damaged solution is shown, only its evaluation is learnt
            at = text.index(m["learn_from"])
            out += t.encode(text[:at])
            text = text[at:]
        out += [i | LEARN if learnt else i for i in t.encode(text)]
    return out


def pad(rows, size):
    """A batch of one of a few shapes (fresh shapes are slow on a CPU)."""
    n = next(x for x in LENGTHS if x >= len(rows[0]))
    out = np.full((max(1, size // n), n), PAD, np.uint16)
    for r, v in zip(out, rows):
        r[:len(v)] = v
    return out


def block(args):
    """BLOCK batches of about `size` tokens each, in shuffled order"""
    seed, number, size, level, mix, rank = args
    rng = random.Random(f"{seed} {number} {rank}")
    rows, total = [], 0
    while total < size * BLOCK * .97:
        v = sample(*tasks.conversation(rng, level, mix))
        if len(v) <= LENGTHS[-1]:
            rows.append(v)
            total += len(v)
    rows.sort(key=len, reverse=True)
    out = []
    while rows:
        k = max(1, size // next(x for x in LENGTHS if x >= len(rows[0])))
        out.append(pad(rows[:k], size))
        rows = rows[k:]
    out = (out * 2)[:BLOCK]
    random.Random(f"{seed} {number}").shuffle(out)   # the same order of lengths for every rank
    return out


def level(number, steps):
    """Difficulty: lists and sums grow over the first quarter of the run."""
    return min(1.0, .1 + number / (.25 * steps))


def stream(seed, first, steps, polish, size, workers, rank):
    jobs = [(seed, n, size, level(n * BLOCK, steps), tasks.POLISH if n * BLOCK >= steps else tasks.MIX, rank)
            for n in range(first // BLOCK, -(-(steps + polish) // BLOCK))]
    skip = first % BLOCK
    if workers == 0:
        for job in jobs:
            yield from block(job)[skip:]
            skip = 0
        return
    with mp.get_context("spawn").Pool(workers) as pool:
        for b in pool.imap(block, jobs):
            yield from b[skip:]
            skip = 0


def test_batches(task, n, seed, size, **options):
    """Held-out items -> batches"""
    rows = sorted((sample(i["messages"] + i["gold"], i["thinking"]) for i in tasks.items(task, n, seed, **options)), key=len, reverse=True)
    while rows:
        k = max(1, size // next(x for x in LENGTHS if x >= len(rows[0])))
        yield pad(rows[:k], size)
        rows = rows[k:]
