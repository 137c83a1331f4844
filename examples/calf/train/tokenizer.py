"""calf's tokenizer: byte-level BPE with the layout of DeepSeek-V3's tokenizer.json.

    python3 tokenizer.py OUT_DIR            # trains on generated conversations, writes tokenizer.json beside its config

Digits are never merged: every digit is a token of its own, which makes arithmetic learnable.
The pre-tokenizer is V3's; `pieces` restates its expressions for Python's `re` (text without combining
marks or number signs other than decimal digits, which is all that training generates).
"""
import collections
import json
import os
import random
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import encoding as enc  # noqa: E402

VOCAB = 1536
SPECIAL = [enc.BOS, enc.EOS, enc.PAD]
ADDED = [enc.THINK, enc.END_THINK, enc.USER, enc.ASSISTANT]
SPLITS = [
    "\\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
    "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
STAGE1 = re.compile(r"(\d{1,3})")
STAGE2 = re.compile("([一-龥\u3040-ゟ゠-ヿ]+)")
STAGE3 = re.compile(r"[!-/:-@\[-`{-~][A-Za-z]+|[^\S\r\n]?[^\W\d_]+| ?(?:[^\w\s]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARKS = re.compile("(" + "|".join(map(re.escape, SPECIAL + ADDED)) + ")")


def byte_symbols():
    """byte -> printable character, in GPT-2's order"""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    m = {b: chr(b) for b in keep}
    m.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in m)})
    return m


BYTES = byte_symbols()
ORDER = sorted(BYTES.values())


def pieces(text):
    for a in STAGE1.split(text):
        if a and a[0].isdigit():
            yield a
            continue
        for b in STAGE2.split(a):
            if b:
                yield from ([b] if STAGE2.fullmatch(b) else STAGE3.findall(b))


def symbols(piece):
    return [BYTES[b] for b in piece.encode()]


def train(counts, n_merges):
    """counts: piece -> how often; -> merges, most frequent pair first, ties by the pair's text."""
    words = [(symbols(p), n) for p, n in sorted(counts.items()) if not any(c.isdigit() for c in p)]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, (w, n) in enumerate(words):
        for p in zip(w, w[1:]):
            pairs[p] += n
            where[p].add(i)
    merges = []
    while len(merges) < n_merges and pairs:
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] <= 0:
            break
        merges.append(best)
        for i in list(where[best]):
            w, n = words[i]
            for p in zip(w, w[1:]):
                pairs[p] -= n
            v = merge(w, best)
            for p in zip(v, v[1:]):
                pairs[p] += n
                where[p].add(i)
            words[i] = (v, n)
        del pairs[best]
    return merges


def merge(w, pair):
    out, i = [], 0
    while i < len(w):
        if i + 1 < len(w) and (w[i], w[i + 1]) == pair:
            out.append(w[i] + w[i + 1])
            i += 2
        else:
            out.append(w[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, path):
        t = json.load(open(path, encoding="utf-8"))
        self.vocab = t["model"]["vocab"]
        self.rank = {tuple(m.split(" ")) if isinstance(m, str) else tuple(m): i for i, m in enumerate(t["model"]["merges"])}
        self.added = {a["content"]: a["id"] for a in t["added_tokens"]}
        self.cache = {}
        back = {c: b for b, c in BYTES.items()}
        self.bytes = {i: bytes(back[c] for c in s) for s, i in self.vocab.items() if all(c in back for c in s)}
        self.bytes.update({i: s.encode() for s, i in self.added.items()})

    def piece(self, p):
        w = symbols(p)
        while len(w) > 1:
            best = min(zip(w, w[1:]), key=lambda q: self.rank.get(q, 1 << 30))
            if best not in self.rank:
                break
            w = merge(w, best)
        return [self.vocab[s] for s in w]

    def encode(self, text):
        out = []
        for part in MARKS.split(text):
            if part in self.added:
                out.append(self.added[part])
                continue
            for p in pieces(part):
                ids = self.cache.get(p)
                if ids is None:
                    ids = self.cache[p] = self.piece(p)
                out += ids
        return out

    def decode(self, ids):
        return b"".join(self.bytes.get(int(i), b"") for i in ids).decode("utf-8", "replace")


def added(i, text, special):
    return {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special}


def write(folder, merges):
    vocab = {s: i for i, s in enumerate(SPECIAL + ORDER)}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    first = VOCAB - len(ADDED)
    assert len(vocab) <= first, len(vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    t = {"version": "1.0", "truncation": None, "padding": None,
         "added_tokens": [added(i, s, True) for i, s in enumerate(SPECIAL)] + [added(first + i, s, False) for i, s in enumerate(ADDED)],
         "normalizer": {"type": "Sequence", "normalizers": []},
         "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
             *({"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": False} for r in SPLITS),
             dict(byte_level, add_prefix_space=False, use_regex=False)]},
         "post_processor": dict(byte_level, trim_offsets=False), "decoder": byte_level,
         "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                   "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": [" ".join(m) for m in merges]}}
    json.dump(t, open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8"), ensure_ascii=False, indent=0)
    mark = lambda s: {"__type": "AddedToken", "content": s, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    json.dump({"add_bos_token": False, "add_eos_token": False, "bos_token": mark(enc.BOS), "clean_up_tokenization_spaces": False,
               "eos_token": mark(enc.EOS), "legacy": True, "model_max_length": 2048, "pad_token": mark(enc.EOS), "sp_model_kwargs": {},
               "unk_token": None, "tokenizer_class": "LlamaTokenizerFast"},
              open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8"), ensure_ascii=False, indent=1)


def main():
    import tasks
    rng, counts = random.Random(20), collections.Counter()
    for _ in range(20000):
        msgs, thinking = tasks.conversation(rng)
        for part in MARKS.split(enc.render(msgs, thinking)):
            if part not in SPECIAL + ADDED:
                counts.update(pieces(part))
    for q, a in tasks.TALK:                     # every courtesy's words, however rare
        for text in q + [a]:
            counts.update({p: 300 for p in pieces(text)})
    for w in tasks.WORDS:                       # every word both after a space and at the start of a line
        counts.update({w: 400, " " + w: 400})
    merges = train(counts, VOCAB - len(SPECIAL) - 256 - len(ADDED))
    write(sys.argv[1], merges)
    print(len(merges), "merges from", len(counts), "pieces")


if __name__ == "__main__":
    main()
