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


class Collector(grpc.GenericRpcHandler):
    """Takes spans as OpenTelemetry's messages read them; refuses bytes that those do not know."""

    def __init__(self):
        self.spans, self.resources, self.lock = [], [], threading.RLock()
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
        return service.ExportTraceServiceResponse()

    def await_calls(self, count):
        """The spans, once so many calls are among them: {call: [its parts]}, by their ids."""
        def calls():
            with self.lock:
                return [s for s in self.spans if s.kind == trace_pb2.Span.SPAN_KIND_SERVER]
        live.wait_for(lambda: len(calls()) >= count, f"{count} calls at the collector")
        with self.lock:
            return [(call, [s for s in self.spans if s.parent_span_id == call.span_id]) for call in calls()]


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


class TracesTest(unittest.TestCase):
    def setUp(self):
        self.folder = live.Folder()
        self.addCleanup(self.folder.cleanup)
        self.collector = Collector()
        self.addCleanup(self.collector.server.stop, None)
        self.server = self.folder.serve("--otlp-endpoint", self.collector.address)
        self.addCleanup(self.server.stop)
        self.channel = grpc.insecure_channel(self.server.address)
        self.addCleanup(self.channel.close)
        sys.path.insert(0, str(self.stubs()))
        from pregate.v1 import inference_pb2, inference_pb2_grpc
        self.messages, self.stub = inference_pb2, inference_pb2_grpc.InferenceStub(self.channel)

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

    def log_line(self, request_id):
        return next(line for line in self.server.log.read_text().splitlines() if f'id="{request_id}"' in line)

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
        self.assertEqual(self.collector.resources[0]["service.name"], "pregate-scheduler")
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


if __name__ == "__main__":
    unittest.main()
