// What mutual TLS adds as a client sees it: two clusters that differ in --tls-dir alone are asked
// in turn. bench/tls_cost.py starts them.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "bench/bench_main.h"
#include "common/base/limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"
#include "common/rpc/status.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate {
namespace {

struct Options {
  std::string plaintext, encrypted;
  TlsOptions tls;
  int32_t rounds = 5, calls = 200, connections = 50, tokens = 64;
  uint64_t seed = 1;
};

struct Server {
  Address address;
  std::unique_ptr<Security> security;
  std::unique_ptr<v1::Inference::Stub> stub;

  std::shared_ptr<grpc::Channel> Dial() const {
    return MakeChannel(address, kClientMessageBytesMax, *security, {Role::kScheduler});
  }
};

using Milliseconds = std::vector<double>;

double Since(absl::Time start) { return absl::ToDoubleMilliseconds(absl::Now() - start); }

double Median(Milliseconds values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// A connection and the first answer over it.
absl::Status Connect(const Server& server, Milliseconds* times) {
  const absl::Time start = absl::Now();
  RETURN_IF_ERROR(IsServing(server.Dial(), absl::Seconds(10)).status());
  times->push_back(Since(start));
  return absl::OkStatus();
}

absl::Status Tokenize(const Server& server, Milliseconds* times) {
  v1::TokenizeRequest request;
  request.set_text("time and tide wait for no man");
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  const absl::Time start = absl::Now();
  RETURN_IF_ERROR(FromGrpcStatus(server.stub->Tokenize(&context, request, &response)));
  times->push_back(Since(start));
  return absl::OkStatus();
}

// The gaps between the messages of one stream after its first tokens.
absl::Status Stream(const Server& server, const Options& o, int index, Milliseconds* gaps) {
  v1::GenerateRequest request;
  request.set_text(absl::StrCat(index, " time and tide"));
  request.set_max_tokens(o.tokens);
  request.set_ignore_eos(true);
  request.mutable_sampling()->set_seed(o.seed);
  grpc::ClientContext context;
  const auto stream = server.stub->Generate(&context, request);
  v1::GenerateResponse response;
  absl::Time last = absl::InfinitePast();
  while (stream->Read(&response)) {
    if (!response.has_tokens()) continue;
    const absl::Time now = absl::Now();
    if (last != absl::InfinitePast()) gaps->push_back(absl::ToDoubleMilliseconds(now - last));
    last = now;
  }
  return FromGrpcStatus(stream->Finish());
}

absl::Status Streams(const Server& server, const Options& o, int count, Milliseconds* gaps) {
  std::vector<Milliseconds> each(count);
  std::vector<absl::Status> status(count);
  std::vector<std::thread> clients;
  for (int i = 0; i < count; ++i) {
    clients.emplace_back([&, i] { status[i] = Stream(server, o, i, &each[i]); });
  }
  for (std::thread& client : clients) client.join();
  for (int i = 0; i < count; ++i) {
    RETURN_IF_ERROR(status[i]);
    gaps->insert(gaps->end(), each[i].begin(), each[i].end());
  }
  return absl::OkStatus();
}

using Rounds = std::map<std::string, Milliseconds>;  // what -> a median for each round

absl::Status Round(const Server& server, const Options& o, Rounds* rounds) {
  Milliseconds connect, unary, one, sixteen;
  for (int i = 0; i < o.connections; ++i) RETURN_IF_ERROR(Connect(server, &connect));
  for (int i = 0; i < o.calls; ++i) RETURN_IF_ERROR(Tokenize(server, &unary));
  RETURN_IF_ERROR(Streams(server, o, 1, &one));
  RETURN_IF_ERROR(Streams(server, o, 16, &sixteen));
  (*rounds)["new_connection_ms"].push_back(Median(connect));
  (*rounds)["unary_tokenize_ms"].push_back(Median(unary));
  (*rounds)["itl_1_stream_ms"].push_back(Median(one));
  (*rounds)["itl_16_streams_ms"].push_back(Median(sixteen));
  return absl::OkStatus();
}

absl::StatusOr<Server> Open(const std::string& option, const std::string& address,
                            const TlsOptions& tls, const Log* log, Clock* clock) {
  Server server;
  ASSIGN_OR_RETURN(server.security,
                   Security::Load(tls, {Role::kClient, Role::kOperator}, log, clock));
  ASSIGN_OR_RETURN(server.address, server.security->ParseAddress(option, address));
  server.stub = v1::Inference::NewStub(server.Dial());
  return server;
}

nlohmann::json Report(const Rounds& plain, const Rounds& encrypted) {
  nlohmann::json report;
  for (const auto& [what, values] : plain) {
    const Milliseconds& others = encrypted.at(what);
    Milliseconds ratios;
    for (size_t i = 0; i < values.size(); ++i) ratios.push_back(others[i] / values[i]);
    report[what] = {{"plaintext", Median(values)},
                    {"tls", Median(others)},
                    {"ratio", Median(ratios)},
                    {"ratio_min", *std::min_element(ratios.begin(), ratios.end())},
                    {"ratio_max", *std::max_element(ratios.begin(), ratios.end())}};
  }
  return report;
}

absl::Status Run(const Options& o) {
  const Log log("tls_cost", {.level = "error"});
  SystemClock clock;
  ASSIGN_OR_RETURN(const Server plain, Open("plaintext", o.plaintext, {}, &log, &clock));
  ASSIGN_OR_RETURN(const Server encrypted, Open("encrypted", o.encrypted, o.tls, &log, &clock));
  Rounds warm_up, plain_rounds, encrypted_rounds;
  for (const Server* server : {&plain, &encrypted}) RETURN_IF_ERROR(Round(*server, o, &warm_up));
  for (int i = 0; i < o.rounds; ++i) {
    RETURN_IF_ERROR(Round(plain, o, &plain_rounds));
    RETURN_IF_ERROR(Round(encrypted, o, &encrypted_rounds));
  }
  std::printf("%s\n", Report(plain_rounds, encrypted_rounds).dump().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("tls_cost",
                         "Compares a plaintext and a TLS cluster as a client sees them.");
  set.String("plaintext", &o.plaintext, "Scheduler without --tls-dir").Required();
  set.String("encrypted", &o.encrypted, "Scheduler with --tls-dir").Required();
  pregate::DeclareTlsOptions(set, &o.tls);
  set.Int("rounds", &o.rounds, 1, 1000, "rounds", "each asks both clusters");
  set.Int("calls", &o.calls, 1, 100000, "calls", "unary calls of a round");
  set.Int("connections", &o.connections, 1, 100000, "connections", "new connections of a round");
  set.Int("tokens", &o.tokens, 2, 100000, "tokens", "of each stream");
  return pregate::BenchMain("tls_cost", set, argc, argv, [&o] { return pregate::Run(o); });
}
