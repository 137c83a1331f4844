#!/usr/bin/env python3
"""Write the golden checkpoints: small, random, in the released formats, and what follows.

    python3 tests/golden/make_golden.py [--out DIRECTORY] [CASE ...]
    python3 tests/golden/make_golden.py --check [CASE ...]

Each case becomes a folder with config.json and the weights as Hugging Face lays them out, with
expected.safetensors (what reference.py computes from them, in float64) and case.json (how clear
each choice on the way was).  --check computes again from the files that are there and compares.
README.md names the keys.  Needs numpy.
"""
import argparse
import json
import math
import pathlib
import sys

import numpy as np

import reference as ref

HERE = pathlib.Path(__file__).resolve().parent
N_GREEDY = 16

BASE = dict(
    vocab_size=192, hidden_size=64, num_hidden_layers=3, first_k_dense_replace=1,
    intermediate_size=112, moe_intermediate_size=40, num_attention_heads=4,
    num_key_value_heads=4, q_lora_rank=48, kv_lora_rank=40, qk_nope_head_dim=24,
    qk_rope_head_dim=16, v_head_dim=20, n_routed_experts=16, n_shared_experts=1,
    num_experts_per_tok=4, n_group=4, topk_group=2, moe_layer_freq=1, rms_norm_eps=1e-6,
    rope_theta=10000.0, rope_scaling=dict(
        type="yarn", factor=8, original_max_position_embeddings=32, beta_fast=32, beta_slow=1,
        mscale=1.0, mscale_all_dim=1.0),
    max_position_embeddings=4096, hidden_act="silu", tie_word_embeddings=False,
    attention_bias=False, bos_token_id=0, eos_token_id=1, torch_dtype="bfloat16")
V2 = dict(
    model_type="deepseek_v2", architectures=["DeepseekV2ForCausalLM"], scoring_func="softmax",
    norm_topk_prob=False, n_shared_experts=2,
    rope_scaling=dict(BASE["rope_scaling"], mscale=0.707, mscale_all_dim=0.707))
V3 = dict(
    model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"], scoring_func="sigmoid",
    topk_method="noaux_tc", norm_topk_prob=True, routed_scaling_factor=2.5)
V32 = dict(
    V3, model_type="deepseek_v32", architectures=["DeepseekV32ForCausalLM"], index_n_heads=4,
    index_head_dim=32, index_topk=16)
FP8 = dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8",
           weight_block_size=[128, 128])
# The released sizes of heads, so that 128x128 tiles are cut as there; one dense layer, one of
# experts, and the prediction layer behind them.
HEADS = dict(
    hidden_size=176, num_hidden_layers=2, intermediate_size=272, num_attention_heads=2,
    num_key_value_heads=2, q_lora_rank=144, kv_lora_rank=144,
    qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, n_routed_experts=8,
    num_experts_per_tok=2, n_group=2, topk_group=1, num_nextn_predict_layers=1)

CASES = {    # name: (what the config changes, tokens of the prompt, files)
    "v2-lite": (dict(V2, q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1,
                     routed_scaling_factor=1.0), 96, 1),
    "v2": (dict(V2, topk_method="group_limited_greedy", routed_scaling_factor=4.0), 96, 1),
    "v3": (V3, 96, 1),
    "v3-fp8": (dict(V3, **HEADS, quantization_config=FP8), 96, 2),
    "v32": (V32, 112, 1),
    "v32-fp8": (dict(V32, **HEADS, quantization_config=dict(FP8, scale_fmt="ue8m0"))
                | dict(index_head_dim=128, index_topk=32), 96, 3),
}


class Weights:
    """Random weights by name, scaled so that activations stay near unit size and routing is
    neither flat nor saturated."""

    def __init__(self, config, rng):
        self.c, self.rng, self.t = config, rng, {}
        c, d = config, config["hidden_size"]
        self.t["model.embed_tokens.weight"] = rng.standard_normal((c["vocab_size"], d))
        for l in range(c["num_hidden_layers"]):
            self.layer(l)
        self.norm("model.norm", d)
        self.linear("lm_head", c["vocab_size"], d, 2.0)
        if c.get("num_nextn_predict_layers"):
            self.prediction_layer(c["num_hidden_layers"])

    def linear(self, name, n_out, n_in, gain=1.0):
        w = self.rng.standard_normal((n_out, n_in)) * gain / np.sqrt(n_in)
        self.t[name + ".weight"] = w

    def norm(self, name, n):
        self.t[name + ".weight"] = 1 + 0.2 * self.rng.standard_normal(n)

    def mlp(self, p, inner):
        d = self.c["hidden_size"]
        self.linear(p + "gate_proj", inner, d, 1.5)
        self.linear(p + "up_proj", inner, d, 1.5)
        self.linear(p + "down_proj", d, inner)

    def attention(self, p):
        c, d, n_heads = self.c, self.c["hidden_size"], self.c["num_attention_heads"]
        q_dim = n_heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
        kv_dim = n_heads * (c["qk_nope_head_dim"] + c["v_head_dim"])
        rank = c["kv_lora_rank"]
        if c["q_lora_rank"]:
            self.linear(p + "q_a_proj", c["q_lora_rank"], d)
            self.norm(p + "q_a_layernorm", c["q_lora_rank"])
            self.linear(p + "q_b_proj", q_dim, c["q_lora_rank"], 1.6)
        else:
            self.linear(p + "q_proj", q_dim, d, 1.6)
        self.linear(p + "kv_a_proj_with_mqa", rank + c["qk_rope_head_dim"], d, 1.6)
        self.norm(p + "kv_a_layernorm", rank)
        self.linear(p + "kv_b_proj", kv_dim, rank, 1.6)
        self.linear(p + "o_proj", d, n_heads * c["v_head_dim"], 1.5)
        if c.get("index_topk"):
            dim = c["index_head_dim"]
            self.linear(p + "indexer.wq_b", c["index_n_heads"] * dim, c["q_lora_rank"])
            self.linear(p + "indexer.wk", dim, d)
            self.norm(p + "indexer.k_norm", dim)
            self.t[p + "indexer.k_norm.bias"] = 0.2 * self.rng.standard_normal(dim)
            self.linear(p + "indexer.weights_proj", c["index_n_heads"], d)

    def layer(self, l):
        c, p = self.c, f"model.layers.{l}."
        self.norm(p + "input_layernorm", c["hidden_size"])
        self.norm(p + "post_attention_layernorm", c["hidden_size"])
        self.attention(p + "self_attn.")
        if l < c["first_k_dense_replace"]:
            self.mlp(p + "mlp.", c["intermediate_size"])
            return
        self.linear(p + "mlp.gate", c["n_routed_experts"], c["hidden_size"], 1.5)
        if c["topk_method"] == "noaux_tc":
            # Some far below zero: a group left out and filled with zeros would then win.
            bias = self.rng.uniform(-1.2, 0.3, c["n_routed_experts"])
            self.t[p + "mlp.gate.e_score_correction_bias"] = bias
        for e in range(c["n_routed_experts"]):
            self.mlp(f"{p}mlp.experts.{e}.", c["moe_intermediate_size"])
        self.mlp(p + "mlp.shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"])

    def prediction_layer(self, l):
        p, d = f"model.layers.{l}.", self.c["hidden_size"]
        self.layer(l)
        for name in ("enorm", "hnorm", "shared_head.norm"):
            self.norm(p + name, d)
        self.linear(p + "eh_proj", d, 2 * d)
        self.t[p + "embed_tokens.weight"] = self.t["model.embed_tokens.weight"]
        self.t[p + "shared_head.head.weight"] = self.t["lm_head.weight"]


NOT_FP8 = ("embed_tokens", "lm_head", "norm", "mlp.gate.", "weights_proj", "eh_proj",
           "shared_head.head", "bias")


def stored(config, weights):
    """-> {name: (type, array)} as the released checkpoints store them."""
    quantization = config.get("quantization_config")
    out = {}
    for name, a in weights.items():
        if quantization and not any(part in name for part in NOT_FP8):
            codes, scales = ref.fp8_encode(a, "scale_fmt" in quantization)
            out[name], out[name + "_scale_inv"] = ("F8_E4M3", codes), ("F32", scales)
        elif name.endswith("e_score_correction_bias") or (
                config["model_type"] == "deepseek_v32" and "norm" in name):
            out[name] = "F32", a.astype(np.float32)
        else:
            out[name] = "BF16", ref.bf16_encode(a)
    return out


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


def write_weights(folder, tensors, n_files):
    for old in folder.glob("model*"):
        old.unlink()
    names, index = list(tensors), {}
    per_file = math.ceil(len(names) / n_files)
    for i in range(n_files):
        name = f"model-{i + 1:05d}-of-{n_files:05d}.safetensors"
        name = "model.safetensors" if n_files == 1 else name
        part = names[i * per_file:(i + 1) * per_file]
        ref.st_write(folder / name, {n: tensors[n] for n in part})
        index.update(dict.fromkeys(part, name))
    if n_files > 1:
        size = sum(a.nbytes for _, a in tensors.values())
        write_json(folder / "model.safetensors.index.json",
                   {"metadata": {"total_size": size}, "weight_map": index})


def compute(folder, prompt):
    """-> ({key: array} of expected.safetensors, the facts of case.json)"""
    model = ref.Model.load(folder)
    out = {"prompt": np.asarray(prompt, np.int32), **model.forward(prompt)}
    margin = dict(model.margin)
    greedy, gap = model.greedy(prompt, N_GREEDY)
    out["greedy"] = np.array(greedy, np.int32)
    for kind, d in model.margin.items():
        margin[kind] = min(d, margin.get(kind, d))
    return out, {
        "prompt_tokens": len(prompt), "greedy_tokens": N_GREEDY, "smallest_greedy_gap": gap,
        "smallest_selection_gap": margin, "first_row": 0,
        "logit_std": float(out["logits"].std()),
        "residual_rms": float(np.sqrt((out["hidden"] ** 2).mean()))}


def make(name, folder):
    """The first seed with a clear winner at every step, so that f32 must choose the same."""
    change, n_tokens, n_files = CASES[name]
    config = {**BASE, **change}
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(1, 60):
        rng = np.random.default_rng(seed)
        write_json(folder / "config.json", config)
        write_weights(folder, stored(config, Weights(config, rng).t), n_files)
        out, facts = compute(folder, rng.integers(2, config["vocab_size"], n_tokens))
        clear = min(facts["smallest_selection_gap"].values())
        if facts["smallest_greedy_gap"] > 0.02 and clear > 2e-5:
            break
    else:
        sys.exit(f"{name}: no seed is clear enough")
    ref.st_write(folder / "expected.safetensors", {
        key: ("I32", a) if a.dtype == np.int32 else ("F32", a.astype(np.float32))
        for key, a in out.items()})
    write_json(folder / "case.json", {"case": name, "seed": seed, **facts})
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: seed {seed}, {size / 1e6:.2f} MB, closest choice {clear:.1e}")


def check(name, folder):
    """Whether the stored values are what the stored weights give; 1e-5 is their f32."""
    old = {key: a for key, (_, a) in ref.st_read(folder / "expected.safetensors").items()}
    new, _ = compute(folder, old["prompt"])
    if old.keys() != new.keys():
        sys.exit(f"{name}: keys differ: {sorted(old.keys() ^ new.keys())}")
    worst = 0.0
    for key, a in new.items():
        if old[key].dtype == np.int32:
            if not np.array_equal(old[key], a):
                sys.exit(f"{name}: {key} differs")
        else:
            worst = max(worst, float(np.abs(old[key] - a).max()))
    if worst > 1e-5:
        sys.exit(f"{name}: values differ by {worst:.1e}")
    print(f"{name}: the same, to {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    for name in options.cases or CASES:
        if name not in CASES:
            parser.error(f"{name}: no such case; there are {', '.join(CASES)}")
        (check if options.check else make)(name, options.out / name)


if __name__ == "__main__":
    main()
