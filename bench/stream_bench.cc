// Streams generations from a running server, some at a time, and says what its clients see: time to
// the first token, time between tokens, tokens per second. Prompts are random token ids; answers are
// greedy and of full length. Prints one JSON object, times in ms; `answers` is a hash of all ids: equal
// for servers that gave equal answers to the same flags.
// With --http the same over a gateway; with --plain as a client without interest in routes has it, whose ids
// are not known. With --frames by gRPC over one connection, without gRPC's client: where the server is to be the
// slower side.
// usage: stream_bench --server ADDRESS [--frames | --http ADDRESS [--plain]] [--streams 1,8,32] [--prompt 128] [--answer 64] [--requests 4]
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bench/bench_main.h"
#include "bench/http2_calls.h"
#include "bench/http_stream.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::minutes kPatience(5);  // with one request
constexpr int kStreamsMax = 4096;             // a thread each

struct Options {
  std::string server, http;
  std::vector<std::string> streams;
  int32_t prompt = 128, answer = 64, requests = 4, vocab = 512, wait_s = 120;
  std::optional<uint64_t> seed = 1;
  bool plain = false, frames = false;
};

// Of the requests of one number of streams.
struct Seen {
  std::mutex mutex;
  std::vector<double> first_ms, between_ms;  // between tokens, of each token
  int64_t tokens = 0;
  uint64_t answers = 0;  // of all ids, whatever the order in which requests end
  std::string error;     // the first one
};

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * values.size()))];
}

double Milliseconds(Clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}

v1::GenerateRequest RandomRequest(const Options& o, int answer, std::mt19937_64& random) {
  v1::GenerateRequest request;
  std::uniform_int_distribution<int> id(3, o.vocab - 1);
  for (int i = 0; i < o.prompt; ++i) request.mutable_tokens()->add_ids(id(random));
  request.set_max_tokens(answer);
  request.set_ignore_eos(true);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_seed(1);
  return request;
}

// The same request for a gateway.
std::string HttpBody(const v1::GenerateRequest& request, bool plain) {
  return absl::StrCat(R"({"prompt":[)", absl::StrJoin(request.tokens().ids(), ","),
                      R"(],"max_tokens":)", request.max_tokens(),
                      R"(,"ignore_eos":true,"temperature":0,"seed":1,"stream":true,)",
                      plain ? R"("stream_options":{"include_usage":true}})"
                            : R"("pregate":{"return_routes":true}})");
}

// What one request's client sees.
class Watch {
 public:
  // `number`: of the request, which its answer counts under.
  explicit Watch(uint64_t number) : answer_(number) {}

  template <typename Ids>
  void Add(const Ids& ids) {
    if (ids.size() == 0) return;
    const Clock::time_point now = Clock::now();
    if (tokens_ == 0) {
      first_ = Milliseconds(now - start_);
    } else {
      between_.insert(between_.end(), ids.size(), Milliseconds(now - last_) / ids.size());
    }
    tokens_ += ids.size();
    last_ = now;
    for (const int32_t id : ids) {
      answer_ = (answer_ ^ static_cast<uint64_t>(id)) * 0x9E3779B97F4A7C15u;
      answer_ ^= answer_ >> 29;
    }
  }
  void Report(const std::string& error, Seen& seen) const {
    const std::lock_guard<std::mutex> lock(seen.mutex);
    if (seen.error.empty()) seen.error = error;
    seen.tokens += tokens_;
    seen.answers += answer_;
    seen.first_ms.push_back(first_);
    seen.between_ms.insert(seen.between_ms.end(), between_.begin(), between_.end());
  }

 private:
  const Clock::time_point start_ = Clock::now();
  Clock::time_point last_;
  std::vector<double> between_;
  double first_ = 0;
  int64_t tokens_ = 0;
  uint64_t answer_;
};

void RunOne(v1::Inference::Stub& stub, const v1::GenerateRequest& request, uint64_t number,
            Clock::time_point end, Seen& seen) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + (end - Clock::now()));
  Watch watch(number);
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) watch.Add(response.tokens().ids());
  watch.Report(reader->Finish().error_message(), seen);
}

// What stream `s` of so many asks.
std::mt19937_64 RandomOf(const Options& o, int streams, int s) {
  return std::mt19937_64(*o.seed * 1000003 + streams * 1009 + s);
}

// Stream `s` sends its requests one after the other, by gRPC or by HTTP.
void RunGrpcStream(const Options& o, int s, std::mt19937_64 random, Seen& seen) {
  const auto stub =
      v1::Inference::NewStub(grpc::CreateChannel(o.server, grpc::InsecureChannelCredentials()));
  for (int r = 0; r < o.requests; ++r) {
    RunOne(*stub, RandomRequest(o, o.answer, random), uint64_t(s) * o.requests + r,
           Clock::now() + kPatience, seen);
  }
}

void RunHttpStream(const Options& o, int s, std::mt19937_64 random, Seen& seen) {
  auto http = HttpStream::Connect(o.http);
  for (int r = 0; r < o.requests; ++r) {
    const std::string body = HttpBody(RandomRequest(o, o.answer, random), o.plain);
    Watch watch(uint64_t(s) * o.requests + r);
    absl::Status status = http.status();
    if (status.ok()) status = http->Run(body, o.plain, [&](const auto& ids) { watch.Add(ids); });
    watch.Report(std::string(status.message()), seen);
    if (!status.ok()) return;
  }
}

// All streams on this thread.
absl::Status RunFrameStreams(const Options& o, int streams, Seen& seen) {
  struct Stream {
    std::mt19937_64 random;
    int sent = 0;
    std::optional<Watch> watch;
  };
  std::vector<Stream> all;
  for (int s = 0; s < streams; ++s) all.push_back({.random = RandomOf(o, streams, s)});
  ASSIGN_OR_RETURN(Http2Calls calls,
                   Http2Calls::Connect(o.server, "/pregate.v1.Inference/Generate"));
  const auto open_next = [&](int s) {
    Stream& stream = all[s];
    if (stream.sent == o.requests) return;
    const v1::GenerateRequest request = RandomRequest(o, o.answer, stream.random);
    stream.watch.emplace(uint64_t(s) * o.requests + stream.sent++);
    calls.Open(s, request.SerializeAsString());
  };
  for (int s = 0; s < streams; ++s) open_next(s);
  bool parsed = true;
  v1::GenerateResponse response;
  RETURN_IF_ERROR(calls.Run({.on_message =
                                 [&](int s, absl::string_view message) {
                                   parsed &= response.ParseFromArray(
                                       message.data(), static_cast<int>(message.size()));
                                   all[s].watch->Add(response.tokens().ids());
                                 },
                             .on_end =
                                 [&](int s) {
                                   all[s].watch->Report("", seen);
                                   open_next(s);
                                 }}));
  return parsed ? absl::OkStatus() : absl::DataLossError("a message is no GenerateResponse");
}

// A thread each.
void RunThreadStreams(const Options& o, int streams, Seen& seen) {
  std::vector<std::thread> threads;
  for (int s = 0; s < streams; ++s) {
    threads.emplace_back([&, s] {
      (o.http.empty() ? RunGrpcStream : RunHttpStream)(o, s, RandomOf(o, streams, s), seen);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Each stream sends its requests one after the other.
absl::StatusOr<nlohmann::json> RunStreams(const Options& o, int streams) {
  Seen seen;
  const Clock::time_point start = Clock::now();
  if (o.frames) {
    RETURN_IF_ERROR(RunFrameStreams(o, streams, seen));
  } else {
    RunThreadStreams(o, streams, seen);
  }
  const double seconds = Milliseconds(Clock::now() - start) / 1e3;
  if (!seen.error.empty()) return absl::UnavailableError(seen.error);
  return nlohmann::json{{"streams", streams},
                        {"requests", streams * o.requests},
                        {"ttft_ms_p50", Quantile(seen.first_ms, 0.5)},
                        {"ttft_ms_p99", Quantile(seen.first_ms, 0.99)},
                        {"itl_ms_p50", Quantile(seen.between_ms, 0.5)},
                        {"itl_ms_p99", Quantile(seen.between_ms, 0.99)},
                        {"answers", absl::StrFormat("%016x", seen.answers)},
                        {"tokens_per_s", static_cast<double>(seen.tokens) / seconds}};
}

// Until the server answers: its worker may be loading.
absl::Status AwaitServer(const Options& o) {
  const Clock::time_point end = Clock::now() + std::chrono::seconds(o.wait_s);
  std::mt19937_64 random(*o.seed);
  while (true) {
    const auto channel = grpc::CreateChannel(o.server, grpc::InsecureChannelCredentials());
    Seen seen;
    RunOne(*v1::Inference::NewStub(channel), RandomRequest(o, 2, random), 0, end, seen);
    if (seen.error.empty()) return absl::OkStatus();
    if (Clock::now() > end) return absl::UnavailableError(absl::StrCat(o.server, ": ", seen.error));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

absl::Status Run(const Options& o) {
  if (o.frames && !o.http.empty()) {
    return absl::InvalidArgumentError("--frames: is gRPC, and cannot stand beside --http");
  }
  ASSIGN_OR_RETURN(const std::vector<int> streams, Numbers("streams", o.streams, kStreamsMax));
  RETURN_IF_ERROR(AwaitServer(o));
  nlohmann::json report = {{"prompt_tokens", o.prompt},
                           {"answer_tokens", o.answer},
                           {"seed", *o.seed},
                           {"runs", nlohmann::json::array()}};
  for (const int n : streams) {
    ASSIGN_OR_RETURN(nlohmann::json run, RunStreams(o, n));
    std::fprintf(stderr, "%s\n", run.dump().c_str());
    report["runs"].push_back(std::move(run));
  }
  std::printf("%s\n", report.dump(1).c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("stream_bench", "Streams generations from a running server.");
  set.String("server", &o.server, "address of the scheduler").Required();
  set.String("http", &o.http, "address of a gateway, to stream from in its place");
  set.Switch("plain", &o.plain, "with --http: ask for no routes");
  set.Switch("frames", &o.frames, "gRPC without its client: HTTP/2's frames of one connection");
  set.Strings("streams", &o.streams, "at a time (default: 1,8,32)");
  set.Int("prompt", &o.prompt, 1, 1 << 16, "tokens", "of each request");
  set.Int("answer", &o.answer, 1, 1 << 16, "tokens", "of each request");
  set.Int("requests", &o.requests, 1, 1 << 16, "requests", "of each stream, one after the other");
  set.Int("vocab", &o.vocab, 4, 1 << 20, "tokens", "prompts are of ids below");
  set.Int("wait-s", &o.wait_s, 1, 3600, "s", "for the server");
  set.OptionalUint64("seed", &o.seed, "of prompts");
  return pregate::BenchMain("stream_bench", set, argc, argv, [&] {
    if (o.streams.empty()) o.streams = {"1", "8", "32"};
    return pregate::Run(o);
  });
}
