"""`pregate refactor` as its users call it: killed, stopped, on a full disk, on text that is no good.

usage: refactor_test.py BIN_DIR    (programs of one build with pregate-refactor)
"""
import json
import math
import pathlib
import resource
import signal
import subprocess
import tempfile
import time
import unittest
from random import Random

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
        widths = [s + o for s, o in zip(seen["spec"]["shared_width"], seen["spec"]["own_width"])]
        self.assertIn(sum(widths), range(120 * len(widths) - 1, 120 * len(widths) + 1), widths)  # of all, 0.75
        self.assertGreaterEqual(min(widths), 60, widths)
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
            (folder / "code" / "a.txt").write_text("".join(f"for (int i = 0; i < n; ++i) {{ sum += x[i + {k}]; }}\n" for k in range(400)))
        return ["--dense", self.dense, "--corpus", folder, "--keep", 0.75, "--windows", 4, "--window-tokens", 64,
                "--router-steps", 6, "--router-batch", 2, "--router-hidden", 16, "--refit-windows", 2]

    def tune_flags(self):
        """The same, tuned in 12 steps."""
        return [*self.run_flags("corpus"), "--tokens", "3.072k", "--batch", 4, "--rate", 1e-3, "--threads", 1]

    def kill_behind(self, command, losses, lines):
        """Starts the run and kills it once `losses` has so many lines."""
        with subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL, env=ENVIRONMENT) as going:
            deadline = time.monotonic() + 120
            while not (losses.exists() and losses.read_bytes().count(b"\n") >= lines):
                self.assertIsNone(going.poll(), "it ended by itself")
                self.assertLess(time.monotonic(), deadline)
            going.kill()

    def test_a_run_that_is_killed_goes_on_to_the_same_bits(self):
        flags = self.tune_flags()
        pregate("refactor", "run", *flags, "--out", self.dir / "whole")
        command = [BIN / "pregate", "refactor", "run", *flags, "--save-every-s", 0, "--out", self.dir / "killed"]
        for lines in (2, 8):  # in the first round, and behind the first router
            self.kill_behind(command, self.dir / "killed.work" / "losses.jsonl", lines)
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
        self.assertEqual(report["tune"]["delta_bits"], 8)  # there is room for them
        self.assertLess(report["tune"]["delta_error"], 0.01)
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

    def test_baselines_are_tuned_alike_and_go_on_after_a_kill(self):
        flags = [*self.tune_flags(), "--baselines", "all", "--eval-windows", 1000]
        pregate("refactor", "run", *flags, "--out", self.dir / "compared")
        command = [BIN / "pregate", "refactor", "run", *flags, "--save-every-s", 0, "--out", self.dir / "cut-off"]
        work = self.dir / "cut-off.work"
        for name, lines in (("dense", 2), ("random", 8), ("layer-router", 2), ("layer-router", 8)):
            self.kill_behind(command, work / f"baseline-{name}" / "losses.jsonl", lines)
        pregate(*command[1:])
        report, again = (json.loads((self.dir / f"{name}.work" / "report.json").read_text()) for name in ("compared", "cut-off"))
        self.assertEqual(report["baselines"], again["baselines"])
        self.assertEqual(sorted(report["baselines"]), ["dense", "layer-router", "parent", "parent-text", "random"])
        for name in report["baselines"]:
            folders = [self.dir / f"{run}.work" / f"baseline-{name}" for run in ("compared", "cut-off")]
            for file in ("artifact.safetensors", "losses.jsonl"):
                self.assertEqual((folders[0] / file).read_bytes(), (folders[1] / file).read_bytes(), f"{name} {file}")
            self.assertFalse([path.name for path in folders[1].iterdir() if path.name.startswith(("tune.safe", "router-"))])
            self.assertIn(f"baseline {name}", report["stages"])
        for i, domain in enumerate(report["domains"]):
            nll = {name: baseline["domains"][i]["nll"] for name, baseline in report["baselines"].items()}
            self.assertLess(max(nll.values()), domain["parent_nll"])
            self.assertAlmostEqual(domain["price_of_pregating"], math.exp(domain["routed_nll"] - nll["layer-router"]) - 1)
            self.assertAlmostEqual(domain["routed_x_tuned_parent"], math.exp(domain["routed_nll"] - nll["parent"]))
            for name, baseline in report["baselines"].items():
                self.assertAlmostEqual(baseline["domains"][i]["x_parent"], math.exp(nll[name] - domain["parent_nll"]))
        self.assertEqual(len((self.dir / "compared.work" / "losses.jsonl").read_text().splitlines()),
                         len((self.dir / "compared.work" / "baseline-parent" / "losses.jsonl").read_text().splitlines()))
        page = (self.dir / "compared.work" / "report.html").read_text()
        for text in ("price of pre-gating", "dense, x tuned parent", "layer-router, x parent"):
            self.assertIn(text, page)
        # What is scored as the dense model of the same width is what serving makes of its artifact, whoever routes.
        pregate("refactor", "--dense", self.dense, "--apply", self.dir / "compared.work" / "baseline-dense" / "artifact.safetensors",
                "--out", self.dir / "dense-applied")
        held_out = self.dir / "held_out.txt"
        text = (self.dir / "corpus" / "digits.txt").read_bytes()
        held_out.write_bytes(text[int(len(text) * 0.85):])
        served = pregate_json("eval", "ppl", "--model", self.dir / "dense-applied", "--text", held_out, "--context", 64)
        scored = report["baselines"]["dense"]["domains"][1]
        self.assertEqual((scored["domain"], scored["tokens"]), ("digits", served["tokens"]))
        self.assertAlmostEqual(scored["nll"], served["nll"], places=5)

    def test_baselines_that_cannot_be_made_are_refused_by_name(self):
        flags = [*self.tune_flags(), "--out", self.dir / "no"]
        self.assert_fails(2, "'one-mask' is not one of parent, parent-text, dense, random, layer-router, all", "refactor", "run", *flags,
                          "--baselines", "dense,one-mask")
        self.assert_fails(2, "give --tokens", "refactor", "run", *self.run_flags("corpus"), "--out", self.dir / "no",
                          "--baselines", "all")
        self.assert_fails(2, "--eval-windows", "refactor", "run", *flags, "--eval-windows", 0, "--baselines", "all")
        self.assert_fails(2, "--router-target loss", "refactor", "run", *flags, "--router-target", "energy", "--baselines", "all")
        self.assertFalse((self.dir / "no.work").exists())

    def test_the_parents_own_text_is_tuned_on_too(self):
        flags = [*self.tune_flags(), "--out", self.dir / "sampled", "--seed", 4]
        sampled = [*flags, "--parent-samples", "1.5k"]
        planned = run("refactor run", *sampled, "--plan")
        self.assertRegex(planned.stderr, r"(?m)^sample +[0-9.]+ min")
        pregate("refactor", "run", *sampled, "--until", "sample")
        work = self.dir / "sampled.work"
        written = (work / "samples.bin").read_bytes()
        self.assertEqual(len(written), 24 * 64 * 4)  # 1.5k tokens are 23.4 windows: 8 of each domain
        self.assert_fails(1, "sample.json: was made with parent-samples 1500, now it is 3000", "refactor", "run", *flags,
                          "--parent-samples", 3000)
        pregate("refactor", "run", *sampled)
        self.assertEqual((work / "samples.bin").read_bytes(), written)
        report = json.loads((work / "report.json").read_text())
        self.assertEqual((report["samples"]["tokens"], report["inputs"]["parent-samples"]), (1536, 1500))
        self.assertIn("sample", report["stages"])
        self.assertIn("1536 tokens that the parent wrote", (work / "report.html").read_text())
        self.assert_fails(1, "tune.json: was made with parent-samples 1500, now it is 0", "refactor", "run", *flags)
        pregate("refactor", "run", *flags[:-4], "--seed", 4, "--out", self.dir / "text-alone")
        alone = json.loads((self.dir / "text-alone.work" / "report.json").read_text())
        self.assertNotIn("samples", alone)
        for key in ("parent_nll", "cut_nll", "tokens"):  # what is measured, and where tuning begins, is the same
            self.assertEqual([d[key] for d in report["domains"]], [d[key] for d in alone["domains"]], key)
        self.assert_fails(2, "--parent-samples are there to be tuned on: give --tokens", "refactor", "run", *self.run_flags("corpus"),
                          "--out", self.dir / "no", "--parent-samples", 64)

    def test_a_teacher_comes_first_and_tasks_are_scored_as_eval_task_does(self):
        tasks = self.dir / "tasks"
        tasks.mkdir()
        random = Random(5)
        word = lambda: " ".join(str(random.randrange(100)) for _ in range(random.randrange(1, 4)))
        choices = [{"query": word(), "choices": [word(), word(), word()], "gold": random.randrange(3)} for _ in range(30)]
        (tasks / "choices.jsonl").write_text("".join(json.dumps(item) + "\n" for item in choices))
        (tasks / "words.jsonl").write_text("".join(json.dumps({"context": word(), "continuation": word()}) + "\n" for _ in range(9)))
        flags = [*self.tune_flags(), "--out", self.dir / "taught", "--seed", 4, "--teacher-tokens", "1.536k"]
        planned = run("refactor run", *flags, "--plan")
        self.assertIn("\nteacher ", planned.stderr)
        pregate("refactor", "run", *flags, "--tasks", tasks, "--task-items", 25)
        report = json.loads((self.dir / "taught.work" / "report.json").read_text())
        self.assertGreater(report["stages"]["teacher"]["seconds"], 0)
        self.assertEqual([task["task"] for task in report["tasks"]], ["choices", "words"])
        self.assertAlmostEqual(report["tasks"][0]["chance"], 1 / 3)
        for task in report["tasks"]:
            for model, key in ((self.dense, "parent"), (self.dir / "taught", "routed")):
                served = pregate_json("eval", "task", "--model", model, "--task", tasks / f"{task['task']}.jsonl", "--items-max", 25)
                self.assertEqual(served, {"n": task["items"], **task[key]}, (task["task"], key))
        provenance = pregate_json("inspect", self.dir / "taught", "--json")["provenance"]
        self.assertIn("by the parent tuned on 1536 tokens", provenance["method"])
        self.assert_fails(1, "teacher-tokens", "refactor", "run", *flags[:-1], 64)
        self.assert_fails(2, "--teacher-tokens make a teacher", "refactor", "run", *self.run_flags("corpus"),
                          "--out", self.dir / "no", "--teacher-tokens", 64)
        self.assert_fails(1, "has no .jsonl file", "refactor", "run", *flags, "--tasks", self.dir / "corpus")

    def test_too_little_memory_is_said_and_the_state_stays(self):
        flags = [*self.tune_flags(), "--out", self.dir / "large"]
        pregate("refactor", "run", *flags, "--until", "split")

        def little_memory():
            resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

        at = flags.index("--batch")
        wide = [*flags[:at], "--batch", 4096, "--micro-batch", 4096, *flags[at + 2:]]
        done = run("refactor run", *wide, preexec_fn=little_memory)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, "memory.*the last good state stays in .*smaller --micro-batch")
        pregate("refactor", "run", *flags)

    def test_the_papers_method_is_one_of_two(self):
        # A step has 4 x 64 tokens; the router's is half as large, and has a quarter of the tokens: 6 steps, at least 8.
        flags = [*self.run_flags("corpus"), "--tokens", "3.072k", "--batch", 4, "--threads", 1, "--seed", 4, "--method", "readme"]
        pregate("refactor", "run", *flags, "--out", self.dir / "readme")
        report = json.loads((self.dir / "readme.work" / "report.json").read_text())
        self.assertEqual((report["inputs"]["method"], report["inputs"]["router-steps"], report["inputs"]["router-batch"]),
                         ("readme", 8, 2))
        provenance = pregate_json("inspect", self.dir / "readme", "--json")["provenance"]
        self.assertIn("keep by mean |h|; router of", provenance["method"])
        self.assertIn("mixed loss", provenance["method"])
        self.assert_fails(1, "split.json: was made with mixed-loss true, now it is false", "refactor", "run", *flags,
                          "--router-loss", "text", "--out", self.dir / "readme")

    def test_a_run_stops_where_it_is_told_and_goes_on(self):
        flags = [*self.tune_flags(), "--out", self.dir / "timed"]
        planned = run("refactor run", *flags, "--baselines", "random", "--plan")
        self.assertEqual(planned.returncode, 0, planned.stderr)
        for stage in ("calibrate", "split", "tune", "evaluate", "baseline random", "export", "all"):
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
