"""Where not all experts fit: slots that the worker chooses.

usage: offload_test.py BIN_DIR
"""
import contextlib
import pathlib
import re
import tempfile
import unittest

from programs import pregate, pregate_json, run, started

EXPERTS = 5


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


if __name__ == "__main__":
    unittest.main()
