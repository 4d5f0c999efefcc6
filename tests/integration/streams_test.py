"""Inputs may be pipes, outputs may be anything: what cannot be written is an error, and a signal leaves nothing behind.

usage: streams_test.py BIN_DIR
"""
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from programs import BIN, COMMANDS, ENVIRONMENT, PROGRAMS, argv_of, pregate, run, started, wait_until

SANITIZED = b"__asan_init" in (BIN / "pregate").read_bytes()
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,5,5\n"
TEXT = "Sentence after sentence says what the one before it said. " * 8


class StreamsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.model = cls.dir / "model"
        pregate("synth", "--shape", "tiny", "--seed", 1, "--out", cls.model)
        (cls.dir / "trace.csv").write_text(TRACE)
        (cls.dir / "text").write_text(TEXT)
        cls.generate = ["generate", "--model", cls.model, "--prompt", "a", "--max-tokens", 3, "--threads", 1]
        cls.tokenize = ["tokenize", "--model", cls.model, "--text-file", cls.dir / "text"]
        cls.simulate = ["simulate", "--trace", cls.dir / "trace.csv"]

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def inputs(self):
        """Commands that read a file: what its option is called and what it may hold."""
        model = ["--model", self.model]
        yield ["tokenize", *model, "--text-file"], TEXT
        yield ["logits", *model, "--out", self.dir / "logits", "--tokens"], "[[1, 2]]"
        yield ["simulate", "--trace"], TRACE
        yield ["eval ppl", *model, "--context", 4, "--text"], TEXT
        yield ["eval task", *model, "--task"], '{"context": "a", "continuation": "b"}\n'
        yield [*self.generate, "--config"], "temperature = 0.5\n"

    def test_every_input_may_be_a_pipe(self):
        for command, text in self.inputs():
            with self.subTest(command[0], by="/dev/stdin"):
                done = run(*command, "/dev/stdin", input=text)
                self.assertEqual(done.returncode, 0, done.stderr)
            with self.subTest(command[0], by="fifo"):
                fifo = self.dir / "fifo"
                os.mkfifo(fifo)
                writer = threading.Thread(target=fifo.write_text, args=(text,))
                writer.start()
                done = run(*command, fifo)
                writer.join()
                fifo.unlink()
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_input_that_never_ends_is_refused(self):
        done = run(*self.generate, "--config", "/dev/zero")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/dev/zero: more than", done.stderr)

    def printing(self):
        """Commands that print something."""
        for command in [*COMMANDS, *PROGRAMS]:
            yield [command, "--help"]
            yield [command, "--version"]
        yield ["serve", "--model", "m", "--print-config"]
        yield ["pregate-worker", "--model", "m", "--print-config"]
        yield ["completion", "bash"]
        yield ["inspect", self.model]
        yield self.tokenize
        yield [*self.tokenize, "--json"]
        yield self.generate
        yield [*self.generate, "--json"]
        yield self.simulate
        yield [*self.simulate, "--json"]
        yield ["eval ppl", "--model", self.model, "--context", 4, "--text", self.dir / "text"]
        yield ["certs init", "--dir", self.dir / "certs", "--json"]

    def test_a_full_disk_or_closed_output_is_an_error(self):
        for command in self.printing():
            with self.subTest(command):
                with open("/dev/full", "w") as full:
                    done = subprocess.run(argv_of(*command), stdout=full, stderr=subprocess.PIPE, text=True,
                                          env=ENVIRONMENT, timeout=60)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("standard output", done.stderr)
                subprocess.run(["rm", "-rf", self.dir / "certs"], check=True)
                done = subprocess.run(["bash", "-c", '"$@" >&-', "_", *argv_of(*command)], stderr=subprocess.PIPE,
                                      text=True, env=ENVIRONMENT, timeout=60)
                self.assertEqual(done.returncode, 1, done.stderr)
                subprocess.run(["rm", "-rf", self.dir / "certs"], check=True)

    def test_a_reader_that_leaves_ends_a_generation(self):
        with started(*self.generate[:-4], "--threads", 1, "--ignore-eos", "--drafts", "off", log=subprocess.PIPE) as program:
            program.stdout.read(1)
            program.stdout.close()
            self.assertNotEqual(program.wait(timeout=20), 0)

    def test_outputs_may_be_anything_and_stay_what_they_are(self):
        lists = self.dir / "lists.json"
        lists.write_text("[[1]]")
        logits = ["logits", "--model", self.model, "--tokens", lists, "--out"]
        for command in (logits, [*self.simulate, "--out"]):
            with self.subTest(command[0]):
                done = run(*command, "/dev/full")
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("/dev/full", done.stderr)
                self.assertTrue(pathlib.Path("/dev/full").is_char_device())
                file = self.dir / f"{command[0]}.out"
                self.assertEqual(run(*command, file).returncode, 0)
                whole = file.read_bytes()
                link = self.dir / f"{command[0]}.link"
                link.symlink_to(file)
                self.assertEqual(run(*command, link).returncode, 0)
                self.assertTrue(link.is_symlink())
                fifo = self.dir / "fifo"
                os.mkfifo(fifo)
                with subprocess.Popen(argv_of(*command, fifo), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL) as program:
                    self.assertEqual(fifo.read_bytes(), whole)
                    self.assertEqual(program.wait(timeout=60), 0)
                fifo.unlink()
        done = subprocess.run(argv_of(*logits, "/dev/stdout"), capture_output=True, env=ENVIRONMENT, check=True)
        self.assertEqual(done.stdout, (self.dir / "logits.out").read_bytes())

    @unittest.skipIf(SANITIZED, "a sanitizer's shadow memory is not to be had under such a limit")
    def test_memory_that_runs_out_is_said_and_leaves_nothing(self):
        out = self.dir / "large" / "model"

        def limited(kib, *args):
            return subprocess.run(["bash", "-c", f'ulimit -v {kib}; exec "$@"', "_", *argv_of(*args)], capture_output=True,
                                  text=True, env=ENVIRONMENT, timeout=60)
        # The program itself with its libraries (CUDA's are a gigabyte), then a fifth of the largest tensor.
        starts = next(kib for kib in range(100_000, 20_000_000, 100_000) if limited(kib, "--version").returncode == 0)
        done = limited(starts + 100_000, "synth", "--shape", "llama2-7b", "--out", out)
        self.assertEqual((done.returncode, done.stderr), (1, "pregate: out of memory\n"))
        self.assertEqual(list(out.parent.iterdir()), [])

    def test_a_signal_leaves_no_half_written_folder(self):
        out = self.dir / "out" / "model"
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(sent), started("synth", "--shape", "smollm2-135m", "--out", out) as program:
                wait_until(lambda: out.parent.exists() and any(out.parent.glob("*/*")))
                program.send_signal(sent)
                at = time.time()
                self.assertEqual(program.wait(timeout=20), -sent)
                self.assertLess(time.time() - at, 1)
                self.assertEqual(list(out.parent.iterdir()), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
