// One request over HTTP: the messages of its gRPC calls, one for each prompt, become one answer.
//
//   scheduler ─▶ OnMessage ─▶ Answer (core) ─▶ HttpExchange::Write ─▶ client
//                   ▲                               │ enough is unsent
//                   └── Resume ◀── on_writable ◀────┘
//   client gone ─▶ on_gone ─▶ GenerateCall::Cancel
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway_service/core/answer.h"
#include "gateway_service/edge/http_exchange.h"
#include "gateway_service/edge/scheduler_pool.h"

namespace pregate::gateway {

// How it went, for metrics, log and quota.
struct ExchangeOutcome {
  int http_status = 200;  // what the client was told; of a stream that broke, what the break was
  absl::Status status;
  EndReason reason = EndReason::kLength;  // where the status is OK: the last prompt's
  int32_t prompt_tokens = 0, generated_tokens = 0;
  absl::Duration ttft = absl::ZeroDuration();  // zero: no token came
  absl::Duration total = absl::ZeroDuration();
};

// Lives as long as a call or the HTTP exchange needs it. Where one call fails the others are cancelled.
class GenerationExchange final : public std::enable_shared_from_this<GenerationExchange> {
 public:
  struct Context {
    Dialect dialect = Dialect::kOpenAi;
    bool stream = false;
    int32_t choices = 1;           // of each prompt
    bool several_choices = false;  // each call says when one of them has ended
    HttpHeaders headers;           // of every answer: the request's id
    std::unique_ptr<Answer> answer;
    std::shared_ptr<HttpExchange> http;
    std::function<void(int change)> on_stream;  // one begins (1), ends (-1)
    std::function<void(absl::Duration)> on_first_token;
    std::function<void(int64_t tokens)> on_tokens;       // of prompts and answers, as they come
    std::function<void(const ExchangeOutcome&)> on_end;  // once and last
  };
  explicit GenerationExchange(Context context)
      : context_(std::move(context)), began_(absl::Now()) {}

  // Of an exchange made by make_shared; once. A job for each prompt.
  void Begin(SchedulerPool* pool, std::vector<GenerateJob> jobs);

 private:
  class Part;  // the call of one prompt
  using Calls = std::vector<std::shared_ptr<GenerateCall>>;

  bool OnMessage(Part* part, const v1::GenerateResponse& message);
  void OnEnd(Part* part, const absl::Status& status, absl::Duration retry_after);
  bool Send(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OnDone(Part* part, const Finished& finished) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStart(const Started& started) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnTokens(const Tokens& tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Context context_;
  const absl::Time began_;
  size_t num_prompts_ = 0;  // does not change once calls have begun
  // Messages of one call come one at a time, those of several do not.
  absl::Mutex mutex_;
  Calls calls_ ABSL_GUARDED_BY(mutex_);
  bool streaming_ ABSL_GUARDED_BY(mutex_) = false;      // the head of a stream is sent
  size_t num_done_ ABSL_GUARDED_BY(mutex_) = 0;         // prompts whose `done` came
  size_t num_ended_ ABSL_GUARDED_BY(mutex_) = 0;        // calls
  Usage usage_ ABSL_GUARDED_BY(mutex_);                 // of what is done
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);        // the first one
  absl::Duration retry_after_ ABSL_GUARDED_BY(mutex_);  // with it
  std::string body_ ABSL_GUARDED_BY(mutex_);            // of a whole answer
  ExchangeOutcome outcome_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate::gateway
