"""The `pregate` program as its users call it: exit codes, JSON, files, errors that name the mistake.

usage: cli_test.py BIN_DIR    (programs of one build)
"""
import codecs
import contextlib
import itertools
import json
import math
import os
import pathlib
import stat
import struct
import subprocess
import tempfile
import time
import unittest

from programs import BIN, COMMANDS, pregate, pregate_json


def safetensors(path):
    """{name: (dtype, shape, bytes)} of a file."""
    blob = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], blob[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]])
            for name, t in header.items()}


def sentencepiece_model(pieces):
    """The bytes of a tokenizer.model (sentencepiece_model.proto): BPE with byte fallback, as Llama-2's."""
    def field(number, payload):
        return bytes([number << 3 | 2, *varint(len(payload))]) + payload

    def varint(value):
        return [value] if value < 128 else [value & 127 | 128, *varint(value >> 7)]

    out = b""
    for text, score, kind in pieces:
        out += field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))
    trainer = bytes([3 << 3, 2, *varint(35 << 3), 1])  # model_type BPE, byte_fallback
    normalizer = bytes([3 << 3, 1, 4 << 3, 0])  # add_dummy_prefix, remove_extra_whitespaces
    return out + field(2, trainer) + field(3, normalizer)


def llama_pieces(size):
    """<unk>, <s>, </s>, the bytes, letters, then words with their space: `size` in all."""
    pieces = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)] + [(f"<0x{b:02X}>", 0, 6) for b in range(256)]
    texts = ["\u2581", *"abcdefghijklmnopqrstuvwxyzOS", "\u2581t", "\u2581th", "\u2581the", "\u2581a", "ti", "me", "time"]
    texts += [f"\u2581{a}{b}" for a in "bcdfgklmnprs" for b in "aeiouy"]
    texts += [f"{a}{b}" for a in "abcdefghijklmnop" for b in "qrstuvwxyz"]
    texts = texts[:size - len(pieces)]
    return pieces + [(text, -float(i), 1) for i, text in enumerate(texts)]


def sentencepiece_text(pieces):
    """What the SentencePiece library decodes, behind a prompt: each stray byte of a run of bytes is a U+FFFD."""
    codecs.register_error("each", lambda error: ("\ufffd" * (error.end - error.start), error.end))
    text = ""
    for kind, run in itertools.groupby(pieces, key=lambda piece: piece[2]):
        names = [name for name, _, _ in run]
        if kind == 6:
            text += bytes(int(name[3:5], 16) for name in names).decode(errors="each")
        elif kind != 3:
            text += "".join(" \u2047 " if kind == 2 else name.replace("\u2581", " ") for name in names)
    return text


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.temp.name)
        cls.moe, cls.dense = cls.dir / "moe", cls.dir / "dense"
        pregate("synth", "--shape", "tiny", "--experts", 3, "--shared", 0.25, "--own", 0.25, "--seed", 1, "--out", cls.moe)
        pregate("synth", "--shape", "tiny", "--seed", 1, "--out", cls.dense)
        cls.text = cls.dir / "text.txt"
        cls.text.write_text("".join(f"Sentence {i} says that {i * i} is a square. " for i in range(40)))

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def assert_fails(self, code, named, *args):
        self.assertIn(named, pregate(*args, code=code))

    @contextlib.contextmanager
    def served(self, model):
        """`pregate serve` for the time of a with block; its socket."""
        socket, ports = f"unix:{self.dir}/door", self.dir / "ports.json"
        ports.unlink(missing_ok=True)
        server = subprocess.Popen([BIN / "pregate", "serve", "--model", model, "--listen", socket, "--metrics-listen",
                                   "127.0.0.1:0", "--port-file", ports], stderr=subprocess.DEVNULL)
        try:
            deadline = time.time() + 60
            while not ports.exists() and time.time() < deadline:
                time.sleep(0.05)
            yield socket
        finally:
            server.terminate()
            self.assertEqual(server.wait(timeout=60), 0)

    def test_every_command_has_help_and_refuses_unknown_flags(self):
        self.assertIn("usage:", pregate("--help"))
        for command in COMMANDS:
            with self.subTest(command):
                self.assertIn("--help", pregate(*command.split(), "--help"))
                self.assert_fails(2, "--no-such-flag", *command.split(), "--no-such-flag", "1")
        self.assert_fails(2, "frobnicate", "frobnicate")
        for group, command in (("certs", "certs renew"), ("eval", "eval task")):
            self.assertIn(command, pregate(group, "--help"))
            self.assertNotIn("generate", pregate(group, "--help"))
            self.assert_fails(2, command, group)
            self.assert_fails(2, f"unknown command '{group} foo'", group, "foo")

    def test_a_wrong_value_is_wrong_usage(self):
        ask = ["generate", "--prompt", "x"]
        self.assert_fails(2, "--model or --server", *ask)
        self.assert_fails(2, "--timeout-s", *ask, "--model", self.moe, "--timeout-s", 1)
        self.assert_fails(2, "foo", "chat", "--server", "foo")
        self.assert_fails(2, "--tls-dir", *ask, "--server", "10.0.0.1:7600")
        self.assert_fails(2, "tls.crt", "chat", "--tls-dir", self.dir / "none")
        self.assert_fails(2, "nonsense", "top", "--metrics", "nonsense")

    def test_certs_are_made_shown_and_renewed(self):
        certs = self.dir / "certs"
        self.assertIn("certs/ca/ca.key", pregate("certs", "init", "--dir", certs, "--hosts", "a.example,10.1.2.3", "--days", 30))
        made = {c["name"]: c for c in pregate_json("certs", "show", "--dir", certs)["certificates"]}
        self.assertEqual(set(made), {"ca", "scheduler", "router", "worker", "client", "monitor", "operator"})
        self.assertEqual(made["router"]["uri"], "spiffe://pregate.internal/pregate/router")
        self.assertEqual(made["router"]["trusts_sha256"], [made["ca"]["fingerprint_sha256"]])
        self.assertEqual(stat.S_IMODE((certs / "router/tls.key").stat().st_mode), 0o600)
        self.assert_fails(1, "renew", "certs", "init", "--dir", certs)
        self.assert_fails(2, "a b", "certs", "renew", "--dir", certs, "--hosts", "a b")
        self.assert_fails(1, "none", "certs", "renew", "--dir", self.dir / "none")
        renewed = {c["name"]: c for c in pregate_json("certs", "renew", "--dir", certs)["certificates"]}
        for name in made:
            self.assertEqual(made[name]["fingerprint_sha256"] == renewed[name]["fingerprint_sha256"], name == "ca")

    def test_health_says_no_and_refuses_plaintext_elsewhere(self):
        self.assert_fails(1, "unix:", "health", "--server", f"unix:{self.dir}/nobody")
        self.assert_fails(2, "--tls-dir", "health", "--server", "10.0.0.1:7600")
        self.assert_fails(2, "tls.crt", "health", "--server", "10.0.0.1:7600", "--tls-dir", self.dir / "none")

    def test_synth_is_deterministic_by_seed(self):
        again, other = self.dir / "again", self.dir / "other"
        same = ["synth", "--shape", "tiny", "--experts", 3, "--shared", 0.25, "--own", 0.25]
        self.assertEqual(pregate_json(*same, "--seed", 1, "--out", again)["digest"],
                         pregate_json("inspect", self.moe)["digest"])
        self.assertNotEqual(pregate_json(*same, "--seed", 2, "--out", other)["digest"],
                            pregate_json("inspect", self.moe)["digest"])
        self.assert_fails(1, "again", *same, "--seed", 1, "--out", again)

    def test_inspect_shows_the_spec_and_verifies_the_bytes(self):
        seen = pregate_json("inspect", self.moe, "--verify")
        self.assertEqual(seen["spec"]["num_experts"], 3)
        self.assertEqual(seen["spec"]["own_width"], [40, 40, 40])
        self.assertTrue(seen["verified"])
        self.assertEqual(pregate_json("inspect", self.dense)["spec"]["num_experts"], 0)
        spoilt = self.dir / "spoilt"
        subprocess.run(["cp", "-r", self.moe, spoilt], check=True)
        with open(spoilt / "model.safetensors", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
        self.assertFalse(pregate_json("inspect", spoilt)["verified"])
        self.assert_fails(1, "model.safetensors", "inspect", spoilt, "--verify")
        with open(spoilt / "model.safetensors", "r+b") as file:
            file.truncate(5000)
        self.assert_fails(2, "model.safetensors", "inspect", spoilt)

    def test_tokenize_gives_the_ids_alone(self):
        ids = pregate_json("tokenize", "--model", self.moe, "--text-file", self.text)["ids"]
        self.assertGreater(len(ids), 100)
        self.assertTrue(all(0 <= i < 512 for i in ids))
        self.assert_fails(1, "nowhere.txt", "tokenize", "--model", self.moe, "--text-file", self.dir / "nowhere.txt")

    def test_logits_have_the_promised_tensors(self):
        lists = self.dir / "lists.json"
        lists.write_text("[[1, 2, 3], [5]]")
        out = self.dir / "logits.safetensors"
        pregate("logits", "--model", self.moe, "--tokens", lists, "--out", out)
        shapes = {name: (dtype, shape) for name, (dtype, shape, _) in safetensors(out).items()}
        self.assertEqual(shapes, {"0.logits": ("F32", [3, 512]), "0.router_logits": ("F32", [3, 3]),
                                  "0.expert_ids": ("I32", [3]), "1.logits": ("F32", [1, 512]),
                                  "1.router_logits": ("F32", [1, 3]), "1.expert_ids": ("I32", [1])})
        pregate("logits", "--model", self.dense, "--tokens", lists, "--out", out, "--dtype", "bf16")
        self.assertEqual(sorted(safetensors(out)), ["0.logits", "1.logits"])
        lists.write_text("[[1, 512]]")
        self.assert_fails(2, "512", "logits", "--model", self.moe, "--tokens", lists, "--out", out)
        lists.write_text("[[1, -3]]")
        self.assert_fails(2, "-3", "logits", "--model", self.moe, "--tokens", lists, "--out", out)

    def test_perplexity_counts_windows_and_takes_an_expert(self):
        tokens = len(pregate_json("tokenize", "--model", self.moe, "--text-file", self.text)["ids"])
        ppl = ["eval", "ppl", "--text", self.text, "--context", 64]
        seen = pregate_json(*ppl, "--model", self.moe)
        self.assertEqual(seen["tokens"], tokens // 64 * 63)
        self.assertAlmostEqual(seen["ppl"], math.exp(seen["nll"]), delta=1e-6 * seen["ppl"])
        self.assertEqual(sum(seen["expert_tokens"]), tokens // 64 * 64)
        fixed = pregate_json(*ppl, "--model", self.moe, "--expert", 1)
        self.assertNotEqual(fixed["nll"], seen["nll"])
        self.assertEqual(fixed["expert_tokens"], [0, tokens // 64 * 64, 0])
        self.assertEqual(sorted(pregate_json(*ppl, "--model", self.dense)), ["nll", "ppl", "tokens"])
        self.assert_fails(2, "--expert 3", *ppl, "--model", self.moe, "--expert", 3)

    def test_perplexity_is_that_of_the_logits(self):
        ids = pregate_json("tokenize", "--model", self.moe, "--text-file", self.text)["ids"][:64]
        lists, out = self.dir / "window.json", self.dir / "window.safetensors"
        lists.write_text(json.dumps([ids]))
        pregate("logits", "--model", self.moe, "--tokens", lists, "--out", out)
        values = memoryview(safetensors(out)["0.logits"][2]).cast("f")
        nll = 0
        for i, target in enumerate(ids[1:]):
            row = values[512 * i:512 * (i + 1)].tolist()
            most = max(row)
            nll += most + math.log(sum(math.exp(x - most) for x in row)) - row[target]
        seen = pregate_json("eval", "ppl", "--model", self.moe, "--text", self.text, "--context", 64, "--windows-max", 1)
        self.assertAlmostEqual(seen["nll"], nll / 63, places=4)

    def test_tasks_of_each_form(self):
        task = self.dir / "task.jsonl"
        forms = {
            "choices": {"query": "The sky is", "choices": ["blue", "a fish"], "gold": 0},
            "options": {"context_options": ["Ann saw Bob so Ann", "Ann saw Bob so Bob"], "continuation": "left.", "gold": 1},
            "last word": {"context": "Once upon a", "continuation": "time"},
        }
        for name, line in forms.items():
            with self.subTest(name):
                task.write_text(json.dumps(line) + "\n" + json.dumps(line) + "\n")
                seen = pregate_json("eval", "task", "--model", self.moe, "--task", task)
                self.assertEqual(seen["n"], 2)
                self.assertIn(seen["acc"], (0, 1))
                self.assertIn(seen["acc_norm"], (0, 1))
                if "gold" in line:  # of two choices exactly one is picked, whichever is called gold
                    task.write_text(json.dumps({**line, "gold": 1 - line["gold"]}) + "\n")
                    other = pregate_json("eval", "task", "--model", self.moe, "--task", task)
                    self.assertEqual((seen["acc"] + other["acc"], seen["acc_norm"] + other["acc_norm"]), (1, 1))
        task.write_text('{"query": "x", "choices": ["a", "b"], "gold": 4}\n')
        self.assert_fails(2, "gold", "eval", "task", "--model", self.moe, "--task", task)

    def test_import_keeps_every_logit(self):
        lists, a, b = self.dir / "i.json", self.dir / "a.safetensors", self.dir / "b.safetensors"
        lists.write_text("[[1, 2, 3, 4]]")
        plain, imported = self.dir / "plain", self.dir / "imported"  # a dense model without what is ours is an HF one
        subprocess.run(["cp", "-r", self.dense, plain], check=True)
        (plain / "manifest.json").unlink()
        config = json.loads((plain / "config.json").read_text())
        del config["pregate"]
        (plain / "config.json").write_text(json.dumps(config))
        self.assertEqual(pregate_json("inspect", plain)["layout"], "hf")
        pregate("import", "--from", "hf", "--in", plain, "--out", imported)
        pregate("logits", "--model", self.dense, "--tokens", lists, "--out", a)
        pregate("logits", "--model", imported, "--tokens", lists, "--out", b)
        self.assertEqual(safetensors(a), safetensors(b))
        self.assert_fails(2, '"hf"', "import", "--from", "gguf", "--in", plain, "--out", self.dir / "no")
        self.assert_fails(2, "pickle", "import", "--from", "pickle", "--in", self.dense, "--out", self.dir / "no")

    def test_generate_says_the_same_alone_and_through_a_server(self):
        ask = ["--prompt", "Once upon a time", "--max-tokens", 12, "--temperature", 0.8, "--seed", 5]
        alone = pregate_json("generate", "--model", self.moe, "--dtype", "f32", *ask)
        for key in ("text", "ids", "routes", "ttft_s", "tokens_per_s", "finish_reason"):
            self.assertIn(key, alone)
        self.assertEqual(len(alone["ids"]), 12)
        self.assertEqual(alone["finish_reason"], "length")
        with self.served(self.moe) as socket:
            served = pregate_json("generate", "--server", socket, *ask)
            self.assertEqual((served["ids"], served["text"]), (alone["ids"], alone["text"]))
        self.assert_fails(1, "tiny", "generate", "--model", "tiny", *ask)
        self.assert_fails(1, "unix:", "generate", "--server", f"unix:{self.dir}/nobody", *ask)

    def test_a_sentencepiece_model_serves_as_byte_level_bpe_does(self):
        model, imported = self.dir / "spm", self.dir / "spm-import"
        subprocess.run(["cp", "-r", self.moe, model], check=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (model / name).unlink()
        self.assert_fails(1, "tokenizer", "tokenize", "--model", model, "--text-file", self.text)
        pieces = llama_pieces(512)
        self.assertEqual(len(pieces), 512)
        (model / "tokenizer.model").write_bytes(sentencepiece_model(pieces))
        self.assertEqual(pregate_json("inspect", model)["tokenizer_kind"], "SentencePiece BPE")
        self.assertEqual(pregate_json("inspect", self.moe)["tokenizer_kind"], "byte-level BPE")

        text = self.dir / "spm.txt"
        text.write_text("the time\n<s>")
        ids = pregate_json("tokenize", "--model", model, "--text-file", text)["ids"]
        self.assertEqual([pieces[i][0] for i in ids],
                         ["\u2581the", "\u2581t", "i", "me", "<0x0A>", "<0x3C>", "s", "<0x3E>"])
        ask = ["--prompt", "the time\n<s>", "--max-tokens", 16, "--temperature", 0.8, "--seed", 3]
        alone = pregate_json("generate", "--model", model, "--dtype", "f32", *ask)
        self.assertEqual(len(alone["prompt_routes"]), len(ids) + 1)  # bos in front
        self.assertEqual(alone["text"], sentencepiece_text([pieces[i] for i in alone["ids"]]))
        with self.served(model) as socket:
            served = pregate_json("generate", "--server", socket, *ask)
        self.assertEqual((served["ids"], served["text"]), (alone["ids"], alone["text"]))

    def test_generate_says_the_same_with_few_expert_slots(self):
        flags = ["generate", "--model", self.moe, "--prompt", "Once upon a time", "--max-tokens", 12, "--threads", 1]
        whole = pregate_json(*flags)
        for slots in (1, 2, 3):
            few = pregate_json(*flags, "--expert-slots", slots)
            self.assertEqual((few["ids"], few["routes"]), (whole["ids"], whole["routes"]))
        self.assert_fails(2, "expert_slots is 4, must be 0..3", *flags, "--expert-slots", 4)

    def test_routes_are_recorded_and_replayed(self):
        file = self.dir / "routes"
        ids = pregate_json("tokenize", "--model", self.moe, "--text-file", self.text)["ids"]
        report = pregate_json("routes", "record", "--model", self.moe, "--text", self.text, "--out", file)
        self.assertEqual(report["tokens"], len(ids))
        kinds = [line.split()[0] for line in file.read_text().splitlines()]
        self.assertEqual(kinds, ["pregate-routes", "experts", "model", "text"])
        trace = self.dir / "trace.csv"
        rows = [f"2024-01-01 00:00:{i:02d}.0000000,{20 + 7 * i},{5 + i}" for i in range(20)]
        trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
        replay = ["simulate", "--trace", trace, "--routes", file, "--slots", 1]
        result = pregate_json(*replay)
        self.assertEqual(result["requests"], 20)
        self.assertEqual(result["config"]["experts"], report["experts"])
        picture = self.dir / "plot.svg"
        table = pregate(*replay, "--compare", "--plot", picture)
        for policy in ("fcfs", "prefill_first", "longest_queue", "by_expert", "horizon"):
            self.assertIn(f"| 1 | {policy} | plan |", table)
        self.assertTrue(picture.read_text().startswith("<svg xmlns="))
        self.assert_fails(2, "--plot goes with --compare", *replay, "--plot", picture)
        self.assert_fails(2, "--compare-slots: '99'", *replay, "--compare", "--compare-slots", "1,99")
        file.write_text("pregate-routes 1\nexperts 3\ntext 0 7\n")
        self.assert_fails(2, "line 3", *replay)

    def test_simulate_gives_the_same_bytes_for_the_same_seed(self):
        trace = self.dir / "trace.csv"
        rows = [f"2024-01-01 00:00:{i:02d}.0000000,{20 + 7 * i},{5 + i}" for i in range(40)]
        trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
        flags = ["simulate", "--trace", trace, "--locality", 0.7, "--policy", "by_expert", "--cache", "next_use",
                 "--slots", 2, "--json"]
        first = pregate(*flags, "--seed", 3)
        self.assertEqual(first, pregate(*flags, "--seed", 3))
        self.assertNotEqual(first, pregate(*flags, "--seed", 4))
        report = json.loads(first)
        for name in ("ttft_s", "itl_s", "normalized_latency_s"):
            self.assertLessEqual({"mean", "p50", "p95", "p99"}, report[name].keys())
        for name in ("unique_experts_per_step", "hit_ratio", "stall_s", "loads"):
            self.assertIn(name, report)
        self.assertGreater(report["loads"], 0)
        trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:01.0,12,many\n")
        self.assert_fails(2, "line 2", *flags)
        self.assert_fails(2, "many", *flags)

    def test_addresses_beyond_loopback_are_refused(self):
        for option in ("--listen", "--metrics-listen"):
            self.assert_fails(2, "0.0.0.0", "serve", "--model", self.moe, option, "0.0.0.0:7600")


if __name__ == "__main__":
    unittest.main(verbosity=2)
