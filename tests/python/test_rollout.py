"""minke.learn.Rollout: the code of the documentation, and a file read without minke."""

import json
import pathlib
import re
import struct
import tempfile
import unittest

import minke

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALF = ROOT / "examples" / "calf"
CODE = re.findall(r"```python\n(.*?)```", (ROOT / "bindings" / "python" / "README.md").read_text(), re.S)


def read_rollout(path):
    """Arrays as flat tuples, with nothing but struct."""
    raw = pathlib.Path(path).read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:begin])
    facts = head.pop("__metadata__")
    kinds = {"I64": "q", "I32": "i", "F32": "f", "U16": "H", "U8": "B"}
    out = {}
    for name, a in head.items():
        data = raw[begin + a["data_offsets"][0]:begin + a["data_offsets"][1]]
        out[name] = [x for x, in struct.iter_unpack("<" + kinds[a["dtype"]], data)]
    return facts, out


class Rollouts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = f"{cls.folder.name}/rollout.safetensors"
        cls.model = minke.Model(CALF, threads=1, deterministic=True)
        code = next(c for c in CODE if "rollout.record(s)" in c)
        cls.names = {"minke": minke, "m": cls.model}
        exec(code.replace('"rollout.safetensors"', repr(cls.path)), cls.names)
        cls.rollout = cls.names["rollout"]

    @classmethod
    def tearDownClass(cls):
        for name in ("again", "rollout", "other", "s", "p"):
            cls.names[name].close()
        cls.model.close()
        cls.folder.cleanup()

    def test_scores_again_are_the_recorded_bits(self):
        self.assertEqual(self.names["logprobs"], list(self.rollout["logprobs"]))
        self.assertEqual(self.names["full"], list(self.rollout["logprobs_full"]))

    def test_the_file_is_read_without_minke(self):
        facts, arrays = read_rollout(self.path)
        self.assertEqual(sorted(arrays), sorted(self.rollout))
        for name, values in arrays.items():
            self.assertEqual(values, list(self.rollout[name]), name)
        self.assertEqual(json.loads(facts["sampling"])["seed"], "1")
        self.assertEqual(int(facts["n_prompt"]), arrays["sampled"].index(1))
        self.assertEqual(sum(arrays["sampled"]), 32)

    def test_numpy_reads_it_in_ten_lines(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is not installed")
        code = next(c for c in CODE if "def read_rollout" in c)
        self.assertLessEqual(len(code.strip().splitlines()), 10)
        names = {}
        exec(code, names)
        facts, arrays = names["read_rollout"](self.path)
        self.assertEqual(list(arrays["experts"].shape), self.rollout.shape("experts"))
        for name in self.rollout:
            self.assertTrue(numpy.array_equal(arrays[name].ravel(), numpy.array(self.rollout[name])), name)
        self.assertEqual(facts["finish_reason"], "")

    def test_a_drawn_token_is_among_the_allowed(self):
        tokens, sampled = self.rollout["tokens"], self.rollout["sampled"]
        for t, drawn in enumerate(sampled):
            allowed = self.rollout.allowed(t)
            self.assertTrue(not drawn or allowed is None or tokens[t] in allowed)

    def test_chats_are_recorded(self):
        with self.model.session(max_tokens=256) as session, \
                minke.learn.Rollout(self.model, 256) as rollout:
            rollout.record(session)
            for event in self.model.chat([{"role": "user", "content": "What is 12 + 30?"}], session=session,
                                         temperature=1.0, top_p=0.95, seed=2, max_tokens=24):
                pass
            self.assertEqual(rollout.facts["finish_reason"], event.reason)
            self.assertGreater(sum(rollout["sampled"]), 3)

    def test_what_is_wrong_is_said(self):
        with self.assertRaisesRegex(minke.MinkeError, "'routes'"):
            minke.learn.replay(self.names["other"], self.rollout, "routes")
        with self.assertRaisesRegex(minke.MinkeError, "no such file"):
            minke.learn.Rollout.load(self.model, f"{self.folder.name}/none")
        with self.assertRaisesRegex(ValueError, "NUL"):
            self.rollout.save(f"{self.folder.name}/a\0b")
        with self.assertRaises(KeyError):
            self.rollout["selected"]


if __name__ == "__main__":
    unittest.main()
