// Clients in virtual time: they ask, are refused and come back, cancel, lose their stream and resume,
// and remember what they got.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/testing/reference.h"
#include "sim/testing/sim_world.h"

namespace pregate::scheduler {

// The message of a row error that a fault made up: its request fails.
inline constexpr char kFailedRow[] = "a fault has failed the row";

struct SimClient {
  GenerateRequest request;
  size_t num_resumed = 0;  // tokens of the reference that it sends along
  std::optional<absl::Duration> cancel_after;
  std::optional<absl::Duration> break_after;  // its first stream; it resumes with what it got

  // What it got.
  StartInfo start;
  int num_starts = 0;
  std::vector<TokenId> tokens;  // of all streams
  std::vector<ExpertId> routes;
  std::vector<float> logprobs;
  std::vector<float> prompt_logprobs;
  std::string text;
  std::optional<DoneInfo> done;
  int refusals = 0;
  int resumes = 0;
  absl::Time asked, done_at;
  std::string misuse;  // a stream that broke the order of start, tokens, done
};

struct SimLoad {
  int num_clients = 12;
  absl::Duration spread = absl::Seconds(1);  // arrivals
  int32_t prompt_max = 50;
  int32_t max_tokens_max = 60;
  int percent_cancelled = 0;
  int percent_deadline = 0;
  int percent_resumed = 0;
  int percent_broken = 0;
  int percent_begun_alike = 0;  // begin as another's prompt does, or as its answer goes on
};

// Makes random requests of the world's seed, drives them, and sends DrainEvent when all are done and
// the faults have been over for a while.
class SimClients {
 public:
  SimClients(SimWorld* world, const FakeModel& model, const SimLoad& load);

  void Start();
  // Empty, or what is wrong with a client's answer. `service_routes`: the last token has no route.
  std::string Check(const SimClient& client, bool service_routes) const;
  const std::vector<std::unique_ptr<SimClient>>& clients() const { return clients_; }
  // Of all clients: streams that got no end.
  int num_open_streams() const;
  int64_t num_reference_tokens() const;
  const LetterTokenizer& tokenizer() const { return tokenizer_; }

 private:
  class Stream;
  GenerateRequest RandomRequest(const SimLoad& load);
  void BeginAlike(const GenerateRequest& other, size_t size_max, GenerateRequest* request);
  void Resume(SimClient* client);
  void Submit(SimClient* client);
  void Break(SimClient* client, Stream* stream, LinkId link);
  void OnDone(SimClient* client, const DoneInfo& info, bool started);
  void DrainWhenCalm();

  SimWorld* const world_;
  const FakeModel model_;
  const LetterTokenizer tokenizer_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::vector<std::shared_ptr<Stream>> streams_;  // all that there were
  std::vector<absl::Duration> arrivals_;
  LinkId next_link_ = 1;
  size_t num_done_ = 0;
};

}  // namespace pregate::scheduler
