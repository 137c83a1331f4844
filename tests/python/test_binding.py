"""The Python binding on a small random model."""

import copy
import importlib.util
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import minke
from minke import errors

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = tempfile.TemporaryDirectory()
MODEL = pathlib.Path(FOLDER.name) / "model"


def setUpModule() -> None:
    subprocess.run([sys.executable, str(ROOT / "examples" / "make_random.py"), str(MODEL),
                    "--hidden", "64", "--layers", "3", "--experts", "8"], check=True,
                   stdout=subprocess.DEVNULL)


def tearDownModule() -> None:
    FOLDER.cleanup()


def best(row: "minke.session.Row") -> int:
    return max(range(len(row)), key=lambda i: (row[i], -i))


class WithModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.m = minke.Model(MODEL, threads=2)
        cls.ids = cls.m.tokenize("The small whale dives deep, and comes up.", add_bos=True)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.m.close()

    def assert_fails(self, code: int, call, *arguments, **options) -> minke.MinkeError:
        with self.assertRaises(minke.MinkeError) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertTrue(caught.exception.message)
        self.assertTrue(caught.exception.name.startswith("MINKE_E"))
        return caught.exception

    def assert_close(self, row, other, bound: float = 2e-4) -> None:
        self.assertEqual(len(row), len(other))
        self.assertLess(max(abs(a - b) for a, b in zip(row, other)), bound)


class Text(WithModel):
    def test_text_survives_the_round_trip(self) -> None:
        for text in ("", "The whale", " two  spaces\n", "Wal, baleine, 鲸, 🐋", "a\0b"):
            self.assertEqual(self.m.detokenize(self.m.tokenize(text)), text)

    def test_bos_and_special_tokens(self) -> None:
        bos = self.m.info["token_bos"]
        self.assertEqual(self.m.tokenize("a", add_bos=True), [bos] + self.m.tokenize("a"))
        user = self.m.token_find("<｜User｜>")
        self.assertIsNotNone(user)
        self.assertEqual(self.m.tokenize("<｜User｜>"), [user])
        plain = self.m.tokenize("<｜User｜>", parse_special=False)
        self.assertNotIn(user, plain)
        self.assertEqual(self.m.detokenize(plain), "<｜User｜>")
        self.assertIsNone(self.m.token_find("no such token"))

    def test_special_tokens_can_be_left_out(self) -> None:
        ids = [self.m.info["token_bos"]] + self.m.tokenize("a") + [self.m.info["token_eos"]]
        self.assertEqual(self.m.detokenize(ids, skip_special=True), "a")
        self.assertTrue(self.m.detokenize(ids).endswith("<｜end▁of▁sentence｜>"))

    def test_token_bytes_join_to_the_text(self) -> None:
        text = "Wal 鲸 🐋"
        self.assertEqual(b"".join(map(self.m.token_bytes, self.m.tokenize(text))), text.encode())
        self.assert_fails(errors.EINVAL, self.m.token_bytes, -1)
        self.assert_fails(errors.EINVAL, self.m.token_bytes, self.m.info["n_vocab"])

    def test_bytes_that_are_not_utf8_become_the_replacement_character(self) -> None:
        self.assertEqual(self.m.detokenize(self.m.tokenize(b"a\xffb")), "a\ufffdb")

    def test_tokenizer_only(self) -> None:
        with minke.Model(MODEL, tokenizer_only=True) as m:
            self.assertEqual(m.tokenize("The whale"), self.m.tokenize("The whale"))
            with self.assertRaises(minke.MinkeError):
                m.session()


class Facts(WithModel):
    def test_info(self) -> None:
        info = self.m.info
        self.assertEqual(info["model_type"], "deepseek_v32")
        self.assertEqual((info["n_vocab"], info["n_layers"], info["n_experts"],
                          info["hidden_size"], info["n_threads"]), (512, 3, 8, 64, 2))
        self.assertEqual(info["surplus"], [])
        self.assertGreater(info["n_params"], info["n_params_active"])

    def test_session_memory_grows_with_tokens(self) -> None:
        self.assertLess(self.m.session_memory(64), self.m.session_memory(4096))


class Evaluation(WithModel):
    def test_rows_by_kind(self) -> None:
        n = len(self.ids)
        with self.m.session(max_tokens=64) as s:
            self.assertEqual(s.eval(self.ids, logits="none"), [])
            self.assertEqual(s.length, n)
            self.assertEqual(s.tokens, self.ids)
            last = s.logits()
        with self.m.session(max_tokens=64) as s:
            rows = s.eval(self.ids, logits="all")
            self.assertEqual((len(rows), len(rows[0])), (n, 512))
            self.assert_close(rows[-1], last)
        with self.m.session(max_tokens=64) as s:
            [row] = s.eval(self.ids)
            self.assert_close(row, last)
            with self.assertRaises(ValueError):
                s.eval(self.ids, logits="first")

    def test_truncate_then_eval_matches_fresh(self) -> None:
        with self.m.session(max_tokens=64) as s, self.m.session(max_tokens=64) as fresh:
            s.eval(self.ids)
            s.truncate(5)
            self.assertEqual(s.length, 5)
            self.assert_fails(errors.EINVAL, s.logits)
            [row] = s.eval(self.ids[5:8])
            self.assert_close(row, fresh.eval(self.ids[:8])[0])

    def test_sync_reuses_the_common_prefix(self) -> None:
        with self.m.session(max_tokens=64) as s, self.m.session(max_tokens=64) as fresh:
            s.sync(self.ids)
            other = self.ids[:6] + [7, 8, 9]
            self.assertEqual(s.sync(other), 6)
            self.assertEqual(s.tokens, other)
            self.assert_close(s.logits(), fresh.eval(other)[0])

    def test_a_fork_and_a_loaded_session_go_on_alike(self) -> None:
        path = pathlib.Path(FOLDER.name) / "snapshot"
        with self.m.session(64) as s, self.m.session(80, prefill_chunk=3) as loaded:
            s.eval(self.ids[:5])
            s.save(path)
            loaded.load(path)
            self.assertEqual(loaded.tokens, list(self.ids[:5]))
            self.assertEqual(loaded.logits(), s.logits())
            with s.fork(max_tokens=32) as child:
                row = child.eval(self.ids[5:])
                self.assertEqual(s.length, 5)
                self.assertEqual(row, s.eval(self.ids[5:]))
                self.assertEqual(row, loaded.eval(self.ids[5:]))
            self.assert_fails(errors.EINVAL, s.fork, attention="window", window=4)
            self.assert_fails(errors.EFULL, s.fork, max_tokens=2)
            with self.m.session(64, attention="window", window=4) as other:
                self.assert_fails(errors.ESNAPSHOT, other.load, str(path))
            self.assert_fails(errors.EIO, s.load, str(path) + ".none")

    def test_a_filled_session_goes_on(self) -> None:
        with self.m.session(64) as s:
            s.fill(50, seed=3)
            self.assertEqual(s.length, 50)
            self.assertEqual(len(s.eval(self.ids[:1])[0]), self.m.info["n_vocab"])
            self.assert_fails(errors.EFULL, s.fill, 14)

    def test_errors_leave_the_session_as_it_was(self) -> None:
        with self.m.session(max_tokens=8) as s:
            s.eval([1, 2, 3])
            self.assert_fails(errors.EINVAL, s.eval, [512])
            self.assert_fails(errors.EINVAL, s.eval, [-1])
            self.assert_fails(errors.EINVAL, s.eval, [1 << 40])
            self.assert_fails(errors.EINVAL, s.eval, [])
            self.assert_fails(errors.EFULL, s.eval, [1] * 6)
            self.assertEqual(s.tokens, [1, 2, 3])
            s.eval([1] * 5)
            self.assert_fails(errors.EFULL, s.eval, [1])

    def test_a_cancel_before_the_call_is_not_lost(self) -> None:
        with self.m.session(max_tokens=64) as s:
            s.cancel()
            self.assert_fails(errors.ECANCELED, s.eval, self.ids)
            rest = self.ids[s.length:]
            [row] = s.eval(rest)
            self.assertEqual(len(row), 512)

    def test_the_prediction_layer_is_refused_where_there_is_none(self) -> None:
        with self.m.session(max_tokens=64) as s:
            s.eval(self.ids)
            with self.assertRaises(minke.MinkeError):
                s.mtp(1)

    def test_unknown_choices_are_refused(self) -> None:
        self.assert_fails(errors.EUNSUPPORTED, self.m.session, cache="f8")
        with self.assertRaises(ValueError):
            self.m.session(form="other")
        with self.assertRaises(ValueError):
            self.m.session(observe=print, observe_kinds=["other"])
        with self.assertRaises(ValueError):
            self.m.render([], retention="other")

    def test_numbers_that_do_not_fit_are_refused_not_cut(self) -> None:
        for call, options in ((minke.Model, {"path": MODEL, "threads": 2**32 + 1}),
                              (self.m.session, {"max_tokens": 2**32 + 5}),
                              (self.m.session, {"max_tokens": -1}),
                              (self.m.sampler, {"top_k": 2**32}),
                              (self.m.sampler, {"top_k": -1})):
            error = self.assert_fails(errors.EINVAL, call, **options)
            self.assertIn(str(list(options.values())[-1]), error.message)
        with self.m.session(max_tokens=8) as s, self.m.sampler() as p:
            s.eval([1, 2, 3])
            for call in (s.truncate, s.fill, p.accept, self.m.token_bytes):
                self.assert_fails(errors.EINVAL, call, -1)
            self.assert_fails(errors.EINVAL, s.truncate, 2**64 + 1)
            self.assert_fails(errors.EINVAL, p.accept, 2**32 + 1)
            self.assert_fails(errors.EINVAL, self.m.token_bytes, 2**32 + 1)
            self.assertEqual(s.length, 3)

    def test_bytes_are_text_and_not_numbers(self) -> None:
        with self.m.session(max_tokens=8) as s:
            for ids in (b"\1\0\0\0", bytearray(4)):
                self.assertRaises(TypeError, s.eval, ids)
            self.assertEqual(s.length, 0)
        for text in (5, [65, 66], None):
            self.assertRaises(TypeError, self.m.tokenize, text)
        self.assertEqual(list(self.m.generate_ids(b"The whale", max_tokens=3)),
                         list(self.m.generate_ids("The whale", max_tokens=3)))

    def test_a_path_with_a_nul_is_refused(self) -> None:
        self.assertRaises(ValueError, minke.Model, str(MODEL) + "\0x")
        with self.m.session(max_tokens=8) as s:
            self.assertRaises(ValueError, s.save, str(MODEL) + ".snap\0x")
            self.assertFalse(pathlib.Path(str(MODEL) + ".snap").exists())

    def test_handles_are_neither_copied_nor_pickled(self) -> None:
        with self.m.session(max_tokens=8) as s, self.m.sampler() as p:
            for handle in (self.m, s, p):
                for way in (copy.copy, copy.deepcopy, pickle.dumps):
                    self.assertRaisesRegex(TypeError, "copied", way, handle)

    def test_attention_forms_agree(self) -> None:
        rows = []
        for form in ("naive", "absorbed"):
            with self.m.session(max_tokens=64, form=form) as s:
                rows.append(s.eval(self.ids)[0])
        self.assert_close(*rows)

    def test_rounded_activations_are_close_to_exact_ones(self) -> None:
        rows = []
        for fast in (False, True):
            with minke.Model(MODEL, threads=2, fast=fast) as m, m.session() as s:
                rows.append(s.eval(self.ids)[0])
        self.assert_close(*rows, bound=2e-2 * max(map(abs, rows[0])))

    def test_a_session_outlives_its_model(self) -> None:
        m = minke.Model(MODEL, threads=1)
        s = m.session(max_tokens=16)
        m.close()
        self.assertEqual(len(s.eval([1, 2, 3])[0]), 512)
        s.close()
        s.close()
        self.assert_fails(errors.EINVAL, s.eval, [1])
        self.assert_fails(errors.EINVAL, m.session)

    def test_two_threads_on_one_model(self) -> None:
        rows = {}

        def work(name: int) -> None:
            with self.m.session(max_tokens=64) as s:
                rows[name] = s.eval(self.ids)[0]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(rows[0].tobytes(), rows[1].tobytes())


class Callbacks(WithModel):
    def test_observer_sees_every_layer_and_token(self) -> None:
        seen = {"experts": [], "selected": [], "residual": []}
        with self.m.session(max_tokens=64, observe=lambda kind, layer, token, values:
                            seen[kind].append((layer, token, values))) as s:
            s.eval(self.ids)
        n, info = len(self.ids), self.m.info
        self.assertEqual({(layer, token) for layer, token, _ in seen["residual"]},
                         {(layer, token) for layer in range(3) for token in range(n)})
        self.assertEqual({(layer, token) for layer, token, _ in seen["experts"]},
                         {(layer, token) for layer in (1, 2) for token in range(n)})
        for _, _, values in seen["residual"]:
            self.assertEqual(len(values), info["hidden_size"])
        for _, _, values in seen["experts"]:
            self.assertEqual(len(values), info["n_experts_used"])
            weights = [weight for _, weight in values]
            self.assertTrue(all(0 <= expert < 8 for expert, _ in values))
            self.assertTrue(all(weight > 0 for weight in weights))
        self.assertEqual({(layer, token) for layer, token, _ in seen["selected"]},
                         {(layer, token) for layer in range(3) for token in range(n)})
        for _, token, values in seen["selected"]:
            positions = [position for position, _ in values]
            self.assertEqual(positions, list(range(token + 1)))   # fewer than top-k

    def test_only_the_kinds_asked_for(self) -> None:
        kinds = set()
        with self.m.session(max_tokens=64, observe_kinds=["experts"],
                            observe=lambda kind, *_: kinds.add(kind)) as s:
            s.eval(self.ids)
        self.assertEqual(kinds, {"experts"})

    def test_an_exception_in_the_observer_comes_out_of_eval(self) -> None:
        def observe(*_: object) -> None:
            raise KeyError("stop")

        with self.m.session(max_tokens=64, observe=observe) as s:
            with self.assertRaises(KeyError):
                s.eval(self.ids)
            self.assertLessEqual(s.length, len(self.ids))

    @unittest.skipIf(sys.platform == "win32", "no signals")
    def test_ctrl_c_comes_out_of_the_call_that_was_running(self) -> None:
        lost, was, handler = [], sys.unraisablehook, signal.getsignal(signal.SIGINT)
        s = self.m.session(max_tokens=512, prefill_chunk=4)
        in_observer = self.m.session(max_tokens=8, observe=lambda *_: time.sleep(0.01))

        def evaluate() -> None:
            s.truncate(0)
            s.eval([5] * 400, logits="none")

        def generate() -> None:
            for _ in self.m.generate("The whale", max_tokens=100, stop_at_eos=False):
                pass

        def chat() -> None:
            for _ in self.m.chat([{"role": "user", "content": "Hello"}], max_tokens=50,
                                 template="deepseek-v3", temperature=0):
                pass

        def observe() -> None:
            in_observer.truncate(0)
            in_observer.eval([1, 2, 3])

        sys.unraisablehook = lost.append
        try:
            for call in (evaluate, generate, chat, observe):
                for i in range(10):
                    timer = threading.Timer(0.01 + 0.003 * i, os.kill, (os.getpid(), signal.SIGINT))
                    with self.assertRaises(KeyboardInterrupt):
                        timer.start()
                        end = time.monotonic() + 10
                        while time.monotonic() < end:
                            call()
                    timer.join()
            self.assertEqual(lost, [])
            self.assertIs(signal.getsignal(signal.SIGINT), handler)
            evaluate()
            self.assertEqual(s.length, 400)
        finally:
            sys.unraisablehook = was
            s.close()
            in_observer.close()

    def test_a_session_in_use_is_not_closed_or_used(self) -> None:
        codes = []

        def meddle(*_arguments) -> None:
            for call in (s.close, lambda: s.eval([1]), s.logits):
                try:
                    call()
                except minke.MinkeError as error:
                    codes.append(error.code)

        s = self.m.session(max_tokens=600, prefill_chunk=4, observe=meddle,
                           observe_kinds=["residual"])
        s.eval([1])
        self.assertEqual(set(codes), {errors.EBUSY})
        s.close()
        running, tried = threading.Event(), threading.Event()
        s = self.m.session(max_tokens=8, progress=lambda *_: (running.set(), tried.wait(60)))
        thread = threading.Thread(target=s.eval, args=([1, 2],))
        thread.start()
        running.wait(60)
        self.assert_fails(errors.EBUSY, s.close)
        self.assert_fails(errors.EBUSY, s.truncate, 0)
        tried.set()
        thread.join()
        self.assertEqual(s.length, 2)
        s.close()

    def test_progress_while_loading(self) -> None:
        calls = []
        minke.Model(MODEL, progress=lambda done, total: calls.append((done, total))).close()
        self.assertTrue(calls)
        self.assertEqual(calls[-1][0], calls[-1][1])
        with self.assertRaises(ZeroDivisionError):
            minke.Model(MODEL, progress=lambda done, total: 1 // 0)

    def test_progress_while_evaluating(self) -> None:
        calls = []
        with self.m.session(max_tokens=64, prefill_chunk=4,
                            progress=lambda done, total: calls.append((done, total))) as s:
            s.eval(self.ids)
        self.assertTrue(calls)
        self.assertEqual(calls, sorted(calls))
        self.assertEqual(calls[-1][1], len(self.ids))


class Sampling(WithModel):
    def setUp(self) -> None:
        self.s = self.m.session(max_tokens=128)
        self.row = self.s.eval(self.ids)[0]

    def tearDown(self) -> None:
        self.s.close()

    def test_greedy_takes_the_largest_logit(self) -> None:
        with self.m.sampler() as p:
            self.assertEqual(p.sample(self.s), best(self.row))
            self.assertEqual(p.sample(self.row), best(self.row))
            self.assertEqual(p.sample([0.0, 2.0, 2.0, 1.0]), 1)

    def test_equal_seeds_give_equal_tokens(self) -> None:
        drawn = []
        for seed in (3, 3, 4):
            with self.m.sampler(temperature=2.0, seed=seed) as p:
                drawn.append([p.sample(self.s) for _ in range(32)])
        self.assertEqual(drawn[0], drawn[1])
        self.assertNotEqual(drawn[0], drawn[2])

    def test_top_k_one_is_greedy(self) -> None:
        with self.m.sampler(temperature=5.0, top_k=1) as p:
            self.assertEqual({p.sample(self.s) for _ in range(8)}, {best(self.row)})

    def test_bias_forbids_and_forces(self) -> None:
        with self.m.sampler(logit_bias={best(self.row): float("-inf")}) as p:
            self.assertNotEqual(p.sample(self.s), best(self.row))
        with self.m.sampler(logit_bias={17: 1000.0}) as p:
            self.assertEqual(p.sample(self.s), 17)

    def test_penalties_count_what_was_accepted(self) -> None:
        with self.m.sampler(presence_penalty=1000.0) as p:
            token = p.sample(self.s)
            p.accept(token)
            self.assertNotEqual(p.sample(self.s), token)

    def test_log_probabilities(self) -> None:
        with self.m.sampler() as p:
            self.assert_fails(errors.EINVAL, p.logprob)
            p.sample(self.s)
            chosen, full = p.logprob()
        [(token, logprob)] = self.m.logprobs(self.row, 1)
        self.assertEqual(token, best(self.row))
        self.assertAlmostEqual(full, logprob, places=4)
        self.assertEqual(chosen, 0.0)

    def test_parameters_out_of_range_are_refused(self) -> None:
        self.assert_fails(errors.EINVAL, self.m.sampler, temperature=-1.0)
        self.assert_fails(errors.EINVAL, self.m.sampler, top_p=1.5)


class Generating(WithModel):
    def greedy(self, n: int) -> list:
        out = []
        with self.m.session(max_tokens=256) as s:
            row = s.eval(self.ids)[0]
            for _ in range(n):
                out.append(best(row))
                row = s.eval(out[-1:])[0]
        return out

    def test_ids_are_the_greedy_continuation(self) -> None:
        expected = self.greedy(12)
        self.assertEqual(list(self.m.generate_ids(self.ids, 12, stop_at_eos=False)), expected)

    def test_pieces_join_to_the_text_of_the_ids(self) -> None:
        with self.m.sampler(temperature=1.0, seed=5) as p:
            pieces = list(self.m.generate(self.ids, 40, p, stop_at_eos=False))
        with self.m.sampler(temperature=1.0, seed=5) as p:
            ids = list(self.m.generate_ids(self.ids, 40, p, stop_at_eos=False))
        self.assertEqual(len(ids), 40)
        self.assertEqual("".join(pieces), self.m.detokenize(ids))

    def test_text_gets_the_beginning_of_sentence_once(self) -> None:
        a = list(self.m.generate("The whale", 8))
        b = list(self.m.generate("<｜begin▁of▁sentence｜>The whale", 8))
        c = list(self.m.generate(self.m.tokenize("The whale", add_bos=True), 8))
        self.assertEqual(a, b)
        self.assertEqual(a, c)

    def test_a_session_can_go_on(self) -> None:
        with self.m.session(max_tokens=128) as s:
            first = list(self.m.generate_ids(self.ids, 6, session=s, stop_at_eos=False))
            more = list(self.m.generate_ids(self.ids + first, 6, session=s, stop_at_eos=False))
        self.assertEqual(first + more, self.greedy(12))

    def test_a_full_session_ends_the_text(self) -> None:
        with self.m.session(max_tokens=len(self.ids) + 3) as s:
            ids = list(self.m.generate_ids(self.ids, 50, session=s, stop_at_eos=False))
        self.assertEqual(len(ids), 4)

    def test_the_end_of_sentence_stops_and_is_not_text(self) -> None:
        eos = self.m.info["token_eos"]
        with self.m.sampler(logit_bias={eos: 1000.0}) as p:
            self.assertEqual(list(self.m.generate(self.ids, 8, p)), [])


class Failures(WithModel):
    def test_a_folder_that_is_not_there(self) -> None:
        error = self.assert_fails(errors.EIO, minke.Model, MODEL / "none")
        self.assertIn("none", error.message)

    def test_a_library_that_is_not_there(self) -> None:
        with self.assertRaises(OSError):
            minke.Model(MODEL, library="/no/such/libminke.so")

    def test_library_version(self) -> None:
        self.assertEqual(minke.library_version(), minke.__version__)

    def test_rows_are_numpy_arrays_without_copying(self) -> None:
        if importlib.util.find_spec("numpy") is None:
            self.skipTest("numpy is not installed")
        import numpy
        with self.m.session(max_tokens=64) as s:
            row = s.eval(self.ids)[0]
        view = numpy.asarray(row)
        self.assertEqual(view.dtype, numpy.float32)
        row[0] = 123.0
        self.assertEqual(view[0], 123.0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
