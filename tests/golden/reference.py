"""The forward pass of DeepSeek V2, V3 and V3.2 in float64, one clear line per formula.

It is slow on purpose: no cache, no blocks, every intermediate kept.  Activations are never
rounded; the only rounding is in the stored weights (bf16, f32, or FP8 with 128x128 scales), so
that whoever reads the same checkpoint and computes in float32 agrees to float32's accuracy.

    out = Model.load("tests/golden/v32").forward([1, 2, 3])     # see Model.forward

Reference: DeepSeek-V3 inference/model.py and DeepSeek-V3.2-Exp inference/model.py.  Differs:
float64; among equal scores the lowest index is chosen.  Needs numpy.
"""
import json
import math
import pathlib

import numpy as np

# ---- Number formats ------------------------------------------------------------------------


def bf16_encode(x):
    """float -> uint16, round to nearest even."""
    u = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_decode(b):
    return (np.asarray(b, np.uint16).astype(np.uint32) << 16).view(np.float32)


def e4m3_value(code):
    """S EEEE MMM with bias 7; no infinity, NaN is all ones."""
    e, m = (code >> 3) & 15, code & 7
    if e == 15 and m == 7:
        return math.nan
    v = m * 2.0**-9 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7)
    return -v if code >> 7 else v


E4M3 = np.array([e4m3_value(code) for code in range(256)])


def e4m3_encode(x):
    """float -> uint8, round to nearest even, at most 448."""
    x = np.clip(np.asarray(x, np.float64), -448.0, 448.0)
    a = np.abs(x)
    e = np.maximum(np.floor(np.log2(np.maximum(a, 2.0**-20))), -6)
    v = np.rint(a / 2.0 ** (e - 3)) * 2.0 ** (e - 3)     # rint rounds ties to even
    code = np.searchsorted(E4M3[:127], v)                # 0..126 ascend
    return np.where(np.signbit(x), code | 0x80, code).astype(np.uint8)


def fp8_encode(w, pow2, block=128):
    """[out, in] -> (codes [out, in], weight_scale_inv [ceil(out / 128), ceil(in / 128)])."""
    scales = np.empty((-(-w.shape[0] // block), -(-w.shape[1] // block)), np.float32)
    codes = np.empty(w.shape, np.uint8)
    for r, c in np.ndindex(*scales.shape):
        at = np.s_[r * block:(r + 1) * block, c * block:(c + 1) * block]
        s = max(np.abs(w[at]).max(), 1e-4) / 448.0
        scales[r, c] = 2.0 ** math.ceil(math.log2(s)) if pow2 else s
        codes[at] = e4m3_encode(w[at] / scales[r, c].astype(np.float64))
    return codes, scales


def fp8_decode(codes, scales, block=128):
    full = np.repeat(np.repeat(scales.astype(np.float64), block, 0), block, 1)
    return E4M3[codes] * full[:codes.shape[0], :codes.shape[1]]


# ---- Files ---------------------------------------------------------------------------------

NUMPY_TYPE = {"F32": "<f4", "BF16": "<u2", "F8_E4M3": "u1", "I32": "<i4"}


def st_write(path, tensors):
    """tensors: {name: (type, array as stored)}, written in this order."""
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (kind, a) in tensors.items():
        head[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for kind, a in tensors.values():
            f.write(np.ascontiguousarray(a, NUMPY_TYPE[kind]).tobytes())


def st_read(path):
    """-> {name: (type, array as stored)}"""
    data = pathlib.Path(path).read_bytes()
    n = int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            begin, end = (8 + n + at for at in t["data_offsets"])
            a = np.frombuffer(data[begin:end], NUMPY_TYPE[t["dtype"]])
            out[name] = t["dtype"], a.reshape(t["shape"])
    return out


# ---- The model -----------------------------------------------------------------------------


def rms_norm(x, w, eps):
    return w * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def layer_norm(x, w, b, eps=1e-6):
    m = x.mean(-1, keepdims=True)
    return w * (x - m) / np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + eps) + b


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def top_indices(score, k):
    """The k best along the last axis: score descending, index ascending among equals."""
    return np.argsort(-score, -1, kind="stable")[..., :k]


def mscale(s, m):
    return 1.0 if s <= 1 else 0.1 * m * math.log(s) + 1


class Model:
    def __init__(self, config, weights):
        self.c, self.w = config, weights
        self.margin = {}     # smallest distance of the last chosen from the best not chosen

    @classmethod
    def load(cls, folder):
        folder = pathlib.Path(folder)
        raw, w = {}, {}
        for path in sorted(folder.glob("model*.safetensors")):
            raw.update(st_read(path))
        for name, (kind, a) in raw.items():
            if name.endswith("_scale_inv"):
                continue
            if kind == "F8_E4M3":
                w[name] = fp8_decode(a, raw[name + "_scale_inv"][1])
            else:
                w[name] = (bf16_decode(a) if kind == "BF16" else a).astype(np.float64)
        return cls(json.loads((folder / "config.json").read_text()), w)

    def note_margin(self, kind, score, chosen):
        """An exact tie is no risk: the lowest index wins by rule."""
        rest = np.delete(score, chosen)
        if rest.size:
            d = score[chosen].min() - rest.max()
            if 0 < d < self.margin.get(kind, math.inf):
                self.margin[kind] = float(d)

    # -- Positions

    def rope_speeds(self):
        """Of each of the rope_dim / 2 pairs; YaRN-corrected when rope_scaling says so."""
        dim, base = self.c["qk_rope_head_dim"], self.c["rope_theta"]
        rs = self.c.get("rope_scaling")
        f = base ** (-np.arange(0, dim, 2) / dim)
        if not rs:
            return f
        n = rs["original_max_position_embeddings"]

        def turns(r):
            return dim * math.log(n / (r * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(turns(rs.get("beta_fast", 32))), 0)
        high = min(math.ceil(turns(rs.get("beta_slow", 1))), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / ((high - low) or 0.001), 0, 1)
        return f / rs["factor"] * ramp + f * (1 - ramp)

    def softmax_scale(self):
        c, rs = self.c, self.c.get("rope_scaling")
        s = (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]) ** -0.5
        if rs and rs.get("mscale_all_dim"):
            s *= mscale(rs["factor"], rs["mscale_all_dim"]) ** 2
        return s

    def rotary_magnitude(self):
        rs = self.c.get("rope_scaling")
        if not rs:
            return 1.0
        return mscale(rs["factor"], rs.get("mscale", 1)) / mscale(
            rs["factor"], rs.get("mscale_all_dim", 0))

    def rotate(self, x, interleaved):
        """x [T, ..., rope_dim].  Pairs (0, 1), (2, 3)... or else (i, i + dim / 2)."""
        angle = np.arange(len(x))[:, None] * self.rope_speeds()
        angle = angle.reshape(len(x), *([1] * (x.ndim - 2)), -1)
        co = np.cos(angle) * self.rotary_magnitude()
        si = np.sin(angle) * self.rotary_magnitude()
        half = x.shape[-1] // 2
        u, v = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
        y = u * co - v * si, u * si + v * co
        return np.stack(y, -1).reshape(x.shape) if interleaved else np.concatenate(y, -1)

    # -- Attention

    def index_scores(self, p, x, qr):
        """Lightning indexer: I[t, s] = sum_h w[t, h] relu(q[t, h] . k[s]), unmasked, [T, T]."""
        c, w = self.c, self.w
        n_heads, dim, rope = c["index_n_heads"], c["index_head_dim"], c["qk_rope_head_dim"]
        pairs = bool(c.get("indexer_rope_interleave", False))
        q = (qr @ w[p + "wq_b.weight"].T).reshape(-1, n_heads, dim)
        k = layer_norm(x @ w[p + "wk.weight"].T, w[p + "k_norm.weight"], w[p + "k_norm.bias"])
        q = np.concatenate([self.rotate(q[..., :rope], pairs), q[..., rope:]], -1)
        k = np.concatenate([self.rotate(k[..., :rope], pairs), k[..., rope:]], -1)
        g = (x @ w[p + "weights_proj.weight"].T) * n_heads**-0.5 * dim**-0.5
        return sum(g[:, h, None] * np.maximum(q[:, h] @ k.T, 0) for h in range(n_heads))

    def select(self, scores, out, l):
        """-> mask [T, T]: 0 where token t attends to token s."""
        k = self.c["index_topk"]
        mask = np.full(scores.shape, -np.inf)
        selected = np.full((len(scores), k), -1, np.int32)
        for t in range(len(scores)):
            s = scores[t, :t + 1]
            chosen = top_indices(s, min(k, t + 1))
            self.note_margin("dsa", s, chosen)
            mask[t, chosen] = 0
            selected[t, :len(chosen)] = np.sort(chosen)
        out[f"layer.{l}.index_scores"] = np.tril(scores)
        out[f"layer.{l}.selected"] = selected
        return mask

    def attention(self, l, x, out):
        c, w, p = self.c, self.w, f"model.layers.{l}.self_attn."
        n, n_heads = len(x), c["num_attention_heads"]
        nope, rope = c["qk_nope_head_dim"], c["qk_rope_head_dim"]
        v_dim, rank, eps = c["v_head_dim"], c["kv_lora_rank"], c["rms_norm_eps"]
        qr = None
        if c.get("q_lora_rank"):
            qr = rms_norm(x @ w[p + "q_a_proj.weight"].T, w[p + "q_a_layernorm.weight"], eps)
            q = qr @ w[p + "q_b_proj.weight"].T
        else:
            q = x @ w[p + "q_proj.weight"].T
        q = q.reshape(n, n_heads, nope + rope)
        qn, qp = q[..., :nope], self.rotate(q[..., nope:], True)
        kv = x @ w[p + "kv_a_proj_with_mqa.weight"].T
        latent = rms_norm(kv[:, :rank], w[p + "kv_a_layernorm.weight"], eps)
        kp = self.rotate(kv[:, rank:], True)
        b = w[p + "kv_b_proj.weight"].reshape(n_heads, nope + v_dim, rank)
        mask = np.where(np.tril(np.ones((n, n), bool)), 0.0, -np.inf)
        if c.get("index_topk"):
            mask = self.select(self.index_scores(p + "indexer.", x, qr), out, l)
        y = np.empty((n, n_heads, v_dim))
        for h in range(n_heads):
            k, v = latent @ b[h, :nope].T, latent @ b[h, nope:].T
            a = (qn[:, h] @ k.T + qp[:, h] @ kp.T) * self.softmax_scale()
            y[:, h] = softmax(a + mask) @ v
        out[f"layer.{l}.latent"], out[f"layer.{l}.k_rope"] = latent, kp
        return y.reshape(n, -1) @ w[p + "o_proj.weight"].T

    # -- Feed-forward

    def mlp(self, p, x):
        w = self.w
        gate, up = x @ w[p + "gate_proj.weight"].T, x @ w[p + "up_proj.weight"].T
        return (silu(gate) * up) @ w[p + "down_proj.weight"].T

    def gate(self, p, x):
        """-> (expert ids [T, K], weights [T, K]), best first by the score that selects."""
        c, w = self.c, self.w
        biased = c["topk_method"] == "noaux_tc"
        z = x @ w[p + "weight"].T
        s = 1 / (1 + np.exp(-z)) if c["scoring_func"] == "sigmoid" else softmax(z)
        score = s + w[p + "e_score_correction_bias"] if biased else s
        if c["n_group"] > 1 and c["topk_method"] != "greedy":
            g = score.reshape(len(x), c["n_group"], -1)
            of_group = np.sort(g, -1)[..., -2:].sum(-1) if biased else g.max(-1)
            groups, keep = top_indices(of_group, c["topk_group"]), np.zeros(of_group.shape, bool)
            np.put_along_axis(keep, groups, True, -1)
            for row, chosen in zip(of_group, groups):
                self.note_margin("group", row, chosen)
            score = np.where(keep[..., None], g, -np.inf).reshape(len(x), -1)
        ids = top_indices(score, c["num_experts_per_tok"])
        for row, chosen in zip(score, ids):
            self.note_margin("expert", row, chosen)
        weights = np.take_along_axis(s, ids, -1)
        if c.get("norm_topk_prob"):
            weights = weights / weights.sum(-1, keepdims=True)
        return ids, weights * c["routed_scaling_factor"]

    def moe(self, l, x, out):
        p = f"model.layers.{l}.mlp."
        ids, weights = self.gate(p + "gate.", x)
        out[f"layer.{l}.experts"] = ids.astype(np.int32)
        out[f"layer.{l}.expert_weights"] = weights
        y = self.mlp(p + "shared_experts.", x)
        for e in np.unique(ids):
            t, k = np.where(ids == e)
            y[t] += weights[t, k, None] * self.mlp(f"{p}experts.{e}.", x[t])
        return y

    def block(self, l, x, out):
        c, w, p = self.c, self.w, f"model.layers.{l}."
        eps = c["rms_norm_eps"]
        x = x + self.attention(l, rms_norm(x, w[p + "input_layernorm.weight"], eps), out)
        h = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        is_moe = l >= c["first_k_dense_replace"] and l % c["moe_layer_freq"] == 0
        x = x + (self.moe(l, h, out) if is_moe else self.mlp(p + "mlp.", h))
        out[f"layer.{l}.residual"] = x
        return x

    def forward(self, ids):
        """-> {logits [T, V], hidden [T, D] before the final norm, layer.L.residual, .latent,
        .k_rope, .experts, ...}, and with a multi-token-prediction layer mtp_logits [T - 1, V]:
        row i tells of token i + 2, from the normed hidden of token i and the embedding of
        token i + 1."""
        c, w, eps, out = self.c, self.w, self.c["rms_norm_eps"], {}
        embed = w["model.embed_tokens.weight"]
        ids = np.asarray(ids)
        x = embed[ids]
        for l in range(c["num_hidden_layers"]):
            x = self.block(l, x, out)
        h = rms_norm(x, w["model.norm.weight"], eps)
        out["hidden"], out["logits"] = x, h @ w["lm_head.weight"].T
        if c.get("num_nextn_predict_layers"):
            l = c["num_hidden_layers"]
            p = f"model.layers.{l}."
            e = rms_norm(embed[ids[1:]], w[p + "enorm.weight"], eps)
            g = rms_norm(h[:-1], w[p + "hnorm.weight"], eps)
            m = self.block(l, np.concatenate([e, g], -1) @ w[p + "eh_proj.weight"].T, out)
            m = rms_norm(m, w[p + "shared_head.norm.weight"], eps)
            out["mtp_logits"] = m @ w["lm_head.weight"].T
        return out

    def greedy(self, ids, n):
        """-> (n ids, the smallest distance of best and second-best logit on the way)"""
        ids, start, gap = list(ids), len(ids), math.inf
        for _ in range(n):
            z = self.forward(ids)["logits"][-1]
            second, best = np.sort(z)[-2:]
            gap = min(gap, float(best - second))
            ids.append(int(z.argmax()))
        return ids[start:], gap
