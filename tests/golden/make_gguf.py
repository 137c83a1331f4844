#!/usr/bin/env python3
"""Write golden checkpoints as GGUF files, named and laid out as llama.cpp's converter does it.

    python3 tests/golden/make_gguf.py OUT                  # every file of FILES into folder OUT
    python3 tests/golden/make_gguf.py OUT --case FOLDER    # another checkpoint, in F32

Prints the names of the files.  It shares no code with the library, which reads what it writes.
The tokenizer is made up: the first bytes, pairs of letters, three control tokens.  Reference:
llama.cpp's conversion/deepseek.py, gguf-py/gguf/tensor_mapping.py and ggml's docs/gguf.md.
Needs only Python's standard library.
"""
import argparse
import array
import json
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
ALIGNMENT = 32
U16, U32, I32, F32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9     # of metadata
TYPE_NUMBER = {"F32": 0, "BF16": 30}                              # of tensors

# name: (case, what differs from a plain file in F32)
FILES = {
    "v2-lite": ("v2-lite", {}),
    "v2": ("v2", {}),
    "v3": ("v3", {}),
    "v32": ("v32", {}),
    # A file as they were before attn_kv_b was split, with a tensor that nobody needs.
    "v2-lite-older": ("v2-lite", dict(version=2, unsplit=True, rope_freqs=True)),
    "v3-older": ("v3", dict(version=2, unsplit=True, kind="BF16")),
    "v3-fused": ("v3", dict(fused=True, rope_freqs=True)),
    "v32-fused": ("v32", dict(fused=True, kind="BF16")),
    "v3-parts": ("v3", dict(n_parts=3)),
    # FP8 weights with power-of-two scales are exact in BF16.  Has a prediction layer.
    "v32-fp8": ("v32-fp8", dict(kind="BF16", n_parts=2)),
}

# ---- Checkpoints -----------------------------------------------------------------------------


def e4m3(code):
    """S EEEE MMM with bias 7."""
    e, m = code >> 3 & 15, code & 7
    v = m * 2.0**-9 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7)
    return -v if code >> 7 else v


E4M3 = [e4m3(code) for code in range(256)]


def floats(kind, data):
    """Stored bytes -> array of f32."""
    if kind == "BF16":      # the upper half of an f32
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        data = bytes(wide)
    return array.array("f", data)


class Checkpoint:
    """Weights of a folder by the checkpoint's names."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text("utf-8"))
        self.stored = {}                      # name: (type, shape, bytes)
        for path in sorted(folder.glob("model*.safetensors")):
            data = path.read_bytes()
            begin = 8 + int.from_bytes(data[:8], "little")
            for name, t in json.loads(data[8:begin]).items():
                if name != "__metadata__":
                    at, end = (begin + offset for offset in t["data_offsets"])
                    self.stored[name] = t["dtype"], t["shape"], data[at:end]

    def __contains__(self, name):
        return name in self.stored

    def get(self, name):
        """-> (shape, array of f32)"""
        kind, shape, data = self.stored[name]
        if kind != "F8_E4M3":
            return shape, floats(kind, data)
        (_, n), (_, columns, raw) = shape, self.stored[name + "_scale_inv"]
        scales, block = floats("F32", raw), 128
        return shape, array.array("f", [
            E4M3[code] * scales[i // n // block * columns[1] + i % n // block]
            for i, code in enumerate(data)])


# ---- Names and layout ------------------------------------------------------------------------

ATTENTION = [("attn_q", "q_proj"), ("attn_q_a", "q_a_proj"), ("attn_q_a_norm", "q_a_layernorm"),
             ("attn_q_b", "q_b_proj"), ("attn_kv_a_mqa", "kv_a_proj_with_mqa"),
             ("attn_kv_a_norm", "kv_a_layernorm"), ("attn_kv_b", "kv_b_proj"),
             ("attn_output", "o_proj"), ("indexer.k_norm", "indexer.k_norm"),
             ("indexer.proj", "indexer.weights_proj"), ("indexer.attn_k", "indexer.wk"),
             ("indexer.attn_q_b", "indexer.wq_b")]
NEXTN = [("nextn.eh_proj", "eh_proj"), ("nextn.embed_tokens", "embed_tokens"),
         ("nextn.enorm", "enorm"), ("nextn.hnorm", "hnorm"),
         ("nextn.shared_head_head", "shared_head.head"),
         ("nextn.shared_head_norm", "shared_head.norm")]


def split_kv_b(config, weights):
    """kv_b_proj (H * (N + V), L) -> k_b (H, L, N), each head transposed, and v_b (H, V, L)."""
    heads, rank = config["num_attention_heads"], config["kv_lora_rank"]
    n_nope, n_value = config["qk_nope_head_dim"], config["v_head_dim"]
    k, v, head = array.array("f"), array.array("f"), (n_nope + n_value) * rank
    for h in range(heads):
        rows = [weights[h * head + i * rank:h * head + (i + 1) * rank]
                for i in range(n_nope + n_value)]
        for column in zip(*rows[:n_nope]):
            k.extend(column)
        for row in rows[n_nope:]:
            v.extend(row)
    return ([heads, rank, n_nope], k), ([heads, n_value, rank], v)


def experts(checkpoint, prefix, what):
    """The matrices of all experts, one behind the other."""
    out = array.array("f")
    n, shape = checkpoint.config["n_routed_experts"], []
    for e in range(n):
        shape, weights = checkpoint.get(f"{prefix}mlp.experts.{e}.{what}_proj.weight")
        out.extend(weights)
    return [n, *shape], out


def fuse(gate, up):
    """(E, I, D) twice -> (E, 2 I, D): an expert's gate, then its up."""
    (n, inner, d), out = gate[0], array.array("f")
    for e in range(n):
        for _, weights in (gate, up):
            out.extend(weights[e * inner * d:(e + 1) * inner * d])
    return [n, 2 * inner, d], out


def attention_tensors(checkpoint, prefix, unsplit):
    for name, theirs in ATTENTION:
        for end in (".weight", ".bias"):
            if prefix + "self_attn." + theirs + end not in checkpoint:
                continue
            shape, weights = checkpoint.get(prefix + "self_attn." + theirs + end)
            if name == "attn_kv_b" and not unsplit:
                k, v = split_kv_b(checkpoint.config, weights)
                yield "attn_k_b.weight", *k
                yield "attn_v_b.weight", *v
            else:
                yield name + end, shape, weights


def expert_tensors(checkpoint, prefix, fused):
    yield "ffn_gate_inp.weight", *checkpoint.get(prefix + "mlp.gate.weight")
    if prefix + "mlp.gate.e_score_correction_bias" in checkpoint:
        yield "exp_probs_b.bias", *checkpoint.get(prefix + "mlp.gate.e_score_correction_bias")
    if fused:
        yield "ffn_gate_up_exps.weight", *fuse(experts(checkpoint, prefix, "gate"),
                                               experts(checkpoint, prefix, "up"))
    for what in ("gate", "up", "down"):
        if what == "down" or not fused:
            yield f"ffn_{what}_exps.weight", *experts(checkpoint, prefix, what)
        name = f"{prefix}mlp.shared_experts.{what}_proj.weight"
        yield f"ffn_{what}_shexp.weight", *checkpoint.get(name)


def layer_tensors(checkpoint, l, unsplit, fused):
    prefix = f"model.layers.{l}."
    yield "attn_norm.weight", *checkpoint.get(prefix + "input_layernorm.weight")
    yield "ffn_norm.weight", *checkpoint.get(prefix + "post_attention_layernorm.weight")
    yield from attention_tensors(checkpoint, prefix, unsplit)
    if prefix + "mlp.gate.weight" in checkpoint:
        yield from expert_tensors(checkpoint, prefix, fused)
    else:
        for what in ("gate", "up", "down"):
            yield f"ffn_{what}.weight", *checkpoint.get(f"{prefix}mlp.{what}_proj.weight")
    for name, theirs in NEXTN:
        if prefix + theirs + ".weight" in checkpoint:
            yield name + ".weight", *checkpoint.get(prefix + theirs + ".weight")


def all_tensors(checkpoint, unsplit, fused, rope_freqs):
    """-> (name, shape as the checkpoint gives it, array of f32)"""
    config = checkpoint.config
    yield "token_embd.weight", *checkpoint.get("model.embed_tokens.weight")
    yield "output_norm.weight", *checkpoint.get("model.norm.weight")
    yield "output.weight", *checkpoint.get("lm_head.weight")
    if rope_freqs:
        n = config["qk_rope_head_dim"] // 2
        yield "rope_freqs.weight", [n], array.array("f", [1.0] * n)
    n_layers = config["num_hidden_layers"] + config.get("num_nextn_predict_layers", 0)
    for l in range(n_layers):
        for name, shape, weights in layer_tensors(checkpoint, l, unsplit, fused):
            yield f"blk.{l}.{name}", shape, weights


# ---- Metadata --------------------------------------------------------------------------------


def rope_values(config):
    yield "rope.freq_base", F32, config["rope_theta"]
    yield "rope.dimension_count", U32, config["qk_rope_head_dim"]
    yarn = config.get("rope_scaling")
    if yarn:
        yield "rope.scaling.type", STRING, "yarn"
        yield "rope.scaling.factor", F32, yarn["factor"]
        yield ("rope.scaling.original_context_length", U32,
               yarn["original_max_position_embeddings"])
        yield "rope.scaling.yarn_log_multiplier", F32, 0.1 * yarn["mscale_all_dim"]


def head_values(config, unsplit):
    """Attention over latents is of one head, as long as a latent with its rotated part."""
    key, value = config["qk_nope_head_dim"] + config["qk_rope_head_dim"], config["v_head_dim"]
    rank = config["kv_lora_rank"]
    yield "attention.q_lora_rank", U32, config["q_lora_rank"] or 0
    yield "attention.kv_lora_rank", U32, rank
    if unsplit:
        yield "attention.key_length", U32, key
        yield "attention.value_length", U32, value
        return
    yield "attention.key_length", U32, rank + config["qk_rope_head_dim"]
    yield "attention.value_length", U32, rank
    yield "attention.key_length_mla", U32, key
    yield "attention.value_length_mla", U32, value


def expert_values(config, unsplit):
    yield "expert_feed_forward_length", U32, config["moe_intermediate_size"]
    yield "expert_count", U32, config["n_routed_experts"]
    yield "expert_used_count", U32, config["num_experts_per_tok"]
    yield "expert_shared_count", U32, config["n_shared_experts"]
    yield "expert_weights_scale", F32, config["routed_scaling_factor"]
    sigmoid = config["scoring_func"] == "sigmoid"
    if sigmoid or not unsplit:      # younger than the files of V2
        yield "expert_weights_norm", BOOL, config["norm_topk_prob"]
        yield "expert_gating_func", U32, 2 if sigmoid else 1
    if config["n_group"] > 1:
        yield "expert_group_count", U32, config["n_group"]
        yield "expert_group_used_count", U32, config["topk_group"]


def model_values(config, unsplit):
    """-> (key behind the architecture, type, value)"""
    heads, nextn = config["num_attention_heads"], config.get("num_nextn_predict_layers", 0)
    yield "block_count", U32, config["num_hidden_layers"] + nextn
    yield "context_length", U32, config["max_position_embeddings"]
    yield "embedding_length", U32, config["hidden_size"]
    yield "feed_forward_length", U32, config["intermediate_size"]
    yield "attention.head_count", U32, heads
    yield "attention.head_count_kv", U32, heads if unsplit else 1
    yield "attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]
    yield "vocab_size", U32, config["vocab_size"]
    yield from rope_values(config)
    yield "leading_dense_block_count", U32, config["first_k_dense_replace"]
    yield from head_values(config, unsplit)
    yield from expert_values(config, unsplit)
    if config.get("index_topk"):
        yield "attention.indexer.head_count", U32, config["index_n_heads"]
        yield "attention.indexer.key_length", U32, config["index_head_dim"]
        yield "attention.indexer.top_k", U32, config["index_topk"]
    if nextn:
        yield "nextn_predict_layers", U32, nextn


def tokenizer_values(config):
    """Bytes as far as the vocabulary reaches, then 61 pairs of letters and 3 control tokens."""
    n, code = config["vocab_size"], 256
    tokens = []
    for b in range(n - 64):     # byte-level characters: GPT-2's bytes_to_unicode
        printable = 33 <= b <= 126 or 161 <= b <= 172 or b >= 174
        tokens.append(chr(b if printable else code))
        code += not printable
    pairs = [(chr(97 + i // 26), chr(97 + i % 26)) for i in range(61)]
    tokens += [a + b for a, b in pairs] + ["<|begin|>", "<|end|>", "<|pad|>"]
    yield "tokenizer.ggml.model", STRING, "gpt2"
    yield ("tokenizer.ggml.pre", STRING,
           "deepseek-llm" if config["model_type"] == "deepseek_v2" else "deepseek-v3")
    yield "tokenizer.ggml.tokens", ARRAY, (STRING, tokens)
    yield "tokenizer.ggml.token_type", ARRAY, (I32, [1] * (n - 3) + [3] * 3)
    yield "tokenizer.ggml.merges", ARRAY, (STRING, [f"{a} {b}" for a, b in pairs])
    yield "tokenizer.ggml.bos_token_id", U32, n - 3
    yield "tokenizer.ggml.eos_token_id", U32, n - 2
    yield "tokenizer.ggml.padding_token_id", U32, n - 1
    yield "tokenizer.ggml.add_bos_token", BOOL, False


def all_values(config, name, kind, unsplit):
    arch = "deepseek32" if config["model_type"] == "deepseek_v32" else "deepseek2"
    yield "general.architecture", STRING, arch
    yield "general.name", STRING, "golden " + name
    for key, t, value in model_values(config, unsplit):
        yield f"{arch}.{key}", t, value
    yield "general.quantization_version", U32, 2
    yield "general.file_type", U32, 0 if kind == "F32" else 32
    yield from tokenizer_values(config)


# ---- Bytes -----------------------------------------------------------------------------------


def encode(t, value):
    if t == STRING:
        text = value.encode()
        return struct.pack("<Q", len(text)) + text
    if t == ARRAY:
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(encode(of, item) for item in items)
    return struct.pack({U16: "<H", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[t], value)


def stored(weights, kind):
    data = weights.tobytes()
    if kind == "F32":
        return data
    if any(data[0::4]) or any(data[1::4]):
        raise ValueError("not exact in BF16")
    half = bytearray(len(data) // 2)
    half[0::2], half[1::2] = data[2::4], data[3::4]
    return bytes(half)


def pad(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def write_file(path, version, values, tensors):
    """values: [(key, type, value)], tensors: [(name, shape, type, bytes)]"""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, t, value in values:
        head += encode(STRING, key) + struct.pack("<I", t) + encode(t, value)
    at = 0
    for name, shape, kind, data in tensors:
        head += encode(STRING, name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", TYPE_NUMBER[kind], at)
        at += len(pad(data))
    path.write_bytes(pad(head) + b"".join(pad(data) for *_, data in tensors))
    print(path.name)


def write_parts(out, name, version, values, tensors, n_parts):
    """Split as llama.cpp's gguf-split does: the metadata is in the first part."""
    per_part = math.ceil(len(tensors) / n_parts)
    for i in range(n_parts):
        split = [("split.no", U16, i), ("split.count", U16, n_parts),
                 ("split.tensors.count", I32, len(tensors))]
        write_file(out / f"{name}-{i + 1:05d}-of-{n_parts:05d}.gguf", version,
                   (values if i == 0 else []) + split,
                   tensors[i * per_part:(i + 1) * per_part])


def make(out, name, folder, version=3, kind="F32", unsplit=False, fused=False,
         rope_freqs=False, n_parts=1):
    checkpoint = Checkpoint(folder)
    values = list(all_values(checkpoint.config, name, kind, unsplit))
    tensors = []
    for tensor, shape, weights in all_tensors(checkpoint, unsplit, fused, rope_freqs):
        # Norms, routers and what weighs the indexer's heads stay F32, as the converter has it.
        exact = len(shape) == 1 or "ffn_gate_inp" in tensor or "indexer.proj" in tensor
        as_type = "F32" if exact else kind
        tensors.append((tensor, shape, as_type, stored(weights, as_type)))
    if n_parts > 1:
        write_parts(out, name, version, values, tensors, n_parts)
    else:
        write_file(out / f"{name}.gguf", version, values, tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", metavar="OUT", type=pathlib.Path)
    parser.add_argument("--case", type=pathlib.Path, metavar="FOLDER")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.case:
        make(options.out, options.case.name, options.case)
        return
    for name, (case, how) in FILES.items():
        make(options.out, name, HERE / case, **how)


if __name__ == "__main__":
    main()
