"""The proto files' rules, and the commands that docs/API.md shows, against live servers. usage: api_test.py BIN_DIR"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import live

PROTO_SH = live.ROOT / "scripts/proto.sh"


def proto_sh(command, proto=None):
    env = {**os.environ, **({"PREGATE_PROTO_DIR": str(proto)} if proto else {})}
    return subprocess.run([PROTO_SH, *command.split()], capture_output=True, text=True, env=env, timeout=live.TIMEOUT_S)


class ProtoTest(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.copy = pathlib.Path(temp.name) / "proto"
        shutil.copytree(live.ROOT / "proto", self.copy)

    def change(self, file, old, new):
        path = self.copy / "pregate/v1" / file
        text = path.read_text()
        self.assertEqual(len(re.findall(old, text)), 1, old)
        path.write_text(re.sub(old, new, text))

    def test_the_files_are_clean_and_break_nothing(self):
        for command in ("lint", "breaking"):
            done = proto_sh(command)
            self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
            self.assertEqual(proto_sh(command, self.copy).returncode, 0)

    def test_what_would_break_a_client_is_refused(self):
        breaks = (("inference.proto", r"int32 prompt_tokens = 5;", "int32 prompt_tokens = 15;", "prompt_tokens"),
                  ("inference.proto", r"  rpc Tokenize\(.*\n", "", "Tokenize"),
                  ("inference.proto", r"string numerics_id = 4;\n(?=  int32 prompt)", "bytes numerics_id = 4;\n", "numerics_id"),
                  ("inference.proto", r"returns \(stream GenerateResponse\)", "returns (GenerateResponse)", "Generate"),
                  ("inference.proto", r"FINISH_REASON_LENGTH = 1", "FINISH_REASON_LENGTH = 7", "FINISH_REASON_LENGTH"),
                  ("router.proto", r"service Router \{(.|\n)*?\n\}", "", "Router"))
        for file, old, new, named in breaks:
            with self.subTest(old):
                original = (self.copy / "pregate/v1" / file).read_text()
                self.change(file, old, new)
                done = proto_sh("breaking", self.copy)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(named, done.stdout)
                renewed = proto_sh("baseline", self.copy)
                self.assertNotEqual(renewed.returncode, 0, "a break became the baseline")
                (self.copy / "pregate/v1" / file).write_text(original)

    def test_what_is_added_breaks_nothing_until_it_is_promised(self):
        self.change("inference.proto", r"string model_digest = 3;\n(?=  string numerics_id = 4;\n  int32)",
                    "string model_digest = 3;\n  string added = 99; // a comment\n")
        self.assertEqual(proto_sh("breaking", self.copy).returncode, 0)
        self.assertEqual(proto_sh("baseline", self.copy).returncode, 0)
        self.assertIn("string added = 99;\n", (self.copy / "baseline/pregate/v1/inference.proto").read_text())
        self.change("inference.proto", r"  string added = 99; // a comment\n", "")
        self.assertNotEqual(proto_sh("breaking", self.copy).returncode, 0)

    def test_style_is_held(self):
        self.change("inference.proto", r"string stop_string = 2;", "string stopString = 2;")
        done = proto_sh("lint", self.copy)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("stopString", done.stdout)

    def test_wrong_usage_says_so(self):
        for command in ("", "frob", "baseline --force", "lint now"):
            self.assertEqual(proto_sh(command).returncode, 2, command)


def shape(value):
    """A JSON value's form: keys and types. Which timings are zero, and so left out, is chance."""
    if isinstance(value, dict):
        return {key: {} if key == "timings" else shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def messages(text):
    """The JSON values that follow each other in a text."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        values.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return values


class DocumentedCommandsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = live.Folder()
        blocks = re.findall(r"(?m)(?:^    .*\n)+", (live.ROOT / "docs/API.md").read_text())
        blocks = [re.sub("(?m)^    ", "", block) for block in blocks]
        cls.shown = [(command, output) for command, output in zip(blocks, blocks[1:]) if command.startswith("buf curl")]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_shown(self, server, certs, command):
        """The command as it stands in the document, but for this server's place and certificates."""
        command = command.replace("127.0.0.1:7600", server.address).replace("certs/", f"{certs}/")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=live.TIMEOUT_S,
                              env={**os.environ, "PATH": f"{live.TOOLS / 'bin'}:{os.environ['PATH']}"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_they_say_what_is_shown(self):
        certs = self.folder.certs()
        self.assertEqual(len(self.shown), 3)
        for command, output in self.shown:
            with self.subTest(command), self.folder.serve(certs=certs if "https://" in command else None) as server:
                got = self.run_shown(server, certs, command)
                if "--list-methods" in command:
                    self.assertEqual(got, output)
                else:
                    self.assertEqual([shape(m) for m in messages(got)], [shape(m) for m in messages(output)])

    def test_mistakes_come_back_in_words(self):
        with self.folder.serve() as server:
            done = subprocess.run([live.TOOLS / "bin/buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d",
                                   '{"text": "x", "maxTokens": -3}', f"http://{server.address}/pregate.v1.Inference/Generate"],
                                  capture_output=True, text=True, timeout=live.TIMEOUT_S)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("max_tokens is -3", done.stderr)


if __name__ == "__main__":
    unittest.main()
