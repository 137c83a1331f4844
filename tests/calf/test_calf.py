"""calf through minke: its tasks, what sparse attention and the prediction layer do for it, and an
independent evaluation of its weights."""

import json
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALF = ROOT / "examples" / "calf"
sys.path[:0] = [str(CALF), str(ROOT / "tests" / "golden")]

import encoding  # noqa: E402
import evaluate  # noqa: E402
import tasks  # noqa: E402

try:
    import reference    # needs numpy
except ImportError:
    reference = None

ITEMS, SEED, THREADS = 100, 1, 2
PAIRS = 46              # of a list that is several times longer than the top-k


def positions(model, item):
    """-> (token ids of prompt and right answer, where the answer's tokens are)"""
    ids, own = [], []
    for text, is_answer in encoding.segments(item["messages"] + item["gold"], item["thinking"]):
        tokens = model.tokenize(text)
        ids, own = ids + tokens, own + [is_answer] * len(tokens)
    return ids, [i for i in range(1, len(ids)) if own[i]]


def best(row):
    return max(range(len(row)), key=row.__getitem__)


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        room = evaluate.Room(str(CALF), THREADS)
        with room:
            cls.scores = {t: room.accuracy(tasks.items(t, ITEMS, SEED)) for t in tasks.TASKS}
            cls.direct = room.accuracy(tasks.items("arithmetic_direct", ITEMS, SEED))
        cls.drafts = room.drafts

    def test_every_task_reaches_its_threshold(self):
        self.assertEqual(set(self.scores), set(tasks.THRESHOLDS))
        for task, score in self.scores.items():
            with self.subTest(task=task):
                self.assertEqual(score["items"], ITEMS)
                self.assertGreaterEqual(score["accuracy"], tasks.THRESHOLDS[task])

    def test_thinking_helps_with_sums(self):
        self.assertLess(self.direct["accuracy"], self.scores["arithmetic"]["accuracy"] - 0.2)

    def test_drafts_of_the_prediction_layer_are_accepted(self):
        for task in tasks.TASKS:
            with self.subTest(task=task):
                self.assertGreater(self.drafts[task, 1], ITEMS)
                self.assertGreaterEqual(self.drafts[task, 0], 0.6 * self.drafts[task, 1])


class Recall(unittest.TestCase):
    def score(self, **session):
        with evaluate.Room(str(CALF), THREADS, mtp=False, **session) as room:
            return room.accuracy(tasks.items("recall", 15, SEED, pairs=PAIRS), 24)["accuracy"]

    def test_a_window_of_the_same_size_loses_what_sparse_attention_finds(self):
        sparse = self.score(attention="dsa")
        self.assertGreaterEqual(sparse, tasks.THRESHOLDS["recall"])
        self.assertLess(self.score(attention="window", window=evaluate.WINDOW), sparse - 0.4)

    def test_caches_as_the_model_was_trained_for_lose_nothing(self):
        self.assertGreaterEqual(self.score(cache="native"), tasks.THRESHOLDS["recall"])


class Reference(unittest.TestCase):
    @unittest.skipIf(reference is None, "no numpy")
    def test_the_best_token_is_the_reference_s_at_every_answer_position(self):
        exact = reference.Model.load(str(CALF))
        with evaluate.Room(str(CALF), 1) as room:
            for task in ("recall", "arithmetic", "copy", "sort", "count"):
                item = tasks.items(task, 1, SEED)[0]
                ids, where = positions(room.model, item)
                rows, = room.map(lambda asker, i: asker.rows(i), [item])
                logits = exact.forward(ids)["logits"]
                with self.subTest(task=task, tokens=len(ids)):
                    self.assertGreater(len(where), 1)
                    self.assertEqual([best(row) for row in rows],
                                     [int(logits[i - 1].argmax()) for i in where])


class Command(unittest.TestCase):
    def run_it(self, *options, program="evaluate.py"):
        return subprocess.run([sys.executable, str(CALF / program), *options],
                              capture_output=True, encoding="utf-8", timeout=120)

    def test_the_first_conversation_thinks_calls_and_recalls(self):
        done = self.run_it(program="conversation.py")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for text in ("digits 7912\n", "calf calls:  calculator ", "371 * 4123 = 1529633."):
            self.assertIn(text, done.stdout)

    def test_json_has_tasks_and_contrasts(self):
        done = self.run_it("--json", "--items", "4", "--task", "copy")
        self.assertEqual(done.returncode, 0, done.stderr)
        out = json.loads(done.stdout)
        self.assertEqual(set(out), {"tasks", "contrasts"})
        self.assertEqual(out["tasks"], {"copy": {"accuracy": 1.0, "items": 4}})
        self.assertIn("drafts_copy", out["contrasts"])

    def test_unknown_tasks_are_refused(self):
        done = self.run_it("--task", "poetry")
        self.assertEqual(done.returncode, 2)
        self.assertIn("recall", done.stderr)


if __name__ == "__main__":
    unittest.main()
