"""What a model wrote goes back into the prompt as it was: conversations of several turns with
reasoning and tools in every encoding, read by minke and written by minke."""

import pathlib
import unittest

import minke
from minke.chat import _Reply

ROOT = pathlib.Path(__file__).resolve().parents[2]
EOS = "<｜end▁of▁sentence｜>"
CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_END, SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
D = "｜DSML｜"

# (encoding, thinking)
MODES = [("deepseek-v2", False), ("deepseek-v3", False), ("deepseek-v3-0324", False),
         ("deepseek-r1.hf", True), ("deepseek-r1.api-docs", True), ("deepseek-r1-0528", True),
         ("deepseek-v3.1", False), ("deepseek-v3.1", True), ("deepseek-v3.1-terminus", False),
         ("deepseek-v3.1-terminus", True), ("deepseek-v3.2", False), ("deepseek-v3.2", True)]

ARGUMENTS = ['{"q": "ü \\"x\\"\\n", "n": [1, 2.5, {"a": null}]}', '{"b": true, "s": "</think>"}',
             "{}"]


def calls_text(encoding, names):
    """Calls as a model of this encoding writes them."""
    if encoding == "deepseek-v3.2":
        values = ['<%sparameter name="q" string="true">ü "x"\n</%sparameter>\n'
                  '<%sparameter name="n" string="false">[1, 2.5, {"a": null}]</%sparameter>',
                  '<%sparameter name="b" string="false">true</%sparameter>\n'
                  '<%sparameter name="s" string="true">a tag</%sparameter>', ""]
        return (f"\n\n<{D}function_calls>\n" + "\n".join(
            f'<{D}invoke name="{name}">\n{values[i % 3].replace("%s", D)}\n</{D}invoke>'
            for i, name in enumerate(names)) + f"\n</{D}function_calls>")
    if encoding.startswith("deepseek-v3.1"):
        return CALLS + "".join(f"{CALL}{name}{SEP}{ARGUMENTS[i % 3]}{CALL_END}"
                               for i, name in enumerate(names)) + CALLS_END
    return CALLS + "\n".join(f"{CALL}function{SEP}{name}\n```json\n{ARGUMENTS[i % 3]}\n```"
                             f"{CALL_END}" for i, name in enumerate(names)) + CALLS_END


def reply_text(encoding, thinking, turn, names, prompt):
    """A whole reply to this prompt; every third has no reasoning."""
    reasoning = "" if turn % 3 == 1 else f"Hm, turn {turn}:\n ä <b>?"
    content = f"Answer {turn} <x>\n" if not names or turn % 2 else ""
    if encoding == "deepseek-v3" and names:
        content = ""      # its template has no place for both
    text = content
    if encoding == "deepseek-v2":
        text = " " + text
    if thinking:
        if prompt.endswith(("<think>", "<think>\n")):
            text = reasoning + "</think>" + text
        elif not encoding.startswith("deepseek-v3.1") and not prompt.endswith("outputs▁end｜>"):
            text = "<think>" + reasoning + "</think>" + text
    if names:
        text += calls_text(encoding, names)
    return text + EOS


class RoundTrip(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = minke.Model(ROOT / "examples" / "calf", tokenizer_only=True)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def tokens_unlike_the_encoders(self, text):
        """Markers are the tokens they are; all other text goes byte by byte."""
        m, ids, rest = self.model, [], text
        markers = [t for t in (EOS, CALLS, CALLS_END, CALL, CALL_END, SEP, "<think>", "</think>",
                               D) if m.token_find(t) is not None]
        while rest:
            mark = next((t for t in markers if rest.startswith(t)), None)
            if mark is not None:
                ids.append(m.token_find(mark))
                rest = rest[len(mark):]
            else:
                ids += [token for byte in rest[0].encode() for token in self.byte(byte)]
                rest = rest[1:]
        return ids

    def byte(self, value):
        if not hasattr(self, "bytes"):
            self.bytes = {}
            for token in range(self.model.info["n_tokens"]):
                piece = self.model.token_bytes(token)
                if len(piece) == 1:
                    self.bytes.setdefault(piece[0], token)
        return [self.bytes[value]]

    def parse(self, encoding, thinking, prompt, own):
        """The reply's message; it begins inside the reasoning as the prompt says."""
        m = self.model
        with _Reply(m._lib, m._handle, encoding,
                    prompt.endswith("<think>") if "-r1" not in encoding else None) as reply:
            if "-r1" in encoding and prompt.endswith("outputs▁end｜>"):
                reply.text(b"</think>")   # the R1s go on with the answer behind results
            for token in own:
                reply.token(token)
            reply.finish(None)
            return reply.message()

    def tools_of(self, encoding, turn, with_ids):
        if encoding == "deepseek-v2" or turn % 3 == 2:
            return []
        if not with_ids and encoding in ("deepseek-v3", "deepseek-r1.hf", "deepseek-r1.api-docs"):
            # Their templates write the calls of a second round otherwise than the first.
            return ["f", "g"] if turn == 0 else []
        return ["f", "g h", "f"][:1 + turn % 2 * 2]

    def converse(self, encoding, thinks, with_ids):
        """Ten replies; before each, the prompt must begin with all that was there."""
        m, held, held_ids, results = self.model, "", [], []
        messages = [{"role": "system", "content": "Sys."}]
        for turn in range(10):
            # The switch is turned between turns, not between a call and its result.
            thinking = thinks if thinks is not None else turn // 3 % 2 == 0
            options = dict(template=encoding, thinking=thinking, retention="all")
            messages += results or [{"role": "user",
                                     "content": f"Question {turn}?\n<｜User｜> ü"}]
            prompt = m.render(messages, **options)
            ids = m.encode_chat(messages, **options)
            if with_ids:
                self.assertEqual(ids[:len(held_ids)], held_ids, turn)
            else:
                self.assertEqual(prompt[:len(held)], held, turn)
            names = self.tools_of(encoding, turn, with_ids)
            text = reply_text(encoding, thinking, turn, names, prompt)
            own = self.tokens_unlike_the_encoders(text)
            message = self.parse(encoding, thinking, prompt, own)
            self.assertNotIn("malformed", message)
            self.assertEqual(len(message["tool_calls"]), len(names))
            messages.append(dict(message, token_ids=own) if with_ids else message)
            held, held_ids = prompt + text, ids + own
            results = [{"role": "tool", "content": f"result {name} <｜User｜>"} for name in names]

    def test_sampled_tokens_are_used_again_in_every_encoding(self):
        for encoding, thinking in MODES:
            with self.subTest(encoding=encoding, thinking=thinking):
                self.converse(encoding, thinking, True)

    def test_the_switch_may_be_turned_between_turns(self):
        for encoding in ("deepseek-v3.1", "deepseek-v3.1-terminus", "deepseek-v3.2"):
            with self.subTest(encoding=encoding):
                self.converse(encoding, None, True)

    def test_text_is_written_again_in_every_encoding(self):
        for encoding, thinking in MODES:
            with self.subTest(encoding=encoding, thinking=thinking):
                self.converse(encoding, thinking, False)


if __name__ == "__main__":
    unittest.main()
