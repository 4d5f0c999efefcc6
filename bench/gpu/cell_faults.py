"""How a cell of two workers forms, and what its streams feel when one dies, freezes or comes back.

Starts router, scheduler and two workers on unix sockets (the scheduler first, as in a deployment) and streams greedy
answers over gRPC. Every answer is compared with that of the first, undisturbed cell. Seed 1.

usage: cell_faults.py BIN_DIR MODEL [--device cpu|cuda] [--dtype bf16] [--streams 8] [--tokens 96] [--logs DIR]
                      [--late-s 3] [--settle-s 2] [--desc inference.desc] [--worker-flag=FLAG ...] [--scenarios together,late,kill,freeze]
prints one JSON object; exit code 1 when an answer failed or differs. Needs grpcio and protobuf; inference.desc is
`protoc -I proto --include_imports --descriptor_set_out=inference.desc proto/pregate/v1/inference.proto`.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

START_LIMIT_S = 300


class Client:
    def __init__(self, desc, server):
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(desc).read_bytes()).file:
            pool.AddSerializedFile(file.SerializeToString())
        self.request_type, response_type = (
            message_factory.GetMessageClass(pool.FindMessageTypeByName(f"pregate.v1.Generate{name}"))
            for name in ("Request", "Response"))
        self.channel = grpc.insecure_channel(server, options=[("grpc.use_local_subchannel_pool", 1)])
        self.call = self.channel.unary_stream("/pregate.v1.Inference/Generate",
                                              request_serializer=self.request_type.SerializeToString,
                                              response_deserializer=response_type.FromString)

    def stream(self, prompt, max_tokens, timeout_s=200):
        """{"ids", "at": when each message came, "error"}"""
        request = self.request_type(max_tokens=max_tokens, ignore_eos=True)
        request.tokens.ids.extend(prompt)
        request.sampling.seed = 1
        answer = {"ids": [], "at": [time.monotonic()], "error": None}
        try:
            for response in self.call(request, timeout=timeout_s):
                if response.WhichOneof("event") == "tokens":
                    answer["at"].append(time.monotonic())
                    answer["ids"] += response.tokens.ids
        except grpc.RpcError as error:
            answer["error"] = f"{error.code().name}: {error.details()}"
        return answer


class Cell:
    def __init__(self, args, name):
        self.args, self.name = args, name
        self.scratch = tempfile.TemporaryDirectory(prefix="cell")
        self.processes = {}
        for old in args.logs.glob(f"{name}.*.log"):
            old.unlink()
        self.start("router")
        workers = ",".join(self.address(f"worker{rank}") for rank in range(2))
        self.start("scheduler", "--router", self.address("router"), "--workers", workers)
        self.client = Client(args.desc, self.address("scheduler"))

    def address(self, name):
        return f"unix:{self.scratch.name}/{name}"

    def log(self, name):
        return self.args.logs / f"{self.name}.{name}.log"

    def start(self, name, *flags):
        command = [f"{self.args.bin}/pregate-{name.rstrip('01')}", "--model", self.args.model, "--listen",
                   self.address(name), "--metrics-listen", "127.0.0.1:0", "--log-format", "json", *flags]
        env = {**os.environ, "NCCL_NVLS_ENABLE": "0"}
        if name.startswith("worker") and self.args.device == "cuda":
            env["CUDA_VISIBLE_DEVICES"] = name[-1]
        with open(self.log(name), "ab") as log:
            self.processes[name] = subprocess.Popen(command, stderr=log, stdout=log, env=env)

    def start_worker(self, rank):
        self.start(f"worker{rank}", "--rank", str(rank), "--world-size", "2", "--device", self.args.device, "--dtype",
                   self.args.dtype, *self.args.worker_flag)

    def events(self, name):
        """Of its log: JSON objects; `time` is a UTC timestamp."""
        for line in self.log(name).read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                pass

    def served(self, rank):
        return sum(event.get("message", event.get("msg")) == "serving" for event in self.events(f"worker{rank}"))

    def await_serving(self, rank, times=1):
        end = time.monotonic() + START_LIMIT_S
        while self.served(rank) < times:
            if self.processes[f"worker{rank}"].poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"worker{rank} does not serve:\n{self.log(f'worker{rank}').read_text()[-2000:]}")
            time.sleep(0.01)
        return time.monotonic()

    def formed(self, members):
        """Epochs that worker 0 entered with so many members."""
        return sum(event.get("message", event.get("msg")) == "formed" and event.get("members") == members and
                   event.get("status", "ok") in ("ok", "OK") for event in self.events("worker0"))

    def await_formed(self, members, count=1, limit_s=120):
        begun = time.monotonic()
        while self.formed(members) < count:
            if time.monotonic() > begun + limit_s:
                return None
            time.sleep(0.01)
        return time.monotonic()

    def void_epochs(self):
        return self.log("scheduler").read_text(errors="replace").count("is void")

    def first_answer(self, prompt):
        """When a whole answer of 4 tokens has come; asks until then."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            answer = self.client.stream(prompt, 4, timeout_s=60)
            if not answer["error"]:
                return time.monotonic()
            time.sleep(0.02)
        return None

    def load(self, prompts, over):
        """Streams that ask their prompt again and again until `over` is set: (threads, answers of each prompt)."""
        answers = [[] for _ in prompts]

        def run(i):
            while not answers[i] or not over.is_set():
                answers[i].append(self.client.stream(prompts[i], self.args.tokens))
                if answers[i][-1]["error"]:
                    break
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        return threads, answers

    def stop(self):
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self.scratch.cleanup()


def seconds(begin, end):
    return None if end is None else round(end - begin, 3)


def longest_gap(answers, since=0):
    """Between a request and its first message or two messages of one stream, among gaps that end after `since`."""
    return round(max((b - a for of_prompt in answers for answer in of_prompt
                      for a, b in zip(answer["at"], answer["at"][1:]) if b > since), default=0), 3)


class Runs:
    def __init__(self, args):
        self.args, self.report, self.want, self.cells = args, {}, None, []
        draw = random.Random(1)
        self.prompts = [[draw.randrange(3, args.vocab) for _ in range(24)] for _ in range(args.streams)]

    def cell(self, name, late_s=None):
        """Two workers that serve; what forming took."""
        cell = Cell(self.args, name)
        self.cells.append(cell)
        entry = self.report[name] = {}
        try:
            begun = time.monotonic()
            cell.start_worker(0)
            if late_s is not None:
                serving0 = cell.await_serving(0)
                entry["first_answer_after_first_worker_s"] = seconds(serving0, cell.first_answer(self.prompts[0]))
                time.sleep(late_s)
            cell.start_worker(1)
            last = max(cell.await_serving(0), cell.await_serving(1))
            entry["last_worker_serves_after_s"] = seconds(begun, last)
            entry["first_answer_after_last_worker_s"] = seconds(last, cell.first_answer(self.prompts[0]))
            entry["two_members_after_last_worker_s"] = seconds(last, cell.await_formed(2))
            entry["void_epochs"] = cell.void_epochs()
        except BaseException:
            cell.stop()
            raise
        return cell, entry

    def judge(self, entry, answers):
        self.want = self.want or [of_prompt[0]["ids"] for of_prompt in answers]
        whole = [(answer, want) for of_prompt, want in zip(answers, self.want) for answer in of_prompt]
        entry["answers"] = len(whole)
        entry["failed"] = [answer["error"] for answer, _ in whole if answer["error"]]
        entry["different"] = sum(answer["ids"] != want for answer, want in whole)

    def streaming(self, cell, entry, act):
        """Streams run while `act` does what it does, then until `settle_s` later; the longest gap from its begin on."""
        over = threading.Event()
        threads, answers = cell.load(self.prompts, over)
        time.sleep(self.args.settle_s)
        at = time.monotonic()
        act()
        time.sleep(self.args.settle_s)
        over.set()
        for thread in threads:
            thread.join()
        entry["longest_gap_s"] = longest_gap(answers, at)
        self.judge(entry, answers)

    def disturbed(self, cell, name, act):
        entry = self.report[name] = {}
        self.streaming(cell, entry, act)
        return entry

    def together(self):
        cell, entry = self.cell("together")
        self.streaming(cell, entry, lambda: None)
        return cell

    def late(self):
        cell, entry = self.cell("late", self.args.late_s)
        self.streaming(cell, entry, lambda: None)
        cell.stop()

    def kill(self, cell):
        self.disturbed(cell, "kill -9 of worker 1", cell.processes["worker1"].kill)
        cell.processes["worker1"].wait()
        formed, served = cell.formed(2), cell.served(1)

        def restart():
            cell.start_worker(1)
            self.back = cell.await_serving(1, served + 1)
        entry = self.disturbed(cell, "worker 1 comes back", restart)
        entry["two_members_after_serving_s"] = seconds(self.back, cell.await_formed(2, formed + 1))

    def freeze(self, cell):
        worker = cell.processes["worker1"]
        formed = cell.formed(2)

        def stop_and_go():
            worker.send_signal(signal.SIGSTOP)
            time.sleep(self.args.freeze_s)
            worker.send_signal(signal.SIGCONT)
            self.woken = time.monotonic()
        entry = self.disturbed(cell, f"worker 1 freezes for {self.args.freeze_s:g} s", stop_and_go)
        entry["two_members_after_waking_s"] = seconds(self.woken, cell.await_formed(2, formed + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--vocab", type=int, default=250, help="prompts are drawn from ids 3 to this")
    parser.add_argument("--late-s", type=float, default=3)
    parser.add_argument("--settle-s", type=float, default=2, help="streams run so long before and after each fault")
    parser.add_argument("--freeze-s", type=float, default=5)
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("cell-logs"))
    parser.add_argument("--desc", default="inference.desc")
    parser.add_argument("--worker-flag", action="append", default=[])
    parser.add_argument("--scenarios", default="together,late,kill,freeze")
    args = parser.parse_args()
    args.logs.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # of `timeout`: the cell is ended and the report printed
    runs, wanted = Runs(args), args.scenarios.split(",")
    try:
        cell = runs.together()
        for scenario in ("kill", "freeze"):
            if scenario in wanted:
                getattr(runs, scenario)(cell)
        cell.stop()
        if "late" in wanted:
            runs.late()
    finally:
        for cell in runs.cells:
            cell.stop()
        print(json.dumps(runs.report, indent=1), flush=True)
    entries = [entry for entry in runs.report.values() if "failed" in entry]
    sys.exit(any(entry["failed"] or entry["different"] for entry in entries))


if __name__ == "__main__":
    main()
