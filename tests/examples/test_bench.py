"""minke-bench: what scripts may rely on.

MINKE_PROGRAMS names the folder with the built programs.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("MINKE_PROGRAMS", ROOT / "build" / "examples"))
FOLDER = tempfile.TemporaryDirectory()
SHAPE = pathlib.Path(FOLDER.name) / "config.json"

CONFIG = {
    "model_type": "deepseek_v2", "hidden_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "q_lora_rank": None, "kv_lora_rank": 256, "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16, "v_head_dim": 32, "intermediate_size": 512, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 256, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "vocab_size": 1000, "rope_theta": 10000,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "scoring_func": "softmax",
    "routed_scaling_factor": 1.0}
RESULT = ["name", "depth", "tokens", "batch", "threads", "tok_s", "spread", "limit_tok_s",
          "fraction", "peak_bytes", "ms"]


def setUpModule() -> None:
    SHAPE.write_text(json.dumps(CONFIG))


def tearDownModule() -> None:
    FOLDER.cleanup()


def bench(*arguments: str) -> bytes:
    return subprocess.run([str(PROGRAMS / "minke-bench"), *arguments, "--read-mb", "64"],
                          capture_output=True, timeout=120, check=True).stdout


class Bench(unittest.TestCase):
    def test_json_has_the_promised_keys(self) -> None:
        out = json.loads(bench("--shape", str(SHAPE), "--type", "q4_k_m", "--threads", "1",
                               "--prefill", "32", "--decode", "16", "--depths", "0,100", "--json"))
        self.assertEqual(list(out), ["machine", "model", "results"])
        self.assertEqual(list(out["machine"]), ["read_gb_s", "int8_gop_s", "threads", "cpu"])
        self.assertGreater(out["machine"]["read_gb_s"], 0)
        self.assertEqual([r["name"] for r in out["results"]],
                         ["load", "prefill", "decode", "decode"])
        for result in out["results"]:
            self.assertEqual(list(result)[:len(RESULT)], RESULT)
            self.assertEqual(list(result["ms"]), ["index", "select", "attention", "moe", "rest"])
            self.assertEqual((result["batch"], result["threads"]), (1, 1))
            self.assertGreater(result["peak_bytes"], 1 << 20)
        decode = out["results"][3]
        self.assertEqual((decode["depth"], decode["tokens"]), (100, 16))
        self.assertAlmostEqual(decode["fraction"], decode["tok_s"] / decode["limit_tok_s"], 2)
        self.assertGreater(decode["ms"]["moe"], 0)
        self.assertGreater(decode["ms"]["attention"], 0)

    def test_what_cannot_be_measured_is_refused_before_it_is(self) -> None:
        many = ",".join(map(str, range(17)))
        for text, *options in ((b"foo", "--cache", "foo"), (many.encode(), "--depths", many),
                               (b"1;2", "--depths", "1;2"), (b"1024", "--decode", "1025"),
                               (b"foo", "--type", "foo")):
            done = subprocess.run([str(PROGRAMS / "minke-bench"), "--shape", str(SHAPE), *options],
                                  capture_output=True, timeout=120)
            self.assertIn(done.returncode, (1, 2), options)
            self.assertEqual(done.stdout, b"")
            self.assertIn(text, done.stderr)
        save = pathlib.Path(FOLDER.name) / "never.gguf"
        done = subprocess.run([str(PROGRAMS / "minke-bench"), FOLDER.name, "--save", str(save)],
                              capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"--shape", done.stderr)

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_lost_results_are_a_failure(self) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run([str(PROGRAMS / "minke-bench"), "--shape", str(SHAPE),
                                   "--prefill", "8", "--decode", "1", "--repeats", "1",
                                   "--read-mb", "16"], stdout=full, stderr=subprocess.PIPE,
                                  timeout=120)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot write the output", done.stderr)

    def test_a_saved_model_runs_and_draws(self) -> None:
        path = str(pathlib.Path(FOLDER.name) / "random.gguf")
        chart = pathlib.Path(FOLDER.name) / "chart.svg"
        bench("--shape", str(SHAPE), "--type", "q8_0", "--save", path)
        text = bench(path, "--prefill", "16", "--decode", "16", "--plot", str(chart)).decode()
        self.assertRegex(text, r"load +\d+\.\d+ s, .* of reading the file")
        self.assertRegex(text, r"decode +0 +16 ")
        self.assertEqual(xml.etree.ElementTree.parse(chart).getroot().tag,
                         "{http://www.w3.org/2000/svg}svg")


if __name__ == "__main__":
    unittest.main(verbosity=2)
