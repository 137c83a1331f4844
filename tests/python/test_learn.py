"""minke.learn: rewards and a judge; objectives against formulas written down again here, against
central differences, and against numbers that other libraries' code gave."""

import itertools
import math
import random
import unittest

import minke
from minke.learn import objective, reward

PRESETS = ("grpo", "dapo", "dr_grpo", "olmo3", "v3.2")
LENGTHS = (3, 5, 1, 0, 4, 2)
GROUPS = (7, -4, 7, -4, 7, 12)
REWARDS = (1.0, 0.0, 0.25, 2.0, 0.0, 1.0)


def batch(seed: int = 1, wide: float = 0.4) -> dict:
    """Log-probabilities whose ratios lie on both sides of both clips, and not at their edges."""
    rng = random.Random(seed)

    def rows(base, spread):
        return [[x + rng.uniform(-spread, spread) for x in row] for row in base]

    old = rows([[-1.5] * n for n in LENGTHS], 1.0)
    while True:
        logp = rows(old, wide)
        ratios = [math.exp(a - b) for x, y in zip(logp, old) for a, b in zip(x, y)]
        if all(abs(r - edge) > 1e-3 for r in ratios for edge in (0.8, 0.9, 1.2, 1.272, 1.28, 1.1)):
            break
    return {"rewards": list(REWARDS), "groups": list(GROUPS), "logp": logp, "old": old,
            "ref": rows(logp, 0.5), "rollout": rows(old, 0.3)}


def reference(b: dict, advantage: str, aggregation: str, kl: str, drop: bool, low: float,
              high: float, ddof: int = 0, eps: float = 0.0, weight=0.0, delta=None, cap=None,
              constant: float = 1.0) -> float:
    """The loss, as the papers' formulas read."""
    members = {g: [i for i, x in enumerate(b["groups"]) if x == g] for g in b["groups"]}
    kept = {g: m for g, m in members.items()
            if not (drop and len({b["rewards"][i] for i in m}) == 1)}
    total = sum(LENGTHS[i] for m in kept.values() for i in m)
    n = sum(len(m) for m in kept.values())
    loss = 0.0
    for m in kept.values():
        values = [b["rewards"][i] for i in m]
        mean = sum(values) / len(values)
        std = 0.0
        if len(m) > 1:
            std = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(m) - ddof))
        for i in m:
            a = b["rewards"][i] - mean
            if advantage == "mean_std":
                a = a / (std + eps) if a else 0.0
            size = LENGTHS[i]
            rollout = b["rollout"] or b["old"]
            gap = sum(y - x for x, y in zip(b["logp"][i], rollout[i])) / max(size, 1)
            mask = 0.0 if delta is not None and a < 0 and gap > delta else 1.0
            beta = weight[i] if isinstance(weight, list) else weight
            term = 0.0
            for t in range(size):
                lp, old, ref = b["logp"][i][t], b["old"][i][t], b["ref"][i][t]
                r = math.exp(lp - old)
                w = min(math.exp(old - rollout[i][t]), cap) if cap else 1.0
                best = min(r * a, max(1 - low, min(1 + high, r)) * a)
                k3 = math.exp(ref - lp) - (ref - lp) - 1
                d = {"none": 0.0, "k1": lp - ref, "k2": (lp - ref) ** 2 / 2, "k3": k3,
                     "unbiased": r * k3}[kl]
                term += -w * mask * best + beta * d
            loss += term * {"sequence_mean": 1 / (n * max(size, 1)), "token_mean": 1 / total,
                            "group_tokens": 1 / (len(kept) * sum(LENGTHS[j] for j in m)),
                            "constant_length": 1 / (n * constant)}[aggregation]
    return loss


OF_PRESET = {
    "grpo": dict(advantage="mean_std", aggregation="sequence_mean", kl="k3", drop=False, low=0.2,
                 high=0.2),
    "dapo": dict(advantage="mean_std", aggregation="token_mean", kl="k3", drop=True, low=0.2,
                 high=0.28),
    "dr_grpo": dict(advantage="mean", aggregation="constant_length", kl="k3", drop=False, low=0.2,
                    high=0.2),
    "olmo3": dict(advantage="mean", aggregation="token_mean", kl="k3", drop=True, low=0.2,
                  high=0.272),
    "v3.2": dict(advantage="mean", aggregation="sequence_mean", kl="unbiased", drop=False,
                 low=0.2, high=0.2),
}

# A switch, and what it changes in the reference.
SWITCHES = [
    ({}, {}),
    ({"advantage": "mean"}, {"advantage": "mean"}),
    ({"advantage": "mean_std"}, {"advantage": "mean_std"}),
    ({"advantage": "mean_std", "std_ddof": 1, "std_eps": 1e-4},
     {"advantage": "mean_std", "ddof": 1, "eps": 1e-4}),
    ({"aggregation": "sequence_mean"}, {"aggregation": "sequence_mean"}),
    ({"aggregation": "token_mean"}, {"aggregation": "token_mean"}),
    ({"aggregation": "group_tokens"}, {"aggregation": "group_tokens"}),
    ({"constant_length": 6}, {"aggregation": "constant_length", "constant": 6}),
    ({"clip_low": 0.1}, {"low": 0.1}),
    ({"clip_high": 0.1}, {"high": 0.1}),
    ({"clip_low": math.inf, "clip_high": math.inf}, {"low": 1e9, "high": 1e9}),
    ({"kl": "none", "kl_weight": 0.3}, {"kl": "none"}),
    ({"kl": "k1", "kl_weight": 0.3}, {"kl": "k1", "weight": 0.3}),
    ({"kl": "k2", "kl_weight": 0.3}, {"kl": "k2", "weight": 0.3}),
    ({"kl": "k3", "kl_weight": 0.3}, {"kl": "k3", "weight": 0.3}),
    ({"kl": "unbiased", "kl_weight": 0.3}, {"kl": "unbiased", "weight": 0.3}),
    ({"kl_weight": 0.3}, {"weight": 0.3}),
    ({"kl_weight": [0.1, 0.0, 0.5, 1.0, 2.0, 0.25]}, {"weight": [0.1, 0.0, 0.5, 1.0, 2.0, 0.25]}),
    ({"off_policy_delta": 0.0, "kl_weight": 0.2}, {"delta": 0.0, "weight": 0.2}),
    ({"off_policy_delta": -10.0}, {"delta": -10.0}),
    ({"tis_cap": 1.1}, {"cap": 1.1}),
    ({"filter_groups": True}, {"drop": True}),
    ({"filter_groups": False}, {"drop": False}),
]


# What the code of TRL (@f2cd577, GRPOTrainer._compute_loss, get_off_policy_mask, nanstd) and of
# verl (@b178a3c, core_algos: compute_grpo_outcome_advantage, compute_policy_loss_vanilla,
# kl_penalty, agg_loss) gave in float64 on recorded(): loss, and gradient of sequence 1.
RECORDED = [
    ("TRL grpo", "grpo", dict(std_ddof=1, std_eps=1e-4, kl_weight=0.1),
     0.06356556232495479,
     [0.026067148055080046, 0.02598878842160683, 0.0006631805206481576,
      -0.0021495384118435765, 0.021969323041363502]),
    ("TRL dapo", "dapo", dict(std_ddof=1, std_eps=1e-4, filter_groups=False),
     0.16728933749719632,
     [0.05331022242232128, 0.0516990931067817, 0.0,
      0.0, 0.048216201205711365]),
    ("TRL dr_grpo", "dr_grpo", dict(constant_length=10),
     0.036576634446188167,
     [0.009425337700907185, 0.00914048730657768, 0.0,
      0.0, 0.008524706113933517]),
    ("TRL V3.2: mask, bias-corrected KL", "v3.2", dict(kl_weight=0.1, off_policy_delta=0.1),
     -0.17248631585038035,
     [-0.0006124566789684045, 0.00015601027024376426, 0.0005622302203092564,
      -0.0011253876938032569, -0.001690250227300937]),
    ("TRL dapo, vLLM correction truncated", "olmo3", dict(tis_cap=1.1, filter_groups=False),
     0.12140218986096114,
     [0.02864189465774339, 0.029684416080375853, 0.0,
      0.0, 0.02665827884979069]),
    ("verl seq-mean-token-mean", "grpo", dict(std_ddof=1, std_eps=1e-6, kl_weight=0.1),
     0.07628195625915239,
     [0.031285055884342716, 0.031190888982787428, 0.0007958166231861559,
      -0.002579446089053399, 0.026367237958710515]),
    ("verl token-mean", "dapo", dict(std_ddof=1, std_eps=1e-6, kl_weight=0.1, filter_groups=False),
     0.17143789045509383,
     [0.05214175991152139, 0.051984815075282007, 0.0013263610412963152,
      -0.004299076823687153, 0.043945396685741656]),
    ("verl token-mean, no std", "olmo3", dict(clip_high=0.2, kl_weight=0.1, filter_groups=False),
     0.1504339317428932,
     [0.036525424491467555, 0.03684043296274267, 0.0013263610412963152,
      -0.004299076823687153, 0.029821269332749707]),
]


def recorded() -> dict:
    """As batch, in groups of two, which is what TRL can take."""
    return {**batch(11), "groups": [0, 0, 1, 1, 2, 2]}


class Objectives(unittest.TestCase):
    def test_every_switch_over_every_preset_is_the_formula(self) -> None:
        for preset, (switch, change), seed in itertools.product(PRESETS, SWITCHES, (1, 2, 3)):
            with self.subTest(preset=preset, switch=switch, seed=seed):
                b = batch(seed)
                expected = reference(b, **{**OF_PRESET[preset], **change})
                found = objective(preset, **b, **switch)
                self.assertAlmostEqual(found.loss, expected, delta=1e-13)
                self.assertAlmostEqual(found.stats.policy_loss + found.stats["kl_loss"],
                                       found.loss, delta=1e-13)

    def test_every_gradient_is_that_of_central_differences(self) -> None:
        h = 1e-6
        for preset, (switch, _) in itertools.product(PRESETS, SWITCHES):
            b = batch(5)
            if "off_policy_delta" not in switch:
                b["rollout"] = b["rollout"] if "tis_cap" in switch else None
            found = objective(preset, **b, **switch)
            for i, t in ((i, t) for i, n in enumerate(LENGTHS) for t in range(n)):
                x = b["logp"][i][t]
                b["logp"][i][t] = x + h
                above = objective(preset, **b, **switch).loss
                b["logp"][i][t] = x - h
                below = objective(preset, **b, **switch).loss
                b["logp"][i][t] = x
                with self.subTest(preset=preset, switch=switch, i=i, t=t):
                    self.assertAlmostEqual((above - below) / (2 * h), found.grad[i][t],
                                           delta=1e-6)

    def test_gradient_of_the_unbiased_kl_is_ratio_times_log_ratio(self) -> None:
        b = batch(3)
        b["rewards"] = [1.0] * len(LENGTHS)       # no advantage: the KL term is all there is
        found = objective("v3.2", **b, kl_weight=1.0)
        for i, row in enumerate(found.grad):
            for t, value in enumerate(row):
                lp, old, ref = b["logp"][i][t], b["old"][i][t], b["ref"][i][t]
                self.assertAlmostEqual(value * len(LENGTHS) * LENGTHS[i],
                                       math.exp(lp - old) * (lp - ref), delta=1e-12)

    def test_numbers_of_other_libraries_in_their_settings(self) -> None:
        for name, preset, switches, loss, grad in RECORDED:
            with self.subTest(name):
                found = objective(preset, **recorded(), **switches)
                # verl leaves the empty sequence out of the mean over sequences, and adds 1e-8 to
                # the length of the others.
                verl = name == "verl seq-mean-token-mean"
                scale, delta = (6 / 5, 1e-8) if verl else (1, 1e-12)
                self.assertAlmostEqual(found.loss * scale, loss, delta=delta)
                for mine, theirs in zip(found.grad[1], grad):
                    self.assertAlmostEqual(mine * scale, theirs, delta=delta)
        self.assertEqual(objective("v3.2", **recorded(), off_policy_delta=0.1)
                         .stats.masked_sequences, 3)

    def test_rollout_is_old_where_there_is_none(self) -> None:
        b = batch(4)
        b["rollout"] = None
        switches = {"off_policy_delta": -0.3, "tis_cap": 0.9}
        with_old = objective("v3.2", **{**b, "rollout": b["old"]}, **switches)
        without = objective("v3.2", **b, **switches)
        self.assertEqual((with_old.loss, with_old.grad), (without.loss, without.grad))
        self.assertGreater(without.stats.masked_sequences, 0)
        self.assertEqual(objective("v3.2", **b).stats.masked_sequences, 0)

    def test_a_single_sample_and_an_empty_answer_teach_nothing(self) -> None:
        for preset in PRESETS:
            found = objective(preset, rewards=[3.0], groups=[0], logp=[[-1.0]], old=[[-2.0]])
            self.assertEqual((found.loss, found.grad, found.advantages), (0.0, [[0.0]], [0.0]))
            found = objective(preset, rewards=[3.0, 1.0], groups=[0, 0], logp=[[], []],
                              old=[[], []])
            self.assertEqual((found.loss, found.grad), (0.0, [[], []]))
            self.assertEqual(found.stats.tokens, 0)

    def test_length_penalty_is_added_before_the_mean(self) -> None:
        b = batch(1)
        found = objective("v3.2", **b, overlong=(5, 4))
        shaped = [r + max(-1.0, min(0.0, (1 - n) / 4)) for r, n in zip(REWARDS, LENGTHS)]
        self.assertEqual(found.advantages,
                         objective("v3.2", **{**b, "rewards": shaped}).advantages)

    def test_what_is_wrong_is_named(self) -> None:
        good = dict(rewards=[1.0, 0.0], groups=[0, 0], logp=[[-1.0], [-2.0, -1.0]],
                    old=[[-1.0], [-2.0, -1.0]])
        for change, part in (
                ({"rewards": [math.nan, 0.0]}, "rewards[0] is nan"),
                ({"rewards": [1.0]}, "rewards has 1 sequences"),
                ({"old": [[-1.0], [-2.0]]}, "old[1] has 1 numbers"),
                ({"old": [[-1.0], [-2.0, -math.inf]]}, "old[1][1] is -inf"),
                ({"rollout": [[-1.0]]}, "rollout has 1 sequences"),
                ({"kl_weight": 0.5}, "ref is NULL"),
                ({"kl_weight": [0.5]}, "kl_weight has 1 sequences"),
                ({"kl_weight": math.inf}, "kl_weight is inf"),
                ({"groups": [0, 2**31]}, "out of range"),
                ({"kl": "k4"}, "kl 'k4'"),
                ({"aggregation": "sum"}, "aggregation 'sum'"),
                ({"std_ddof": -1}, "std_ddof is -1"),
                ({"std_ddof": 2}, "std_ddof is 2"),
                ({"constant_length": 0}, "constant_length is 0"),
                ({"tis_cap": math.nan}, "tis_cap is nan"),
                ({"off_policy_delta": math.nan}, "off_policy_delta is nan"),
                ({"overlong": (4, 5)}, "overlong_cache is 5"),
                ({"overlong": (-4, 5)}, "overlong is -4")):
            with self.subTest(change):
                with self.assertRaises(minke.MinkeError) as caught:
                    objective("grpo", **{**good, **change})
                self.assertIn(part, caught.exception.message)
        with self.assertRaises(minke.MinkeError):
            objective("ppo", **good)
        with self.assertRaises(minke.MinkeError):
            objective("grpo", rewards=[], groups=[], logp=[], old=[])
        with self.assertRaises(minke.MinkeError):
            objective("grpo\0", **good)
        with self.assertRaises(TypeError):
            objective("grpo", **good, std_ddof=0.5)
        with self.assertRaises(TypeError):
            objective("grpo", **good, cliphigh=0.1)
        with self.assertRaises(AttributeError):
            objective("grpo", **good).stats.nothing

    def test_same_input_same_bits(self) -> None:
        b = batch(2)
        one, two = (objective("v3.2", **b, kl_weight=0.1) for _ in range(2))
        self.assertEqual((one.loss, one.grad, one.stats), (two.loss, two.grad, two.stats))


class Rewards(unittest.TestCase):
    def test_boxed_answers(self) -> None:
        reply = "<think>\\boxed{1}</think> So \\boxed{\\frac{1}{2}}."
        self.assertEqual(reward.boxed(reply), "\\frac{1}{2}")
        self.assertIsNone(reward.boxed("no answer"))
        self.assertEqual(reward.answer(reply, "0.50"), 1.0)
        self.assertEqual(reward.answer(reply, "1"), 0.0)
        self.assertTrue(reward.equal("1,000", "1e3"))
        self.assertFalse(reward.equal("50%", "50"))
        self.assertTrue(reward.equal("50%", "50", percent_is_unit=True))
        self.assertFalse(reward.equal("5\\text{ cm}", "5", same_units=True))
        self.assertEqual(reward.boxed("\\boxed{\ud800}"), "?")

    def test_format_language_length_and_rubrics(self) -> None:
        self.assertEqual(reward.format("<think>a</think>b"), 1.0)
        self.assertEqual(reward.format("<think>a</think>b", "answer"), 0.0)
        self.assertEqual(reward.language("鲸鱼 whale", "zh"), 2 / 3)
        self.assertEqual([reward.overlong(n, 20480, 4096) for n in
                          (16384, 16385, 18432, 20480, 20481)], [0, -1 / 4096, -0.5, -1, -1])
        self.assertEqual(reward.rubric([1.0, 0.5], [1, -1]), 0.25)
        for call in (lambda: reward.format("", "none"), lambda: reward.language("a", "x"),
                     lambda: reward.overlong(-1, 5, 1), lambda: reward.rubric([]),
                     lambda: reward.rubric([1.0], [1.0, 2.0]),
                     lambda: reward.rubric([math.nan])):
            with self.assertRaises(minke.MinkeError):
                call()

    def test_a_judge_is_a_function_that_writes_text(self) -> None:
        asked = []

        def complete(ask, prompt, n, seed):
            asked.append((ask, prompt, n, seed))
            yield from ["fine: \\boxed{4}", "\\boxed{2}", ("\\boxed{0}", "length")][:n]

        found = reward.judge("Q?", "A.", ["true", "short"], complete, weights=[3, 1], samples=3,
                             max_score=4, seed=7)
        self.assertEqual((found.reward, found.scores), (0.75, [0.75, 0.75]))
        self.assertEqual([(ask, n, seed) for ask, _, n, seed in asked],
                         [("judge", 3, 7), ("judge", 3, 10)])
        self.assertIn("true", asked[0][1])
        mute = reward.judge("Q?", "A.", ["true"], lambda *_: [], prompt="{rubric}{max}")
        self.assertEqual((mute.reward, mute.scores), (0.0, [None]))

        def broken(*_):
            raise KeyError("broken")

        with self.assertRaises(KeyError):
            reward.judge("Q?", "A.", ["true"], broken)
        with self.assertRaises(minke.MinkeError):
            reward.judge("Q?", "A.", [], complete)


if __name__ == "__main__":
    unittest.main(verbosity=2)
