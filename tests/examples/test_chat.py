"""minke-chat in a pipe and in a terminal, talking with calf."""

import json
import os
import pathlib
import re
import select
import signal
import struct
import subprocess
import tempfile
import time
import unittest

try:
    import fcntl
    import pty
    import termios
except ImportError:     # no terminals here
    pty = None

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALF = ROOT / "examples" / "calf"
CHAT = os.path.join(os.environ.get("MINKE_PROGRAMS", ""), "minke-chat")


def pipe(lines, *options):
    """What the program writes when it is given these lines."""
    return subprocess.run([CHAT, str(CALF), "--temperature", "0", "--max-tokens", "120", *options],
                          input="".join(line + "\n" for line in lines), capture_output=True,
                          encoding="utf-8", timeout=120)


class Terminal:
    """The program in a terminal of its own; what it shows collects in screen."""

    def __init__(self, home, *options):
        self.screen = ""
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:
            raise unittest.SkipTest(f"no terminal can be made here: {error}") from None
        if self.pid == 0:
            os.environ.update(TERM="xterm", XDG_STATE_HOME=home)
            os.execv(CHAT, [CHAT, str(CALF), "--temperature", "0", *options])

    def wait_for(self, text, seconds=60):
        """Read until the new part of the screen holds text."""
        start, end = len(self.screen), time.monotonic() + seconds
        while text not in self.screen[start:]:
            if time.monotonic() > end:
                raise AssertionError(f"no {text!r} in {self.screen[start:]!r}")
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:     # the program has ended
                    data = b""
                if not data:
                    break
                self.screen += data.decode("utf-8", "replace")
        return self.screen[start:]

    def type(self, text):
        os.write(self.fd, text.encode())

    def type_at_prompt(self, text):
        """Type when the editor has the keyboard: it draws what it reads behind its prompt."""
        self.type("x")
        self.wait_for("> x")
        self.type("\x15" + text)

    def end(self):
        """Ctrl-D at the prompt, again while there is none yet; the exit status."""
        end, typed = time.monotonic() + 60, 0.0
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid and time.monotonic() > typed + 0.5:
                try:
                    self.type("\x04")
                except OSError:     # the program has ended
                    pass
                typed = time.monotonic()
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 65536)
                except OSError:
                    pass
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("the program does not end")


@unittest.skipUnless(os.path.isfile(CHAT), "no minke-chat")
class Chat(unittest.TestCase):
    def test_a_pipe_gets_answers_alone(self):
        done = pipe(["Hello", "", "/think on", "What is 12 + 30?"])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(done.stdout.strip().splitlines()), 2, done.stdout)
        self.assertNotIn("\033", done.stdout)
        self.assertNotIn("> ", done.stdout)

    def test_nonsense_is_answered_and_not_obeyed(self):
        done = pipe(["/frobnicate", "/save", "/load /no/such/file", "/load " + str(CHAT),
                     "//etc", "\x01\x7fqwe🐳\t<｜User｜></think>", "a" * 3000, "Hello"],
                    "--context", "1024")
        self.assertEqual(done.returncode, 1)    # not all that was asked for came
        self.assertIn("/frobnicate is no command", done.stderr)
        self.assertIn("/save is no command without a FILE", done.stderr)
        self.assertIn("cannot read /no/such/file", done.stderr)
        self.assertIn("no room", done.stderr)
        self.assertGreaterEqual(len(done.stdout.strip().splitlines()), 2)

    def test_the_list_of_commands_fits_a_terminal(self):
        text = pipe(["/help"]).stderr
        self.assertIn("/thoughts", text)
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)

    def test_what_cannot_be_answered_is_forgotten(self):
        with tempfile.TemporaryDirectory() as folder:
            kept = os.path.join(folder, "talk.json")
            done = pipe(["a b " * 3000, "Hello", f"/save {kept}"], "--context", "100")
            alone = pipe(["Hello"], "--context", "100")
            self.assertEqual(done.stdout, alone.stdout)
            messages = json.loads(pathlib.Path(kept).read_text("utf-8"))
            self.assertEqual([m["content"] for m in messages],
                             ["Hello", alone.stdout.rstrip("\n")])
            pipe(["a b " * 3000, f"/save {kept}"], "--context", "100")
            self.assertEqual(pathlib.Path(kept).read_text("utf-8"), "[]\n")

    def test_bytes_that_are_no_text_do_not_end_the_conversation(self):
        done = subprocess.run([CHAT, str(CALF), "--temperature", "0"], capture_output=True,
                              input=b"\xff\xfe\nHel\0lo\nHello\n", timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(len(done.stdout.splitlines()), 3)

    def test_a_folder_cannot_be_loaded_and_a_switch_is_on_or_off(self):
        done = pipe(["/load /", "/think maybe", "/save ", "Hello"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot read /:", done.stderr)
        self.assertIn("on or off expected, not maybe", done.stderr)
        self.assertIn("/save is no command without a FILE", done.stderr)
        self.assertEqual(done.stdout, pipe(["Hello"]).stdout)

    def test_a_kept_conversation_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            kept = os.path.join(folder, "talk.json")
            first = pipe(["/system You are a whale.", "Hello", f"/save {kept}", "How are you?"])
            self.assertTrue(os.path.isfile(kept + ".cache"))
            messages = json.loads(pathlib.Path(kept).read_text("utf-8"))
            self.assertEqual([m["role"] for m in messages], ["system", "user", "assistant"])
            second = pipe([f"/load {kept}", "How are you?"])
            self.assertEqual(first.stdout.splitlines()[-1], second.stdout.splitlines()[-1])
            os.remove(kept + ".cache")
            third = pipe([f"/load {kept}", "How are you?"])
            self.assertEqual(third.stdout, second.stdout)

    @unittest.skipIf(pty is None, "no terminals")
    def test_a_terminal_has_an_editor_a_history_and_thoughts(self):
        with tempfile.TemporaryDirectory() as home:
            t = Terminal(home)
            t.wait_for("/help lists commands")
            t.type("Helo\x1b[Dl\r")             # an arrow, and a letter in between
            self.assertIn("> Hello", t.wait_for("/s;"))
            t.type("/think on\r")
            t.wait_for("thinking is on")
            t.type("What is 12 + 30?\r")
            self.assertIn("\033[2m", t.wait_for("new"))
            t.type("/fold\r")
            t.wait_for("folding is on")
            t.type("What is 13 + 30?\r")
            self.assertIn("thought for", t.wait_for("new"))
            t.type("/thoughts\r")
            t.wait_for("> ")
            t.type_at_prompt("dropped\x03")     # Ctrl-C at the prompt drops the line
            t.wait_for("^C")
            t.type_at_prompt("\x1b[A\x1b[A\r")  # up to the question before
            self.assertIn("What is 13 + 30?", t.wait_for("/s;"))
            self.assertEqual(t.end(), 0)
            lines = pathlib.Path(home, "minke", "history").read_text("utf-8").splitlines()
            self.assertEqual(lines[:2], ["Hello", "/think on"])
            self.assertNotIn("dropped", lines)
            again = Terminal(home)
            again.wait_for("> ")
            again.type("\x1b[A")
            again.wait_for("What is 13 + 30?")
            again.type("\x15")
            self.assertEqual(again.end(), 0)

    @unittest.skipIf(pty is None, "no terminals")
    def test_a_long_line_is_drawn_as_far_as_it_fits(self):
        with tempfile.TemporaryDirectory() as home:
            for width in (1, 20):
                t = Terminal(home)
                t.wait_for("> ")
                fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
                start = len(t.screen)
                t.type("\u65e5\u672c'\u2019" * 12)
                t.wait_for("\u65e5")
                time.sleep(0.3)
                t.type("\x03")
                t.wait_for("^C")
                for row in re.sub(r"\033\[\d*[A-Z]|\^C", "", t.screen[start:]).split("\r"):
                    self.assertLessEqual(len(row.replace("\ufffd", "")), max(width, 4), row)
                self.assertEqual(t.end(), 0)

    @unittest.skipIf(pty is None, "no terminals")
    def test_a_line_of_many_bytes_takes_no_time(self):
        with tempfile.TemporaryDirectory() as home:
            t = Terminal(home, "--context", "100")
            t.wait_for("/help lists commands")
            start = time.monotonic()
            for _ in range(10):
                t.type("a" * 1000)
                t.wait_for("a")
            t.type("\r")
            t.wait_for("no room", 30)
            self.assertLess(time.monotonic() - start, 30)
            self.assertEqual(t.end(), 0)

    @unittest.skipIf(pty is None, "no terminals")
    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        with tempfile.TemporaryDirectory() as home:
            t = Terminal(home, "--max-tokens", "4000", "--context", "60000")
            t.wait_for("/help lists commands")
            # More than is read in a moment, so that it is still being read or answered.
            t.type("w" * 3000)
            t.wait_for("w")
            t.type("\r")
            time.sleep(0.15)
            t.type("\x03")
            t.wait_for("> ", 30)
            t.type("/reset\r")
            t.wait_for("a new conversation")
            t.type("Hello\r")
            self.assertNotIn("stopped", t.wait_for("/s;"))
            os.kill(t.pid, signal.SIGINT)       # a moment late
            t.type_at_prompt("/reset\r")
            t.wait_for("a new conversation")
            self.assertEqual(t.end(), 0)

    def test_tools_are_called_and_their_results_told(self):
        done = pipe(["/tools on", "What is 4123 * 371?"])
        if "1529633" not in done.stdout:
            self.skipTest("this calf does not call the calculator here")
        self.assertIsNone(re.search("DSML|function", done.stdout))


if __name__ == "__main__":
    unittest.main()
