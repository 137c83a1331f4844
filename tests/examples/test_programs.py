"""The programs and examples, as somebody at a terminal or a script would run them.

MINKE_PROGRAMS names the folder with the built programs.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("MINKE_PROGRAMS", ROOT / "build" / "examples"))
FOLDER = tempfile.TemporaryDirectory()
MODEL = str(pathlib.Path(FOLDER.name) / "model")


def setUpModule() -> None:
    subprocess.run([sys.executable, str(ROOT / "examples" / "make_random.py"), MODEL,
                    "--hidden", "64", "--layers", "3", "--experts", "8"], check=True,
                   stdout=subprocess.DEVNULL)


def tearDownModule() -> None:
    FOLDER.cleanup()


def run(program: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    return subprocess.run([str(PROGRAMS / program), *arguments], input=stdin,
                          capture_output=True, timeout=120)


class Options(unittest.TestCase):
    def test_help_goes_to_stdout(self) -> None:
        for program in ("minke-generate", "minke-inspect"):
            done = run(program, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertTrue(done.stdout.startswith(b"usage: " + program.encode()))

    def test_a_model_is_opened_by_default(self) -> None:
        with unittest.mock.patch.dict(os.environ, MINKE_MODEL=MODEL):
            named = run("minke-generate", MODEL, "The whale", "--quiet", "--ignore-eos")
            self.assertEqual(named.returncode, 0, named.stderr)
            for words in ([], ["calf"], ["calf", "The whale"]):
                done = run("minke-generate", *words, "--quiet", "--ignore-eos",
                           stdin=b"The whale")
                self.assertEqual((done.returncode, done.stdout), (0, named.stdout), done.stderr)

    def test_version(self) -> None:
        done = run("minke-generate", "--version")
        self.assertRegex(done.stdout, rb"^minke-generate \d+\.\d+\.\d+\n$")

    def assert_usage_error(self, text: bytes, *arguments: str) -> None:
        done = run(*arguments)
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def test_wrong_options_are_named(self) -> None:
        self.assert_usage_error(b"--tempreature", "minke-generate", MODEL, "--tempreature", "1")
        self.assert_usage_error(b"--top-k", "minke-generate", MODEL, "x", "--top-k", "-3")
        self.assert_usage_error(b"many", "minke-generate", MODEL, "x", "--max-tokens", "many")
        self.assert_usage_error(b"--seed", "minke-generate", MODEL, "x", "--seed")
        with unittest.mock.patch.dict(os.environ, MINKE_MODEL=""):
            self.assert_usage_error(b"no model", "minke-generate")
        self.assert_usage_error(b"no model", "minke-inspect")
        self.assert_usage_error(b"extra", "minke-generate", MODEL, "x", "extra")
        self.assert_usage_error(b"--ids", "minke-generate", MODEL, "--ids", "1,x")
        self.assert_usage_error(b"more than one", "minke-generate", MODEL, "x", "--ids", "1")
        self.assert_usage_error(b"top_p", "minke-generate", MODEL, "x", "--top-p", "2")


class Generate(unittest.TestCase):
    def result(self, *arguments: str, stdin: bytes = b"") -> dict:
        done = run("minke-generate", MODEL, "--json", *arguments, stdin=stdin)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return json.loads(done.stdout)

    def test_text_and_json_agree(self) -> None:
        options = ["--max-tokens", "24", "--temperature", "1", "--seed", "3", "--ignore-eos"]
        result = self.result("The whale", *options)
        done = run("minke-generate", MODEL, "The whale", "--quiet", *options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.decode(), result["text"] + "\n")
        self.assertEqual(len(result["ids"]), 24)
        self.assertEqual(result["finish"], "length")
        self.assertGreater(result["decode_tok_s"], 0)

    def test_prompts_from_every_source_agree(self) -> None:
        a = self.result("The whale", "--max-tokens", "8")
        b = self.result("--max-tokens=8", stdin=b"The whale")
        c = self.result("--file", "-", "--max-tokens", "8", stdin=b"The whale")
        d = self.result("--ids", ",".join(map(str, a["prompt_ids"])), "--max-tokens", "8")
        for other in (b, c, d):
            self.assertEqual(a["prompt_ids"], other["prompt_ids"])
            self.assertEqual(a["ids"], other["ids"])

    def test_the_summary_has_rates(self) -> None:
        done = run("minke-generate", MODEL, "The whale", "--max-tokens", "4", "--ignore-eos")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr.count(b"tokens/s"), 2)
        self.assertNotIn(b"\r", done.stderr)   # no bar: stderr is no terminal

    def test_a_full_session_says_so(self) -> None:
        result = self.result("--ids", "0,5,6", "--context", "6", "--ignore-eos")
        self.assertEqual((result["finish"], len(result["ids"])), ("full", 4))

    def test_failures_name_the_cause(self) -> None:
        done = run("minke-generate", MODEL + "/none", "x")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"none", done.stderr)
        done = run("minke-generate", MODEL, "--ids", "512")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"512", done.stderr)
        done = run("minke-generate", MODEL, "--file", "/no/such/file")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"/no/such/file", done.stderr)


class Streams(unittest.TestCase):
    """Output that arrives nowhere, and names that are no files."""

    PROGRAMS = ("chat", "generate", "inspect", "quantize", "bench", "prove")

    def shell(self, line: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
        return subprocess.run(["sh", "-c", line], input=stdin, capture_output=True, timeout=120,
                              cwd=FOLDER.name, env={**os.environ, "MODEL": MODEL,
                                                    "PATH": f"{PROGRAMS}:{os.environ['PATH']}"})

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_output_that_is_lost_is_a_failure(self) -> None:
        for program in self.PROGRAMS:
            for option in ("--help", "--version"):
                done = self.shell(f"minke-{program} {option} >/dev/full")
                self.assertEqual(done.returncode, 1, program)
                self.assertIn(b"cannot write the output", done.stderr)
        for line in ('minke-generate "$MODEL" x', 'minke-inspect "$MODEL"',
                     'echo hi | minke-chat "$MODEL" --encoding deepseek-v3 --max-tokens 2'):
            for target in (" >/dev/full", " >&-"):
                done = self.shell(line + target)
                self.assertEqual(done.returncode, 1, line + target)
                self.assertIn(b"cannot write the output", done.stderr)

    def test_input_that_cannot_be_read_is_a_failure(self) -> None:
        for line in ('minke-generate "$MODEL"', 'minke-chat "$MODEL" --encoding deepseek-v3'):
            for source in ("<&-", "<."):
                done = self.shell(line + source)
                self.assertEqual(done.returncode, 1, line + source)
                self.assertIn(b"cannot read standard input", done.stderr)

    def test_a_closed_stderr_does_not_become_the_file_that_is_written(self) -> None:
        whole = self.shell('minke-quantize "$MODEL" whole.gguf --head q4_k')
        closed = self.shell('minke-quantize "$MODEL" closed.gguf --head q4_k <&- >&- 2>&-')
        self.assertEqual((whole.returncode, closed.returncode), (0, 0), whole.stderr)
        a, b = (pathlib.Path(FOLDER.name, name).read_bytes()
                for name in ("whole.gguf", "closed.gguf"))
        self.assertTrue(a == b)

    @unittest.skipIf(os.name == "nt", "no signals")
    def test_a_signal_stops_the_text_and_is_the_exit_status(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(
                [str(PROGRAMS / "minke-generate"), MODEL, "x", "--ignore-eos", "--context", "4000",
                 "--max-tokens", "4000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdout.read(1)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 128 + number, said)
            self.assertIn(b"canceled", said)

    def test_what_is_no_regular_file_is_not_replaced(self) -> None:
        pipe = pathlib.Path(FOLDER.name, "pipe")
        os.mkfifo(pipe)
        for line in ('minke-quantize "$MODEL" pipe',
                     'echo /save pipe | minke-chat "$MODEL" --encoding deepseek-v3'):
            done = self.shell(line)
            self.assertEqual(done.returncode, 1, line)
            self.assertIn(b"pipe", done.stderr)
            self.assertTrue(pipe.is_fifo(), line)
        pipe.unlink()

    def test_names_that_are_not_utf8_are_still_json(self) -> None:
        os.symlink(MODEL, os.path.join(os.fsencode(FOLDER.name), b"m\xff\"x"))
        done = self.shell("minke-generate m*x hi --json --max-tokens 1")
        self.assertEqual(json.loads(done.stdout.decode("utf-8"))["model"], 'm\ufffd"x')

    def test_names_in_files_do_not_command_the_terminal(self) -> None:
        folder = pathlib.Path(FOLDER.name, "names")
        shutil.copytree(MODEL, folder)
        path = folder / "model.safetensors"
        data = path.read_bytes()
        n = int.from_bytes(data[:8], "little")
        head = json.loads(data[8:8 + n])
        head["a\nb\033[31m"] = {"dtype": "F32", "shape": [0],
                                "data_offsets": [len(data) - n - 8] * 2}
        text = json.dumps(head).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n:])
        done = self.shell("minke-inspect names")
        self.assertIn(b"\n  a?b?[31m\n", done.stdout)

    def test_nothing_is_said_before_it_is_known(self) -> None:
        for option in ("", "--json"):
            done = self.shell(f'minke-inspect "$MODEL" --context 4294967295 {option}')
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertIn(b"4294967295", done.stderr)

    def test_numbers_out_of_range_are_not_taken_for_none(self) -> None:
        for line in ('minke-prove "$MODEL" x --max-tokens 1 --rounds 1 --temperature -1',
                     'echo x | minke-chat "$MODEL" --encoding deepseek-v3 --temperature -1'):
            done = self.shell(line)
            self.assertEqual(done.returncode, 1, line)
            self.assertIn(b"temperature is -1", done.stderr)
        done = self.shell('minke-generate "$MODEL" x --temperature 1e300')
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"1e300", done.stderr)


class Inspect(unittest.TestCase):
    def test_json_facts(self) -> None:
        done = run("minke-inspect", MODEL, "--json", "--context", "1024")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        facts = json.loads(done.stdout)
        self.assertEqual(facts["model_type"], "deepseek_v32")
        self.assertEqual((facts["n_vocab"], facts["n_layers"], facts["context"]), (512, 3, 1024))
        parts = sum(facts["bytes_" + part] for part in ("embed", "attention", "experts", "other"))
        self.assertEqual(parts, facts["weight_bytes"])
        self.assertEqual(facts["surplus"], [])
        self.assertRegex(facts["identity"], "^[0-9a-f]{16}$")
        more = json.loads(run("minke-inspect", MODEL, "--json", "--context", "2048").stdout)
        self.assertGreater(more["session_bytes"], facts["session_bytes"])

    def test_attention_is_the_models_own_or_what_was_asked_for(self) -> None:
        prompt = ("--ids", "0" + ",5,6,7" * 40, "--max-tokens", "4", "--ignore-eos",
                  "--cache", "f32")

        def ids(*options: str) -> list:
            done = run("minke-generate", MODEL, "--json", *prompt, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)["ids"]

        self.assertEqual(ids(), ids("--attention", "dsa"))
        self.assertEqual(ids("--attention", "dense"), ids("--window", "1000"))
        self.assertEqual(len(ids("--attention", "window", "--window", "3")), 4)
        for options in (("--attention", "window"), ("--attention", "all"),
                        ("--attention", "dense", "--window", "3")):
            done = run("minke-generate", MODEL, *prompt, *options)
            self.assertEqual((done.returncode, done.stdout), (2, b""))
            self.assertIn(b"--attention", done.stderr)

    def test_caches_take_what_they_are_told(self) -> None:
        size = {}
        for cache in ("f32", "bf16", "fp8", "native"):
            done = run("minke-inspect", MODEL, "--json", "--context", "4096", "--cache", cache)
            size[cache] = json.loads(done.stdout)["session_bytes"]
        self.assertGreater(size["f32"], size["bf16"])
        self.assertGreater(size["bf16"], size["fp8"])
        self.assertEqual(size["fp8"], size["native"])
        done = run("minke-inspect", MODEL, "--cache", "f64")
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"not f64", done.stderr)

    def test_text_names_the_parts(self) -> None:
        done = run("minke-inspect", MODEL)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for word in (b"deepseek_v32", b"routed experts", b"4096 tokens", b"deepseek-v3"):
            self.assertIn(word, done.stdout)

    def draw(self, kind: str, text: str, *options: str) -> xml.etree.ElementTree.Element:
        prompt = pathlib.Path(FOLDER.name) / "prompt.txt"
        prompt.write_text(text, encoding="utf-8")
        done = run("minke-inspect", MODEL, "--" + kind, str(prompt), *options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        if "-o" not in options:
            return xml.etree.ElementTree.fromstring(done.stdout)
        self.assertEqual(done.stdout, b"")
        return xml.etree.ElementTree.parse(options[-1]).getroot()

    def test_attention_is_drawn_layer_by_layer(self) -> None:
        out = str(pathlib.Path(FOLDER.name) / "attention.svg")
        for words, options in ((1, ()), (30, ("-o", out)), (400, ("--threads", "1"))):
            root = self.draw("attention", "The small whale dives. " * words, *options)
            texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
            self.assertEqual([t for t in texts if t.startswith("layer ")],
                             ["layer 0", "layer 1", "layer 2"])

    def test_experts_are_counted(self) -> None:
        root = self.draw("experts", "The small whale dives <deep> & far.")
        titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title")]
        layers = {title.split(",")[0] for title in titles}
        self.assertEqual(len(titles), 8 * len(layers))
        for layer in layers:
            used = [int(t.split(": ")[1].split()[0]) for t in titles if t.startswith(layer + ",")]
            self.assertEqual(sum(used) % len(self.ids("The small whale dives <deep> & far.")), 0)

    def ids(self, text: str) -> list:
        done = run("minke-inspect", MODEL, "--tokens", text, "--json")
        return [0] + json.loads(done.stdout)["tokens"]

    def test_drawings_that_cannot_be_are_refused(self) -> None:
        self.assertEqual(run("minke-inspect", MODEL, "-o", "a.svg").returncode, 2)
        self.assertEqual(run("minke-inspect", MODEL, "--attention", "a", "--experts",
                             "a").returncode, 2)
        done = run("minke-inspect", MODEL, "--attention", "/no/such/file")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"/no/such/file", done.stderr)
        dense = str(pathlib.Path(FOLDER.name) / "dense")
        subprocess.run([sys.executable, str(ROOT / "examples" / "make_random.py"), dense,
                        "--kind", "v2-lite", "--hidden", "64", "--layers", "2"], check=True,
                       stdout=subprocess.DEVNULL)
        done = run("minke-inspect", dense, "--attention", str(ROOT / "README.md"))
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"no indexer", done.stderr)

    def test_tokens_need_only_the_tokenizer(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (pathlib.Path(folder) / name).write_bytes(
                    (pathlib.Path(MODEL) / name).read_bytes())
            done = run("minke-inspect", folder, "--tokens", "The 鲸", "--json")
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertTrue(json.loads(done.stdout)["tokens"])
            done = run("minke-inspect", folder, "--tokens", "The 鲸\n")
            self.assertEqual(done.returncode, 0)
            self.assertIn(b'"\\n"', done.stdout)


class Examples(unittest.TestCase):
    def test_generate(self) -> None:
        done = run("generate", MODEL, "The whale")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout)
        self.assertEqual(run("generate", MODEL).returncode, 1)
        done = run("generate", str(ROOT / "examples" / "calf"), "hi")
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("<｜end▁of▁sentence｜>", done.stdout.decode())

    def test_the_readme_shows_the_least_example_as_it_is(self) -> None:
        readme = (ROOT / "README.md").read_text("utf-8")
        source = (ROOT / "examples" / "generate.c").read_text("utf-8")
        self.assertIn("```c\n" + source.split("*/\n", 1)[1] + "```", readme)

    def test_editor(self) -> None:
        done = run("editor", MODEL, stdin=b"int main(void)\n{\n    return 0;\n}\n")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.count(b" of them known)"), 4)

    def test_game_loop(self) -> None:
        done = run("game_loop", MODEL)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
