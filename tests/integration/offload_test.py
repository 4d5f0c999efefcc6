"""Where not all experts fit: slots that the worker chooses, and the timeline of a cell whose workers load and exchange.

usage: offload_test.py BIN_DIR
"""
import contextlib
import itertools
import json
import pathlib
import re
import tempfile
import unittest

from programs import pregate, pregate_json, run, started, wait_until

EXPERTS = 5
ROWS = ["compute", "exchange", "loads", "stalls"]


def fields(log, message):
    """{name: text} of the last line that says `message`."""
    lines = [line for line in log.read_text().splitlines() if f": {message} " in line]
    return {name: text.strip('"') for name, text in re.findall(r'(\w+)=("[^"]*"|\S+)', lines[-1])} if lines else {}


class OffloadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.model = cls.dir / "model"
        pregate("synth", "--shape", "tiny", "--experts", EXPERTS, "--shared", 0.25, "--own", 0.1, "--seed", 1, "--out", cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def generate(self, server, tokens=24):
        return pregate_json("generate", "--server", server, "--wait-s", 60, "--prompt", "The quick brown fox", "--max-tokens", tokens,
                            "--ignore-eos")

    @contextlib.contextmanager
    def serve(self, *flags):
        """(address, log) of a `pregate serve`."""
        log, socket = self.dir / "serve.log", f"unix:{self.dir}/serve.sock"
        with log.open("w") as out, started("serve", "--model", self.model, "--listen", socket, "--http-listen", "off",
                                           "--metrics-listen", "127.0.0.1:0", "--threads", 1, "--kv-cache-bytes", "1MiB", *flags,
                                           log=out):
            yield socket, log

    def plan(self, *flags):
        """The memory plan, and the answer, of a worker with these flags."""
        with self.serve(*flags) as (server, log):
            ids = self.generate(server)["ids"]
            plan = fields(log, "memory plan")
            return {name: int(plan[name]) for name in ("total_bytes", "expert_bytes")}, ids

    def test_as_many_experts_stay_as_the_budget_has_room_for(self):
        whole, ids = self.plan("--expert-slots", 0)
        one, same = self.plan("--expert-slots", 1)
        self.assertEqual(same, ids)
        rest, slot = one["total_bytes"] - one["expert_bytes"], one["expert_bytes"]
        for slots in (1, 3):
            for spare in (0, slot - 1):
                with self.subTest(slots=slots, spare=spare), \
                        self.serve("--device-memory-bytes", rest + slots * slot + spare) as (server, log):
                    self.assertEqual(self.generate(server)["ids"], ids)
                    choice, speed = fields(log, "expert slots"), fields(log, "expected speed of one stream")
                    self.assertEqual(choice["expert_slots"], str(slots))
                    self.assertEqual(choice["reason"], f"{slots} of {EXPERTS} fit")
                    self.assertEqual(int(choice["slots_bytes"]), slots * slot)
                    self.assertEqual(int(fields(log, "memory plan")["total_bytes"]), rest + slots * slot)
                    self.assertLessEqual(0, float(speed["tokens_per_s"]))
                    self.assertLessEqual(float(speed["tokens_per_s"]), float(speed["tokens_per_s_if_all_stayed"]) * 1.0001)
                    self.assertGreater(int(speed["measured_step_us"]), 0)
        with self.serve("--expert-slots", "auto", "--device-memory-bytes", whole["total_bytes"]) as (server, log):
            self.assertEqual(self.generate(server)["ids"], ids)
            self.assertEqual(fields(log, "expert slots")["reason"], "all fit")
            self.assertEqual(fields(log, "expected speed of one stream"), {})

    def test_too_small_a_budget_is_refused_before_anything_is_read(self):
        done = run("serve", "--model", self.model, "--kv-cache-bytes", "1MiB", "--device-memory-bytes", "64KiB", "--listen",
                   f"unix:{self.dir}/none.sock", "--metrics-listen", "127.0.0.1:0", timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the device has 0 MiB for this worker", done.stderr)
        done = run("serve", "--model", self.model, "--kv-cache-bytes", "1MiB", "--device-memory-bytes", "64KiB", "--expert-slots", 1,
                   "--listen", f"unix:{self.dir}/none.sock", "--metrics-listen", "127.0.0.1:0", timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("more --device-memory-bytes", done.stderr)
        self.assertIn("--kv-cache-bytes 1MiB: the KV cache of 0 MiB does not fit beside the 1 MiB of the rest", done.stderr)

    def test_a_worker_that_holds_no_expert_expects_no_speed(self):
        log, flags = self.dir / "idle.log", ["--rank", EXPERTS, "--world-size", EXPERTS + 1, "--threads", 1, "--kv-cache-bytes", "1MiB"]
        one, _ = self.plan("--expert-slots", 1)
        with log.open("w") as out, started("pregate-worker", "--model", self.model, "--listen", f"unix:{self.dir}/idle.sock",
                                           "--metrics-listen", "127.0.0.1:0", "--device-memory-bytes", one["total_bytes"],
                                           *flags, log=out):
            wait_until(lambda: fields(log, "serving"))
        self.assertEqual(fields(log, "expert slots")["expert_slots"], "1")
        self.assertEqual(fields(log, "expected speed of one stream"), {})

    @contextlib.contextmanager
    def cell(self, workers=2):
        """The scheduler's address of a router and workers, one expert of whose fits at a time."""
        at = {name: f"unix:{self.dir}/{name}.sock" for name in ("router", "scheduler", *(f"worker-{r}" for r in range(workers)))}
        quiet = ["--metrics-listen", "127.0.0.1:0"]
        with contextlib.ExitStack() as stack:
            stack.enter_context(started("pregate-router", "--model", self.model, "--listen", at["router"], *quiet))
            for rank in range(workers):
                stack.enter_context(started("pregate-worker", "--model", self.model, "--listen", at[f"worker-{rank}"], "--rank", rank,
                                            "--world-size", workers, "--threads", 1, "--kv-blocks", 16, "--expert-slots", 1, *quiet))
            stack.enter_context(started("pregate-scheduler", "--model", self.model, "--listen", at["scheduler"], "--router", at["router"],
                                        "--workers", ",".join(at[f"worker-{r}"] for r in range(workers)), "--drafts", "off", *quiet))
            yield at["scheduler"]

    def test_a_cells_timeline_has_what_each_rank_did_and_when(self):
        with self.cell() as server:
            tokens = len(self.generate(server)["ids"])
            out = self.dir / "trace.json"
            summary = pregate_json("trace", "--server", server, "--steps", 10, "--out", out)
            # The last answer may come before its step has been put on the board.
            wait_until(lambda: pregate_json("trace", "--server", server, "--steps", 200, "--out", out)["steps"] >= tokens)
            trace = json.loads(out.read_text())
            text = pregate("trace", "--server", server, "--out", out)
            done = run("trace", "--server", server, "--out", self.dir / "missing" / "trace.json")
        self.assertEqual(summary["steps"], 10)
        self.assertIn("rank 1: compute ", text)
        self.assertEqual(done.returncode, 1)
        self.check_timeline(trace)

    def check_timeline(self, trace):
        names, rows, spans = {}, {}, {}
        for event in trace["traceEvents"]:
            at = event["pid"], event["tid"]
            if event["ph"] == "M" and event["name"] == "process_name":
                names[event["pid"]] = event["args"]["name"]
            elif event["ph"] == "M" and event["name"] == "thread_name":
                rows[at] = event["args"]["name"]
            elif event["ph"] == "X":
                self.assertGreaterEqual(event["dur"], 0)
                spans.setdefault(at, []).append((event["ts"], event["ts"] + event["dur"], event["name"], event.get("args")))
        self.assertEqual(sorted(names), [0, 1, 2])
        self.assertTrue(names[1].startswith("rank 0: cpu"), names)
        self.assertEqual(rows, {(pid, tid): row for pid in (1, 2) for tid, row in enumerate(ROWS)})
        for rank in trace["otherData"]["ranks"]:
            self.assertEqual(rank["clock"], "host, steady")
            self.assertLess(rank["clock_error_us"], 60e6)
        for pid in (1, 2):
            steps = sorted(span for span in spans[pid, 0] if span[2].startswith("step "))
            phases = sorted(span for span in spans[pid, 0] if not span[2].startswith("step "))
            self.assertLessEqual({"router", "layers", "emit"}, {span[2] for span in phases})
            for row in (steps, phases, *(sorted(spans.get((pid, tid), [])) for tid in (1, 2, 3))):
                for one, next_ in itertools.pairwise(row):
                    self.assertLessEqual(one[1], next_[0], f"rank {pid - 1}: {one} and {next_} overlap")
            self.assertEqual([s[3]["number"] for s in steps], sorted(s[3]["number"] for s in steps))
            exchanges, stalls = spans[pid, 1], spans.get((pid, 3), [])
            within = {}
            for begin, end, name, _ in (*phases, *exchanges, *stalls):
                step = [s for s in steps if s[0] <= begin and end <= s[1]]
                self.assertEqual(len(step), 1, f"rank {pid - 1}: {name} {begin}..{end} is in {len(step)} steps")
                kind = "compute" if name in ("router", "layers", "emit") else name
                within[step[0][:3], kind] = within.get((step[0][:3], kind), 0) + end - begin
            for ((begin, end, name), kind), took in within.items():
                self.assertLessEqual(took, end - begin, f"{kind} of {name}")
            # Rows travel twice a layer, and routes once a step before.
            self.assertEqual({kind for _, kind in within} - {"stall"}, {"compute", "exchange"})
        # Three experts share a rank's room for one.
        self.assertTrue(any(spans.get((pid, 2)) for pid in (1, 2)), "nothing was loaded")


if __name__ == "__main__":
    unittest.main()
