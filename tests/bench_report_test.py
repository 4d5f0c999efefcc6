"""What bench/gpu's scripts make of a run's files. usage: bench_report_test.py SOURCE_DIR"""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
sys.path.insert(0, str(ROOT / "bench/gpu"))

import kernel_times  # noqa: E402
import report  # noqa: E402
import transformers_peer  # noqa: E402

REPLICA = ["EmbedKernel<float>", "RmsNormKernel<1, float>", "FewRowsKernel", "AddBiasKernel", "RotateAndStoreKernel<float>"]
QKV_OF_MANY = ["nvjet_qkv", "RotateAndStoreKernel<__nv_bfloat16>"]


def layer(qkv):
    return [*[(name, "attention") for name in [*qkv, "WarpgroupAttentionKernel<128, 1, __nv_bfloat16>", "nvjet_o"]],
            ("RmsNormKernel<4, __nv_bfloat16>", "norms"),
            ("RingMatmulKernel<RingTile<1, 32, 6, 128, 3>, (Result)1>", "experts"),
            ("RingMatmulKernel<RingTile<1, 32, 6, 128, 3>, (Result)0>", "experts")]


def step(layers):
    """[(kernel, part)] of a decode step in the order of the stream."""
    return [("ResolveLateKernel", "rest"), ("MarkSeenKernel", "rest"), *[(name, "router") for name in REPLICA],
            ("BuildGroupsKernel", "rest"), ("EmbedKernel<__nv_bfloat16>", "rest"), *layers,
            ("GatherRowsKernel", "rest"), ("RmsNormKernel<4, __nv_bfloat16>", "rest"), ("nvjet_logits", "rest"),
            ("SampleTokensKernel", "rest"), *[(name, "router") for name in [*REPLICA, "SpreadAttentionKernel<float, float>",
                                                                           "AddFfnKernel<float>", "ScatterToSlotsKernel"]]]


LAUNCHES = step([("RmsNormKernel<4, __nv_bfloat16>", "norms"), *layer(["RingMatmulKernel<RingTile<1, 32, 9, 128, 2>, (Result)2>"]),
                 ("RmsNormKernel<4, __nv_bfloat16>", "norms"), *layer(QKV_OF_MANY), ("AddFfnKernel<__nv_bfloat16>", "norms")])
ONE_KERNEL = step([("StepKernel<128, 6>", "layers")])


def write_trace(path, steps, us_each):
    """Kernels of `us_each` microseconds one after the other, and marks around each step."""
    lines, now = [], 0
    for kernels in steps:
        lines.append(f"{now};{now};0x0x0;cudaProfilerStart_v4000")
        for name, _ in kernels:
            lines.append(f"{now};{now + us_each * 1000};1x1x1;{name}")
            now += us_each * 1000
        lines.append(f"{now};{now};0x0x0;cudaProfilerStop_v4000")
    path.write_text("\n".join(lines) + "\n")


def bench(step_ms, **more):
    decode = [{"batch": b, "step_ms_median": ms, "floor_ms": ms / 2, "times_floor": 2.0, "enqueue_ms_median": 0.1,
               "launches_per_step": 36.0} for b, ms in step_ms.items()]
    return {"copy_tb_per_s": 4.27, "decode": decode,
            "prefill": {"tokens": 4096, "ms_median": 80.0, "floor_ms": 50.0, "times_floor": 1.6}, **more}


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def put(self, **files):
        for name, value in files.items():
            (self.folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(value))


class KernelTimesTest(Folder):
    def test_every_kernel_is_of_the_part_that_its_place_says(self):
        for kernels in (LAUNCHES, ONE_KERNEL):
            self.assertEqual(list(kernel_times.parts_in_turn(name for name, _ in kernels)), [part for _, part in kernels])

    def test_parts_add_up_to_the_step(self):
        path = self.folder / "trace.csv"
        write_trace(path, [LAUNCHES, LAUNCHES, ONE_KERNEL], 500)
        tables = kernel_times.parts(path, ["decode of 10", "decode of 10, 2", "decode of 5"])
        self.assertEqual([(name, table["steps"]) for name, table in tables.items()], [("decode of 10", 2), ("decode of 5", 1)])
        for kernels, table in zip((LAUNCHES, ONE_KERNEL), tables.values()):
            for part in kernel_times.PARTS:
                self.assertAlmostEqual(table[part], 0.5 * [of for _, of in kernels].count(part))
            self.assertAlmostEqual(table["step"], 0.5 * len(kernels))

    def test_a_kernel_that_began_early_counts_from_the_end_of_the_one_before(self):
        records = [(0, 1_000_000, "", "a"), (400_000, 1_500_000, "", "b")]
        self.assertAlmostEqual(kernel_times.by_part(records, {"a": "EmbedKernel<float>", "b": "BuildGroupsKernel"})["rest"], 0.5)


class ReportTest(Folder):
    def run_report(self):
        (self.folder / "stages.txt").write_text("step-bench 0 15\npeers 124 120\n")
        (self.folder / "card.txt").write_text("NVIDIA H200, 143771 MiB, 580\n")
        argv, sys.argv = sys.argv, ["report.py", str(self.folder)]
        try:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                report.main()
        finally:
            sys.argv = argv
        return json.loads((self.folder / "gpu-nvidia-h200.json").read_text()), printed.getvalue()

    def test_a_run_of_nothing_makes_a_report(self):
        merged, _ = self.run_report()
        self.assertEqual(merged["peers"], [])
        self.assertIsNone(merged["paper_parts"])

    def test_late_forced_and_mixed_steps_are_told(self):
        late = bench({8: 4.0})
        late["decode"][0].update(experts_mean=5.0, read_floor_ms=1.6, times_read_floor=2.5)
        self.put(step_bench_late=late,
                 step_bench_forced={"experts_in_batch": [{"batch": 128, "unique_experts": 7, "step_ms_median": 19.0, "times_floor": 1.4}],
                                    "experts_in_prefill": [{"tokens": 4096, "unique_experts": 1, "ms_median": 70.0,
                                                            "times_floor": 1.5}]},
                 step_mixed_512_8={"mixed": {"chunk": 512, "rows": 8, "chunk_ms_median": 10.0, "rows_ms_median": 4.0, "sum_ms": 14.0,
                                             "together_ms_median": 11.2, "together_over_sum": 0.8}})
        (self.folder / "step-mixed-512-32.json").write_text("")  # it was cut off
        merged, printed = self.run_report()
        self.assertEqual([row["rows"] for row in merged["step_mixed"]], [8])
        for line in ("late rows   8: 4.00 ms, 5.0 experts, x2.00 of the copy's floor, x2.50 of the read's",
                     "forced, batch 128, 7 experts: 19.00 ms, x1.40", "forced, prefill 4096, 1 experts: 70.0 ms, x1.50",
                     "chunk of 512 10.00 ms, 8 rows 4.00, sum 14.00, together 11.20 (x0.80)"):
            self.assertIn(line, printed)

    def test_engines_stand_in_one_table(self):
        self.put(step_bench=bench({1: 3.0, 8: 4.0}), step_bench_dense=bench({1: 4.0, 8: 8.0}))
        peer = {"peer": "plain", "how": "compiled"}
        lines = [json.dumps(row) for row in ({"torch": "2.11.0", "transformers": None}, {**peer, "batch": 1, "step_ms_median": 3.25},
                                             {**peer, "batch": 8, "error": "OutOfMemoryError"}, {**peer, "prefill": 4096, "ms_median": 70})]
        (self.folder / "peers.json").write_text("\n".join(lines) + '\n{"peer": "pl')
        merged, printed = self.run_report()
        self.assertEqual(len(merged["peers"]), 4, "what the limit cut off is left out")
        rows = {line[:62].strip(): line[62:].split() for line in printed.splitlines()}
        self.assertEqual(rows["pregate, MoE"], ["3.00", "4.00", "-", "-", "80.00"])
        self.assertEqual(rows["pregate, dense parent"], ["4.00", "8.00", "-", "-", "80.00"])
        self.assertEqual(rows["plain: compiled"], ["3.25", "-", "-", "-", "70.00"])
        self.assertEqual(rows["vLLM 0.24, dense, by others"], ["3.57", "4.10", "6.22", "14.30", "-"])
        self.assertIn("8: OutOfMemoryError", printed)
        self.assertIn("batch 1 -25%, batch 8 -50%, prefill +0%", printed)

    def test_the_papers_figures(self):
        forced = [{"batch": 8, "unique_experts": n, "step_ms_median": 3.0 + n, "floor_ms": 2.0 + n} for n in (1, 2)]
        self.put(paper_experts=bench({8: 4.0}, experts_in_batch=forced),
                 paper_parts={"decode of 10": {"launches": 260, "unique_experts": 2}, "decode of 10, 2": {"launches": 260, "unique_experts": 3}})
        write_trace(self.folder / "paper-parts.csv", [LAUNCHES, LAUNCHES], 500)
        merged, printed = self.run_report()
        self.assertEqual(merged["paper_parts"]["decode of 10"]["experts_mean"], 2.5)
        self.assertIn("batch 8: 1: 4.00 (3.00), 2: 5.00 (4.00)", printed)
        self.assertIn("decode of 10, launches, 2.5 experts", printed)


class PeerTest(unittest.TestCase):
    def test_its_shape_is_what_a_token_meets(self):
        shape = transformers_peer.shape_of("llama2-7b", 0.25, 0.25)
        self.assertEqual(shape["intermediate"], 5504)
        # As bench/results/more-rows-nvidia-h200.json has it for a batch of 1 at the same context.
        self.assertEqual(transformers_peer.step_bytes(shape, 1, 590), 9_194_962_944)


if __name__ == "__main__":
    unittest.main()
