"""Spans of live requests, at a collector made of OpenTelemetry's own generated code.

usage: traces_test.py BIN_DIR    (runs itself with the Python of scripts/tools.sh)
"""
import os
import pathlib
import re
import sys
import threading
import unittest
from concurrent import futures

TOOLS = pathlib.Path(__file__).resolve().parents[2] / ".cache/tools"
if pathlib.Path(sys.prefix) != TOOLS / "venv":
    os.execv(TOOLS / "venv/bin/python", [TOOLS / "venv/bin/python", *sys.argv])

import grpc  # noqa: E402
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service  # noqa: E402
from opentelemetry.proto.trace.v1 import trace_pb2  # noqa: E402

import live  # noqa: E402

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARTS = ["route", "queue", "prefill", "decode"]
WORK = {"routed", "computed"}  # of router and worker, beside the call's own parts


class Collector(grpc.GenericRpcHandler):
    """Takes spans as OpenTelemetry's messages read them; refuses bytes that those do not know."""

    def __init__(self):
        self.spans, self.resources, self.services, self.lock = [], [], {}, threading.RLock()
        self.answering = threading.Event()
        self.answering.set()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, call):
        if call.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.export, service.ExportTraceServiceRequest.FromString, service.ExportTraceServiceResponse.SerializeToString)

    def export(self, request, _):
        self.answering.wait()
        known = service.ExportTraceServiceRequest.FromString(request.SerializeToString())
        known.DiscardUnknownFields()
        assert known.SerializeToString() == request.SerializeToString(), "fields that OpenTelemetry does not know"
        with self.lock:
            for resource in request.resource_spans:
                self.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
                for scope in resource.scope_spans:
                    self.spans += scope.spans
                    self.services.update((s.span_id, self.resources[-1]["service.name"]) for s in scope.spans)
        return service.ExportTraceServiceResponse()

    def await_calls(self, count):
        """The spans, once so many calls are among them: {call: [its parts]}, by their ids."""
        def calls():
            with self.lock:
                return [s for s in self.spans if s.kind == trace_pb2.Span.SPAN_KIND_SERVER]
        live.wait_for(lambda: len(calls()) >= count, f"{count} calls at the collector")
        with self.lock:
            return [(call, [s for s in self.spans if s.parent_span_id == call.span_id and s.name not in WORK])
                    for call in calls()]

    def await_work(self, call):
        """What router and worker did for it: {name of the span: (the service, the span)}."""
        def work():
            with self.lock:
                return {s.name: (self.services[s.span_id], s) for s in self.spans
                        if s.parent_span_id == call.span_id and s.name in WORK}
        live.wait_for(lambda: set(work()) == WORK, "spans of router and worker")
        return work()


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


class Traces(unittest.TestCase):
    """A server whose spans the collector takes, and what the tests have in common."""

    def setUp(self):
        self.folder = live.Folder()
        self.addCleanup(self.folder.cleanup)
        self.collector = Collector()
        self.addCleanup(self.collector.server.stop, None)
        self.otlp = ["--otlp-endpoint", self.collector.address]
        self.serve()
        sys.path.insert(0, str(self.stubs()))
        from pregate.v1 import inference_pb2, inference_pb2_grpc
        self.messages, self.stub = inference_pb2, inference_pb2_grpc.InferenceStub(self.channel)

    def serve(self):
        self.server = self.folder.serve(*self.otlp)
        self.addCleanup(self.server.stop)
        self.connect()

    def connect(self):
        self.channel = grpc.insecure_channel(self.server.address)
        self.addCleanup(self.channel.close)

    def stubs(self):
        from grpc_tools import protoc
        out = self.folder.path / "stubs"
        out.mkdir()
        assert protoc.main(["", f"-I{live.ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
                            "pregate/v1/inference.proto"]) == 0
        return out

    def generate(self, request_id, traceparent=None, max_tokens=20, **fields):
        request = self.messages.GenerateRequest(text="Once upon a time", max_tokens=max_tokens, ignore_eos=True,
                                                request_id=request_id, **fields)
        metadata = [("traceparent", traceparent)] if traceparent else []
        return list(self.stub.Generate(request, metadata=metadata))

    def check_work(self, call, generated_tokens):
        work = self.collector.await_work(call)
        for _, span in work.values():
            self.assertEqual(span.trace_id, call.trace_id)
            self.assertLessEqual(span.start_time_unix_nano, span.end_time_unix_nano)
            self.assertLess(span.start_time_unix_nano, call.end_time_unix_nano)  # each by its own process's clock
        prompt = attributes(call)["gen_ai.usage.input_tokens"]
        self.assertEqual(attributes(work["routed"][1])["pregate.tokens"], prompt)
        # The last token's successor is drawn, but it is not run itself; guesses that were wrong count.
        self.assertGreaterEqual(attributes(work["computed"][1])["pregate.tokens"], prompt + generated_tokens - 1)
        return {name: service for name, (service, _) in work.items()}

    def log_line(self, request_id):
        return next(line for line in self.server.log.read_text().splitlines() if f'id="{request_id}"' in line)


class TracesTest(Traces):
    def test_a_request_is_one_span_with_its_parts(self):
        self.generate("mine", f"00-{TRACE}-{PARENT}-01", tenant="a tenant")
        ((call, parts),) = self.collector.await_calls(1)
        self.assertEqual((call.name, call.trace_id.hex(), call.parent_span_id.hex()),
                         ("pregate.v1.Inference/Generate", TRACE, PARENT))
        self.assertEqual([part.name for part in parts], PARTS)
        ids = [span.span_id for span in (call, *parts)]
        self.assertEqual(len(set(ids)), 5)
        for part in parts:
            self.assertEqual(part.trace_id.hex(), TRACE)
            self.assertLessEqual(call.start_time_unix_nano, part.start_time_unix_nano)
            self.assertLessEqual(part.start_time_unix_nano, part.end_time_unix_nano)
            self.assertLessEqual(part.end_time_unix_nano, call.end_time_unix_nano)
        by_name = {part.name: part for part in parts}
        self.assertEqual(by_name["prefill"].end_time_unix_nano, by_name["decode"].start_time_unix_nano)
        self.assertEqual(by_name["queue"].end_time_unix_nano, by_name["prefill"].start_time_unix_nano)
        told = attributes(call)
        self.assertEqual((told["pregate.request_id"], told["pregate.tenant"], told["gen_ai.usage.output_tokens"],
                          told["gen_ai.response.finish_reason"]), ("mine", "a tenant", 20, "length"))
        self.assertEqual(set(self.check_work(call, 20).values()), {"pregate-scheduler"})  # all one process
        line = self.log_line("mine")
        self.assertIn(f'trace_id="{TRACE}"', line)
        self.assertRegex(line, r"itl_ms=[\d.]+ ")
        self.assertIn("generated_tokens=20", line)

    def test_a_request_without_a_trace_begins_one_and_one_not_sampled_has_no_span(self):
        self.generate("quiet", f"00-{TRACE}-{PARENT}-00")
        self.generate("own")
        ((call, _),) = self.collector.await_calls(1)
        self.assertEqual(call.parent_span_id, b"")
        self.assertEqual(attributes(call)["pregate.request_id"], "own")
        self.assertIn(f'trace_id="{call.trace_id.hex()}"', self.log_line("own"))
        self.assertIn(f'trace_id="{TRACE}"', self.log_line("quiet"))

    def test_a_refused_request_is_a_failed_span(self):
        with self.assertRaises(grpc.RpcError):
            self.generate("bad", f"00-{TRACE}-{PARENT}-01", max_tokens=-3)
        ((call, parts),) = self.collector.await_calls(1)
        self.assertEqual((call.status.code, parts), (trace_pb2.Status.STATUS_CODE_ERROR, []))
        self.assertEqual(attributes(call)["rpc.grpc.status_code"], grpc.StatusCode.INVALID_ARGUMENT.value[0])

    def test_a_collector_that_is_stuck_holds_up_no_request(self):
        self.collector.answering.clear()
        self.addCleanup(self.collector.answering.set)
        for number in range(50):
            self.assertEqual(len(self.generate(f"r{number}", max_tokens=1)), 3)
        live.wait_for(lambda: self.server.metric("pregate_trace_spans_total", outcome="failed") > 0, "an export fails")
        self.collector.answering.set()
        self.generate("after")
        live.wait_for(lambda: self.server.metric("pregate_trace_spans_total", outcome="sent") > 0, "spans are taken again")


class ClusterTracesTest(Traces):
    """A process for each service: router and worker have the trace from the scheduler alone."""

    def serve(self):
        self.server, self.router, self.worker = self.folder.cluster(all_flags=self.otlp)
        for program in (self.server, self.router, self.worker):
            self.addCleanup(program.stop)
        self.connect()

    def test_router_and_worker_work_under_the_call(self):
        self.generate("mine", f"00-{TRACE}-{PARENT}-01")
        ((call, _),) = self.collector.await_calls(1)
        self.assertEqual(self.check_work(call, 20), {"routed": "pregate-router", "computed": "pregate-worker"})
        for program, line in ((self.router, "routed"), (self.worker, "computed")):
            self.assertIn(f'{line} trace_id="{TRACE}"', program.log.read_text())

    def test_what_is_not_sampled_has_lines_and_no_spans(self):
        self.generate("quiet", f"00-{TRACE}-{PARENT}-00")
        self.generate("own")
        ((call, _),) = self.collector.await_calls(1)
        self.check_work(call, 20)
        self.assertEqual({span.trace_id for span in self.collector.spans}, {call.trace_id})
        self.assertIn(f'routed trace_id="{TRACE}"', self.router.log.read_text())


class UncollectedTracesTest(Traces):
    """Nobody collects spans: the caller's trace is in the log of each, and a call without one in none."""

    def serve(self):
        self.otlp = []
        ClusterTracesTest.serve(self)

    def test_a_trace_is_in_the_logs_of_router_and_worker(self):
        self.generate("silent")
        self.generate("mine", f"00-{TRACE}-{PARENT}-01")
        for program, line in ((self.router, "routed"), (self.worker, "computed")):
            live.wait_for(lambda: f'{line} trace_id="{TRACE}"' in program.log.read_text(), f"a line {line}")
            self.assertEqual(program.log.read_text().count("trace_id="), 1)


if __name__ == "__main__":
    unittest.main()
