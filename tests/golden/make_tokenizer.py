#!/usr/bin/env python3
"""Write a small byte-level tokenizer with the pre-tokenizer of DeepSeek-V3: 512 ids.

    python3 tests/golden/make_tokenizer.py [DIRECTORY]

writes tokenizer.json and tokenizer_config.json, into tests/golden/tokenizer by default.  Ids 0
to 2 are special, 3 to 258 the bytes, then come 248 merges learnt from the text below, and five
added tokens.  The same bytes come out each time; only the standard library is needed.
"""
import collections
import json
import os
import re
import sys

N_IDS = 512
FIRST = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
LAST = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<|EOT|>"]

TEXT = """
A minke is a small whale that dives deep. It comes up to breathe, looks around, and goes down
again; where it has been, the water closes and says nothing. The sea is wide and the whale is
small, but it knows the way: north in the spring, south in the autumn, and between the islands
when the herring are there. Those who want to see it must wait, and those who wait for a long
time will see it twice.

The captain counted the days. On the first day there was wind from the west and rain in the
evening. On the second day there was no wind, and the ship lay still; the sailors mended the
nets and told stories of other ships, other seas and other whales. On the third day, at noon,
somebody called from the mast: "There she is!" They ran to the side, all of them, and looked
where he was pointing, and saw the water, the light upon the water, and then the back of the
whale, black and shining, with a fin like a sickle. She breathed once, twice, and was gone.

"How deep does she go?" asked the boy. "Deeper than our lines," said the captain, "and longer
than you can hold your breath." The boy held his breath and counted: one, two, three, four, ten,
twenty, thirty. Then he laughed and breathed again, because he was a boy and not a whale. What
is 12 + 30? It is 42. What is 7 * 8? It is 56. What is 100 - 1? It is 99.

int main(void)
{
    for (int i = 0; i < 10; i++)
        printf("%d\\n", i * i);
    return 0;
}

def answer(question):
    if question is None:
        return "nothing was asked"
    return [word for word in question.split() if len(word) > 3]

{"name": "minke", "length": 7.5, "dives": true, "tags": ["sea", "small", "deep"]}

Der kleine Wal taucht tief, und über ihm schließt sich das Wasser. La petite baleine plonge,
et la mer est calme. 小鲸鱼潜入深海，海面很平静。你好，世界！你好，鲸鱼！ くじらは海にいます。
"""


def byte_symbols():
    """GPT-2's characters for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols, extra = {}, 0
    for b in range(256):
        symbols[b] = chr(b) if b in printable else chr(256 + extra)
        extra += b not in printable
    return symbols


def learn(words, n_merges):
    """The n_merges pairs that are most frequent in turn; ties go to the lesser pair."""
    merges = []
    while len(merges) < n_merges:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = collections.Counter()
        for word, count in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            joined[tuple(out)] += count
        words = joined
    return merges


def added(token, token_id, special):
    return {"id": token_id, "content": token, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": token not in FIRST, "special": special}


def pre_tokenizer():
    patterns = [
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
        "\r\n" r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[""" "\r\n"
        r"""]*|\s*[""" "\r\n" r"""]+|\s+(?!\S)|\s+""",
    ]
    splits = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated",
               "invert": False} for p in patterns]
    splits.append({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                   "use_regex": False})
    return {"type": "Sequence", "pretokenizers": splits}


def build():
    symbols = byte_symbols()
    words = collections.Counter()
    # Close enough to the pre-tokenizer's own pieces for learning which pairs are frequent.
    for piece in re.findall(r" ?[^\W\d_]+|\d{1,3}| ?[^\w\s]+\n*|\s*\n+|\s+(?!\S)|\s+", TEXT):
        words[tuple(symbols[b] for b in piece.encode())] += 1
    merges = learn(words, N_IDS - len(FIRST) - 256 - len(LAST))
    vocab = {token: i for i, token in enumerate(FIRST)}
    for b in range(256):
        vocab[symbols[b]] = len(FIRST) + b
    for left, right in merges:
        assert left + right not in vocab
        vocab[left + right] = len(vocab)
    tokens = [added(t, i, True) for i, t in enumerate(FIRST)]
    tokens += [added(t, len(vocab) + i, t == LAST[-1]) for i, t in enumerate(LAST)]
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
             "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": pre_tokenizer(), "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                  "merges": [f"{left} {right}" for left, right in merges]},
    }


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "tokenizer")
    settings = {"add_bos_token": True, "add_eos_token": False, "bos_token": FIRST[0],
                "eos_token": FIRST[1], "pad_token": FIRST[1], "model_max_length": 131072,
                "tokenizer_class": "LlamaTokenizerFast"}
    os.makedirs(directory, exist_ok=True)
    for name, value in (("tokenizer.json", build()), ("tokenizer_config.json", settings)):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
