"""Text that people's editors, spreadsheets and shells hand to `pregate`: byte-order marks, CRLF, blank ends, other
encodings and bytes that are no text are read, or named with their place; never an empty message.

usage: text_test.py BIN_DIR
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

BIN = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else "build/debug/bin").resolve()
MARK = b"\xef\xbb\xbf"


def run(*args):
    """Exit code, standard output, standard error."""
    done = subprocess.run([BIN / "pregate", *args], capture_output=True, timeout=300)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class TextTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.folder.name)
        cls.model = cls.dir / "model"
        code, _, error = run("synth", "--out", cls.model, "--shape", "tiny")
        assert code == 0, error

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def file(self, name, content):
        path = self.dir / name
        path.write_bytes(content)
        return path

    def same(self, contents, *args):
        """The command prints the same for every content of its file, which is the last argument."""
        answers = []
        for number, content in enumerate(contents):
            code, out, error = run(*args, self.file(f"same-{number}", content))
            self.assertEqual(code, 0, f"{content!r}: {error}")
            answers.append(out.replace(f"same-{number}", ""))
        self.assertEqual(len(set(answers)), 1, answers)

    def refused(self, expected, *args):
        code, _, error = run(*args)
        self.assertEqual(code, 2, error)
        self.assertIn(expected, error)

    def test_task_files(self):
        lines = [{"context": "a", "continuation": "b"}, {"query": "c", "choices": ["d", "é"], "gold": 0}]
        plain = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        crlf = plain.replace(b"\n", b"\r\n")
        self.same([plain, MARK + plain, crlf, MARK + crlf + b"\r\n  \r\n", plain.rstrip(b"\n")],
                  "eval", "task", "--model", self.model, "--json", "--task")
        self.refused("task' is not UTF-8: byte 1 (line 1) is 0xFF", "eval", "task", "--model", self.model, "--task",
                     self.file("task", b"{\xff}"))

    def test_token_lists(self):
        for content in (b"[[1, 2]]", MARK + b"[[1, 2]]", MARK + b"[[1,\r\n2]]\r\n"):
            code, _, error = run("logits", "--model", self.model, "--out", self.dir / "out", "--tokens",
                                 self.file("ids", content))
            self.assertEqual(code, 0, error)

    def test_model_files(self):
        before = {}
        want = run("generate", "--model", self.model, "--prompt", "the", "--max-tokens", "3", "--seed", "1")
        try:
            for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
                before[name] = (self.model / name).read_bytes()
                (self.model / name).write_bytes(MARK + before[name].replace(b"\n", b"\r\n"))
            self.assertEqual(run("generate", "--model", self.model, "--prompt", "the", "--max-tokens", "3", "--seed",
                                 "1")[:2], want[:2])
            (self.model / "tokenizer.json").write_bytes(before["tokenizer.json"].decode().encode("utf-16"))
            self.refused("tokenizer.json is UTF-16", "tokenize", "--model", self.model, "--text-file",
                         self.file("t", b"a"))
        finally:
            for name, content in before.items():
                (self.model / name).write_bytes(content)

    def test_traces_and_costs(self):
        rows = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 10:00:00,12,5\n2024-05-10 10:00:01,6,3\n"
        self.same([rows, MARK + rows.replace(b"\n", b"\r\n"), rows.replace(b",12", b"+00:00,12"),
                   rows.replace(b"2024-05-10 10:00:01", b'"2024-05-10T12:00:01.0+02:00"')],
                  "simulate", "--json", "--trace")
        self.refused("line 2, TIMESTAMP: '999999-05-10 10:00:00'", "simulate", "--trace",
                     self.file("absurd", rows.replace(b"2024-05-10 10:00:00", b"999999-05-10 10:00:00")))

    def test_content_is_not_touched_but_must_be_text(self):
        def ids(content):
            code, out, error = run("tokenize", "--model", self.model, "--text-file", self.file("text", content))
            self.assertEqual(code, 0, error)
            return [int(line) for line in out.split()]
        self.assertEqual(ids(MARK + b"a\r\n")[3:], ids(b"a\r\n"))  # three bytes that are no word of the model
        self.refused("--text-file: '", "tokenize", "--model", self.model, "--text-file", self.file("text", b"ab\xff"))
        self.refused("is not UTF-8: byte 2 (line 1) is 0xFF", "tokenize", "--model", self.model, "--text-file",
                     self.file("text", b"ab\xff"))
        self.refused("--prompt is not UTF-8: byte 1", "generate", "--model", self.model, "--prompt", b"a\xc3")
        self.refused("--text: '", "eval", "ppl", "--model", self.model, "--text", self.file("text", b"\x80" * 900))


if __name__ == "__main__":
    unittest.main()
