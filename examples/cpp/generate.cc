// Streams an answer; Ctrl-C cancels it. PREGATE_TLS_DIR: folder of tls.crt, tls.key, ca.crt.
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "pregate/v1/inference.grpc.pb.h"
using namespace std::chrono_literals;
std::atomic<bool> stop = false;

std::shared_ptr<grpc::ChannelCredentials> Security(const char* dir = getenv("PREGATE_TLS_DIR")) {
  if (!dir) return grpc::InsecureChannelCredentials();
  const auto read = [&](const char* name) {
    return (std::stringstream() << std::ifstream(dir + std::string(name)).rdbuf()).str();
  };
  return grpc::SslCredentials({read("/ca.crt"), read("/tls.key"), read("/tls.crt")});
}

int main(int argc, char** argv) {
  pregate::v1::GenerateRequest request;
  if (argc < 3) return std::cerr << "usage: generate ADDRESS REQUEST_AS_JSON [DEADLINE_S]\n", 2;
  const auto parsed = google::protobuf::util::JsonStringToMessage(argv[2], &request).ToString();
  if (parsed != "OK") return std::cerr << parsed.substr(0, parsed.find('\n')) << '\n', 2;
  const auto deadline = std::chrono::system_clock::now() + (argc > 3 ? atoi(argv[3]) : 60) * 1s;
  grpc::ChannelArguments args;
  // gRPC repeats a call that got no answer yet, after the pause that an overloaded server names.
  args.SetServiceConfigJSON(R"({"methodConfig": [{"name": [{}], "waitForReady": true, "retryPolicy":
      {"maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]})");
  pregate::v1::Inference::Stub stub(grpc::CreateCustomChannel(argv[1], Security(), args));
  std::signal(SIGINT, [](int) { stop = true; });
  while (true) {
    grpc::ClientContext call;
    call.set_deadline(deadline);
    const std::jthread canceller([&](std::stop_token over) {
      while (!stop && !over.stop_requested()) std::this_thread::sleep_for(20ms);
      if (stop) call.TryCancel();
    });
    const auto stream = stub.Generate(&call, request);
    for (pregate::v1::GenerateResponse event; stream->Read(&event);) {
      auto& resume = *request.mutable_resume();  // to go on with equal text if the stream breaks
      if (event.has_start()) resume.set_seed(event.start().seed());
      if (event.has_start()) resume.set_model_digest(event.start().model_digest());
      if (event.has_start()) resume.set_numerics_id(event.start().numerics_id());
      resume.mutable_tokens()->MergeFrom(event.tokens().ids());
      resume.mutable_routes()->MergeFrom(event.tokens().routes());
      std::cout << event.tokens().text() << std::flush;
    }
    const grpc::Status status = stream->Finish();
    if (status.error_code() == grpc::UNAVAILABLE) continue;  // gRPC itself tried several times
    std::cerr << '\n' << (status.ok() ? "" : status.error_message() + "\n");
    return status.error_code();
  }
}
