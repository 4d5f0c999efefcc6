// A worker that computes nothing: it speaks the workers' protocol for a dense model and answers each plan at once, with
// one token for each row that samples. Behind a real scheduler it shows what everything in front of a worker costs.
// usage: fake_worker --model DIR --listen 127.0.0.1:0 --port-file FILE [--seq-slots 1024]
#include <grpcpp/grpcpp.h>

#include <csignal>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench_main.h"
#include "common/base/files.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/model/formats/checkpoint.h"
#include "common/step/control.h"
#include "pregate/v1/worker.grpc.pb.h"

namespace pregate {
namespace {

struct Options {
  std::string model, listen = "127.0.0.1:0", port_file;
  int32_t seq_slots = 1024, context = 2048;
};

// One scheduler at a time; none is told of another's.
class FakeWorker final : public v1::ExpertWorker::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::AttachResponse, v1::AttachRequest>;

  FakeWorker(const Options& options, const std::string& digest, const ModelSpec& spec) {
    v1::Hello& hello = *hello_.mutable_hello();
    hello.set_incarnation(std::random_device()());
    hello.set_protocol(kWorkerProtocol);
    v1::WorkerFacts& facts = *hello.mutable_facts();
    facts.set_model_digest(digest);
    facts.set_numerics_id("none");
    facts.set_vocab_size(spec.vocab_size);
    facts.set_kv_blocks(options.seq_slots * (options.context / 16));
    facts.set_seq_slots(options.seq_slots);
    facts.set_step_tokens(8192);
    facts.set_context_tokens(options.context);
    facts.set_device("none");
    vocab_ = spec.vocab_size;
  }

  grpc::Status Attach(grpc::ServerContext*, Stream* stream) override {
    stream->Write(hello_);
    std::vector<uint64_t> slots;  // sequences
    v1::AttachRequest request;
    while (stream->Read(&request)) {
      v1::AttachResponse response;
      if (request.has_form()) {
        slots.clear();
        response.mutable_formed()->set_epoch(request.form().epoch());
        response.mutable_formed()->set_kv_since(request.form().epoch());
      } else if (request.has_plan()) {
        Answer(request.plan(), &slots, response.mutable_result());
      } else {
        continue;
      }
      if (!stream->Write(response)) break;
    }
    return grpc::Status::OK;
  }

 private:
  void Answer(const v1::StepPlan& plan, std::vector<uint64_t>* slots, v1::StepResult* result) {
    for (const v1::SequenceAdd& add : plan.add()) {
      if (slots->size() <= static_cast<size_t>(add.seq_slot())) slots->resize(add.seq_slot() + 1);
      (*slots)[add.seq_slot()] = add.seq_id();
    }
    result->set_epoch(plan.epoch());
    result->set_step_id(plan.step_id());
    result->set_incarnation(hello_.hello().incarnation());
    for (const v1::Row& row : plan.rows()) {
      if (row.emit() != v1::EMIT_SAMPLE) continue;
      v1::Sample* const sample = result->add_samples();
      sample->set_seq_id(slots->at(row.seq_slot()));
      sample->set_position(row.position() + row.count());
      // No text repeats, so nobody drafts.
      sample->set_token(
          3 + static_cast<int32_t>((sample->position() * 2654435761u >> 7) % (vocab_ - 3)));
      sample->set_route(-1);
    }
  }

  v1::AttachResponse hello_;
  int32_t vocab_ = 0;
};

absl::Status Run(const Options& o) {
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(o.model));
  FakeWorker service(o, checkpoint->digest(), checkpoint->spec());
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(o.listen, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(kServiceMessageBytesMax);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr || port == 0)
    return absl::UnavailableError(absl::StrCat(o.listen, " cannot be had"));
  RETURN_IF_ERROR(
      WriteOutput(o.port_file, absl::StrCat("{\"listen\": \"127.0.0.1:", port, "\"}\n")));
  server->Wait();
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("fake_worker", "Answers a scheduler's plans at once.");
  set.String("model", &o.model, "checkpoint directory of a dense model, for its facts").Required();
  set.String("listen", &o.listen, "address");
  set.String("port-file", &o.port_file, "where the address is written").Required();
  set.Int("seq-slots", &o.seq_slots, 1, 1 << 16, "sequences", "that may be open");
  set.Int("context-tokens", &o.context, 16, 1 << 20, "tokens", "longest sequence");
  return pregate::BenchMain("fake_worker", set, argc, argv, [&] { return pregate::Run(o); });
}
