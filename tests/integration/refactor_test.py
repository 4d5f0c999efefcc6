"""`pregate refactor` as its users call it: killed, stopped, on a full disk, on text that is no good.

usage: refactor_test.py BIN_DIR    (programs of one build with pregate-refactor)
"""
import json
import pathlib
import resource
import signal
import subprocess
import tempfile
import time
import unittest

from programs import BIN, ENVIRONMENT, pregate, pregate_json, run


@unittest.skipUnless((BIN / "pregate-refactor").exists(), "this build has no LibTorch")
class RefactorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.dense = cls.dir / "dense"
        pregate("synth", "--shape", "tiny", "--seed", 1, "--out", cls.dense)

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def assert_fails(self, code, named, *args):
        self.assertIn(named, pregate(*args, code=code))

    def test_refactor_makes_what_its_artifact_rebuilds(self):
        made = []
        for name in ("first", "second"):
            pregate("refactor", *self.run_flags("corpus"), "--seed", 3, "--out", self.dir / name,
                    "--artifact", self.dir / f"{name}.safetensors")
            made.append((self.dir / f"{name}.safetensors").read_bytes())
        self.assertEqual(made[0], made[1])
        pregate("refactor", "--dense", self.dense, "--apply", self.dir / "first.safetensors", "--out", self.dir / "rebuilt")
        seen = pregate_json("inspect", self.dir / "rebuilt", "--verify")
        self.assertEqual(seen["digest"], pregate_json("inspect", self.dir / "first")["digest"])
        self.assertEqual(seen["spec"]["num_experts"], 3)
        self.assertEqual({s + o for s, o in zip(seen["spec"]["shared_width"], seen["spec"]["own_width"])}, {120})
        self.assertEqual(len(pregate_json("generate", "--model", self.dir / "rebuilt", "--prompt", "12", "--max-tokens", 3,
                                          "--temperature", 0, "--seed", 0)["ids"]), 3)
        other = self.dir / "stranger"
        pregate("synth", "--shape", "tiny", "--seed", 9, "--out", other)
        self.assert_fails(1, "digest", "refactor", "--dense", other, "--apply", self.dir / "first.safetensors",
                          "--out", self.dir / "no")
        self.assert_fails(1, "corpus", "refactor", "--dense", self.dense, "--corpus", self.dir / "nowhere", "--keep", 0.75,
                          "--out", self.dir / "no")
        self.assert_fails(1, "out", "refactor", *self.run_flags("corpus"), "--out", self.dir / "rebuilt")

    def run_flags(self, corpus):
        """Options of a run of seconds over three domains."""
        folder = self.dir / corpus
        if not folder.exists():
            (folder / "code").mkdir(parents=True)
            (folder / "digits.txt").write_text("".join(f"{i * i} " for i in range(4000)))
            (folder / "words.txt").write_text("the cat sat on the mat and the dog lay by the door. " * 400)
            (folder / "code" / "a.txt").write_text("for (int i = 0; i < n; ++i) { sum += x[i]; }\n" * 400)
        return ["--dense", self.dense, "--corpus", folder, "--keep", 0.75, "--windows", 4, "--window-tokens", 64,
                "--router-steps", 6, "--router-batch", 2, "--router-hidden", 16, "--refit-windows", 2]

    def tune_flags(self):
        """The same, tuned in 12 steps."""
        return [*self.run_flags("corpus"), "--tokens", "3.072k", "--batch", 4, "--rate", 1e-3, "--threads", 1]

    def test_a_run_that_is_killed_goes_on_to_the_same_bits(self):
        flags = self.tune_flags()
        pregate("refactor", "run", *flags, "--out", self.dir / "whole")
        command = [BIN / "pregate", "refactor", "run", *flags, "--save-every-s", 0, "--out", self.dir / "killed"]
        losses = self.dir / "killed.work" / "losses.jsonl"
        for lines in (2, 8):  # in the first round, and behind the first router
            with subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, env=ENVIRONMENT) as going:
                deadline = time.monotonic() + 120
                while not (losses.exists() and losses.read_bytes().count(b"\n") >= lines):
                    self.assertIsNone(going.poll(), "it ended by itself")
                    self.assertLess(time.monotonic(), deadline)
                going.kill()
        self.assertFalse((self.dir / "killed").exists())
        pregate(*command[1:])
        for name in ("artifact.safetensors", "losses.jsonl"):
            self.assertEqual((self.dir / "whole.work" / name).read_bytes(), (self.dir / "killed.work" / name).read_bytes(), name)
        self.assertFalse((self.dir / "killed.work" / "tune.safetensors").exists())
        pregate("refactor", "--dense", self.dense, "--apply", self.dir / "killed.work" / "artifact.safetensors",
                "--out", self.dir / "applied")
        self.assertEqual(pregate_json("inspect", self.dir / "applied", "--verify")["digest"],
                         pregate_json("inspect", self.dir / "whole")["digest"])
        report = json.loads((self.dir / "whole.work" / "report.json").read_text())
        for domain in report["domains"]:
            self.assertLess(domain["own_nll"], domain["cut_nll"], domain["domain"])
        # The report's perplexity is that of serving, on the checkpoint that was written.
        held_out = self.dir / "held_out.txt"
        text = (self.dir / "corpus" / "digits.txt").read_bytes()
        held_out.write_bytes(text[int(len(text) * 0.85):])
        served = pregate_json("eval", "ppl", "--model", self.dir / "whole", "--text", held_out, "--context", 64, "--expert", 1)
        dense = pregate_json("eval", "ppl", "--model", self.dense, "--text", held_out, "--context", 64)
        self.assertLess(served["nll"], dense["nll"])
        page = (self.dir / "whole.work" / "report.html").read_text()
        self.assertIn("<svg", page)
        self.assertNotIn("http", page)

    def test_a_run_stops_where_it_is_told_and_goes_on(self):
        flags = [*self.tune_flags(), "--out", self.dir / "timed"]
        planned = run("refactor run", *flags, "--plan")
        self.assertEqual(planned.returncode, 0, planned.stderr)
        for stage in ("calibrate", "split", "tune", "evaluate", "export", "all"):
            self.assertRegex(planned.stderr, rf"(?m)^{stage} +[0-9.]+ min")
        self.assertFalse((self.dir / "timed.work").exists())
        config = self.dir / "run.toml"
        config.write_text("".join(f'{name[2:]} = {json.dumps(str(value) if not isinstance(value, (int, float)) else value)}\n'
                                  for name, value in zip(flags[::2], flags[1::2])))
        pregate("refactor", "run", config, "--until", "split")
        self.assertTrue((self.dir / "timed.work" / "split.json").exists())
        self.assertFalse((self.dir / "timed.work" / "activations.bin").exists())
        self.assert_fails(1, "split.json: was made with keep 0.75, now it is 0.5", "refactor", "run", config, "--keep", 0.5)
        for _ in range(40):
            done = run("refactor run", config, "--time-limit-s", 2)
            self.assertEqual(done.returncode, 0, done.stderr)
            if (self.dir / "timed").exists():
                break
            self.assertIn("stopped at the time limit", done.stderr)
        self.assertIn("wrote", done.stderr)
        self.assertEqual(pregate_json("inspect", self.dir / "timed", "--verify")["spec"]["num_experts"], 3)
        pregate("refactor", "run", config)  # nothing is left to do

    def test_a_full_disk_keeps_the_last_good_state(self):
        flags = [*self.tune_flags(), "--out", self.dir / "full"]
        pregate("refactor", "run", *flags, "--until", "split")

        def no_large_files():  # as a disk that is full: a write fails half way
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

        done = run("refactor run", *flags, "--save-every-s", 0, preexec_fn=no_large_files)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "tune.safetensors.part: cannot write")
        self.assertFalse((self.dir / "full.work" / "tune.safetensors").exists())
        pregate("refactor", "run", *flags)
        self.assertTrue((self.dir / "full" / "config.json").exists())

    def test_text_that_is_no_good_is_refused_by_name(self):
        flags = self.run_flags("bad")
        empty = self.dir / "bad" / "empty.txt"
        empty.write_text("")
        self.assert_fails(2, "domain empty", "refactor", "run", *flags, "--out", self.dir / "no")
        empty.write_text("x " * 400)
        self.assert_fails(2, "domain empty: its held-out text", "refactor", "run", *flags, "--hold-out", 0.01, "--out", self.dir / "no")
        line = "this line is long enough to be counted as one that was seen before, surely\n"
        empty.write_text(line * 40)
        self.assert_fails(2, "lines that stood before are left out", "refactor", "run", *flags, "--out", self.dir / "no")
        self.assert_fails(2, "domain empty: 100% of its held-out text", "refactor", "run", *flags, "--repeats", "refuse",
                          "--out", self.dir / "no")
        self.assertFalse((self.dir / "no.work").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
