"""minke-prove and minke.learn.prove with calf and with functions in place of a model."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import minke
from minke import _ffi, learn

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALF = ROOT / "examples" / "calf"
PROVE = os.path.join(os.environ.get("MINKE_PROGRAMS", ""), "minke-prove")
PROBLEM = "Compute 4321 + 1234 + 77 in one step."
HERE = "Here is my evaluation of the solution:\n"
BASED = "\n\nBased on my evaluation, the final overall score should be:\n\n\\boxed{%s}"

sys.path.insert(0, str(CALF))
import tasks  # noqa: E402


def command(*options, problem=PROBLEM):
    return [PROVE, str(CALF), problem, "--threads", "1", *options]


def run(*options, problem=PROBLEM):
    return subprocess.run(command(*options, problem=problem), capture_output=True,
                          encoding="utf-8", timeout=120)


POOL = ("--driver", "pool", "--first", "3", "--verifications", "2", "--best", "2", "--analyses",
        "1", "--rounds", "3", "--seed", "5", "--json")


@unittest.skipUnless(os.path.isfile(PROVE), "no minke-prove")
class Program(unittest.TestCase):
    def test_a_solution_comes_to_stdout_and_progress_to_stderr(self):
        done = run("--temperature", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^[^#]*= ?\d+\.\n$")
        self.assertIn("iteration 1: best self-score", done.stderr)
        self.assertEqual(run("--temperature", "0", "--quiet").stderr, "")

    def test_the_problem_may_come_through_a_pipe(self):
        done = subprocess.run([PROVE, str(CALF), "--json"], input=PROBLEM, capture_output=True,
                              encoding="utf-8", timeout=120)
        self.assertEqual(json.loads(done.stdout)["driver"], "sequential")

    def test_equal_seeds_find_the_same(self):
        first = run(*POOL)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(run(*POOL).stdout, first.stdout)
        self.assertTrue(json.loads(first.stdout)["finished"])

    def test_a_killed_search_goes_on_where_it_was(self):
        whole = run(*POOL).stdout
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            for lines in (2, 5, 9):
                process = subprocess.Popen(command(*POOL, "--journal", journal),
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                end = time.monotonic() + 60
                while process.poll() is None and time.monotonic() < end:
                    if os.path.exists(journal) \
                            and len(pathlib.Path(journal).read_bytes().splitlines()) > lines:
                        break
                    time.sleep(.002)
                process.kill()
                process.wait()
            self.assertEqual(run(*POOL, "--journal", journal).stdout, whole)
            n = os.path.getsize(journal)
            self.assertEqual(run(*POOL, "--journal", journal).stdout, whole)
            self.assertEqual(os.path.getsize(journal), n)

    def test_ctrl_c_stops_and_says_how_to_go_on(self):
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            process = subprocess.Popen(
                command("--driver", "vote", "--first", "16000", "--journal", journal),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
            end = time.monotonic() + 60
            while not (os.path.exists(journal) and os.path.getsize(journal) > 2000) \
                    and time.monotonic() < end:
                time.sleep(.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out), (130, ""))
            self.assertIn("the same command goes on", err)

    def test_the_journal_of_another_problem_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            run("--journal", journal, "--rounds", "1")
            done = run("--journal", journal, "--rounds", "1", problem="Compute 1 + 1.")
            self.assertEqual(done.returncode, 1)
            self.assertIn("another problem", done.stderr)

    def test_prompts_come_from_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            prompts = os.path.join(folder, "prompts")
            pathlib.Path(prompts).write_text("@prompt proof\nHello {problem}\n")
            done = run("--prompts", prompts, "--driver", "vote", "--first", "1", "--temperature",
                       "0", problem="calf!")
            self.assertIn("Hello!", done.stdout)
            pathlib.Path(prompts).write_text("@prompt proof\nHello\n")
            done = run("--prompts", prompts)
            self.assertEqual(done.returncode, 1)
            self.assertIn("proof lacks {problem}", done.stderr)
        self.assertEqual(run("--prompts", "minke", "--rounds", "1", "--max-tokens", "5").returncode,
                         1)

    def test_answers_without_room_are_said_to_be_so(self):
        done = run("--context", "50", "--rounds", "1")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("1 of 1 answers had no room", done.stderr)
        self.assertIn("empty", run(problem="").stderr)

    def test_wrong_options_are_named(self):
        for option, value in (("--driver", "magic"), ("--preset", "none"), ("--first", "-1")):
            done = run(option, value)
            self.assertEqual(done.returncode, 2)
            self.assertIn(value, done.stderr)


class Prompts(unittest.TestCase):
    def written(self, ask, *parts):
        """minke_proof_prompt with calf's file."""
        lib, params = _ffi.load(), _ffi.ProofPromptParams()
        n, buffer = ctypes.c_size_t(), ctypes.create_string_buffer(1 << 14)
        lib.minke_proof_prompt_params_init(ctypes.byref(params), ctypes.sizeof(params))
        params.ask = ask
        prompts = (CALF / "prompts.txt").read_text("utf-8")
        for name, text in zip(("prompts", "problem", "proof", "rating"), (prompts, *parts)):
            setattr(params, name, text.encode())
            setattr(params, f"{name}_len", len(text.encode()))
        lib.check(lib.minke_proof_prompt(ctypes.byref(params), buffer, len(buffer),
                                         ctypes.byref(n)))
        return buffer.raw[:n.value].decode()

    def test_calfs_are_those_that_it_was_trained_on(self):
        known = tasks.PROMPTS
        asked = known["proof_generation"].format(question="P {x}")
        self.assertEqual(self.written(1, "P {x}"), asked)
        self.assertEqual(self.written(2, "P", "Q\nR"),
                         known["proof_verification"].format(statement="P", proof="Q\nR"))
        self.assertEqual(self.written(4, "P {x}", "Q", "R"), known["proof_refinement"].format(
            instruction=asked, proofs_to_refine="--- Solution 1 ---\nQ\n\n"
            "=== Evaluation 1 of Solution 1 ===\nR"))


def reply(solution, score):
    return f"## Solution\n{solution}\n\n## Self Evaluation\n{HERE}x{BASED % score}"


class Functions(unittest.TestCase):
    def test_a_function_serves_as_the_model(self):
        asked = []

        def complete(ask, prompt, n, seed):
            asked.append((ask, n))
            for i in range(n):
                yield reply(len(asked), 1 if len(asked) == 3 else 0.5), "stop", 7
        found = learn.prove("P", complete, n_first=1)
        self.assertEqual(asked, [("proof", 1), ("refine", 1), ("refine", 1)])
        self.assertEqual((found.solution, found.score, found.solved, found.rounds),
                         ("3", 1.0, True, 3))
        self.assertEqual([p.parent for p in found.proofs], [None, 1, 2])
        self.assertEqual(found.proofs[0].thinking, 7)
        self.assertIn(HERE, found.proofs[0].evaluation)

    def test_texts_and_reasons_are_taken_as_they_come(self):
        def complete(ask, prompt, n, seed):
            yield "a \\boxed{1}"
            yield "never seen", "length"
            yield "b </think> \\boxed{1.0}"
            yield "\udcff \\boxed{2}"
        found = learn.prove("P", complete, driver="vote", n_first=6)
        self.assertEqual((found.answer, found.score, found.unfinished), ("1", 2 / 3, 3))

    def test_an_exception_stops_the_search_which_a_journal_resumes(self):
        calls = []

        def complete(ask, prompt, n, seed):
            for i in range(n):
                calls.append(seed + i)
                if len(calls) == 4:
                    raise KeyError("stop here")
                yield f"\\boxed{{{(seed + i) % 3}}}"
        with tempfile.TemporaryDirectory() as folder:
            journal = os.path.join(folder, "journal")
            with self.assertRaises(KeyError):
                learn.prove("P", complete, driver="vote", n_first=6, journal=journal)
            found = learn.prove("P", complete, driver="vote", n_first=6, journal=journal)
            with self.assertRaises(minke.MinkeError) as caught:
                learn.prove("Q", complete, driver="vote", n_first=6, journal=journal)
            self.assertEqual(caught.exception.code, minke.errors.EINVAL)
        self.assertEqual(len(set(calls)), 6)
        self.assertEqual(calls[3], calls[4])
        calls[:] = [0] * 10
        self.assertEqual(found, learn.prove("P", complete, driver="vote", n_first=6))

    def test_wrong_arguments_are_refused(self):
        def complete(ask, prompt, n, seed):
            return []
        for wrong in ({"driver": "magic"}, {"preset": "x"}, {"n_first": -1}):
            with self.assertRaises(ValueError):
                learn.prove("P", complete, **wrong)
        with self.assertRaises(TypeError):
            learn.prove("P", complete, temperature=1)
        with self.assertRaises(minke.MinkeError):
            learn.prove("P", complete, prompts="@prompt nothing\n")

    def test_proofs_are_read_and_rewarded(self):
        self.assertEqual(learn.read_proof("**Solution**\nA\n## Self Evaluation\n\\boxed{2}"),
                         ("A", "\\boxed{2}", None))
        self.assertEqual(learn.read_score("boxed{2}", "released"), 2)
        self.assertIsNone(learn.read_proof("A"))
        self.assertIsNone(learn.read_proof("## Solution\nA\n## Self Evaluation\n\\boxed{1}",
                                           "strict"))
        self.assertAlmostEqual(learn.generator_reward(reply("A", 0.5), 0.5), 0.62)
        self.assertAlmostEqual(learn.verifier_reward(HERE + BASED % 1, 0.5, 0.5), 0.25)


class Model(unittest.TestCase):
    def test_calf_finds_solutions_with_every_driver(self):
        with minke.Model(CALF, threads=1) as m:
            for driver in ("sequential", "pool", "vote", "best", "longest"):
                with self.subTest(driver):
                    found = learn.prove("Compute 45 + 37.", m, driver=driver, n_first=2,
                                        n_verifications=2, n_best=1, n_analyses=1, max_rounds=2,
                                        seed=1)
                    self.assertEqual(found.driver, driver)
                    self.assertIsNotNone(found.solution)
            found = learn.prove("Compute 45 + 37.", m, max_tokens=3, max_rounds=1)
            self.assertEqual((found.solution, found.unfinished), (None, 1))


if __name__ == "__main__":
    unittest.main()
