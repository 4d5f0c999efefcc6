// One generation asked for over HTTP: the gRPC call's messages become the answer.
//
//   scheduler ─▶ OnMessage ─▶ Answer (core) ─▶ HttpExchange::Write ─▶ client
//                   ▲                               │ enough is unsent
//                   └── Resume ◀── on_writable ◀────┘
//   client gone ─▶ on_gone ─▶ GenerateCall::Cancel
#pragma once

#include <functional>
#include <memory>
#include <string>

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
  EndReason reason = EndReason::kLength;  // where the status is OK
  int32_t prompt_tokens = 0, generated_tokens = 0;
  absl::Duration ttft = absl::ZeroDuration();  // zero: no token came
  absl::Duration total = absl::ZeroDuration();
};

// Lives as long as the call or the HTTP exchange needs it. Messages come one at a time.
class GenerationExchange final : public GenerateListener,
                                 public std::enable_shared_from_this<GenerationExchange> {
 public:
  struct Context {
    Dialect dialect = Dialect::kOpenAi;
    bool stream = false;
    HttpHeaders headers;  // of every answer: the request's id
    std::unique_ptr<Answer> answer;
    std::shared_ptr<HttpExchange> http;
    std::function<void(int change)> on_stream;  // one begins (1), ends (-1)
    std::function<void(absl::Duration)> on_first_token;
    std::function<void(int64_t tokens)> on_tokens;       // of prompt and answer, as they come
    std::function<void(const ExchangeOutcome&)> on_end;  // once and last
  };
  explicit GenerationExchange(Context context)
      : context_(std::move(context)), began_(absl::Now()) {}

  // Of an exchange made by make_shared; once.
  void Begin(SchedulerPool* pool, GenerateJob job);

 private:
  bool OnMessage(const v1::GenerateResponse& message) override;
  void OnEnd(const absl::Status& status, absl::Duration retry_after) override;
  bool Send(const std::string& text);
  void OnStart(const Started& started);
  void OnTokens(const Tokens& tokens);

  const Context context_;
  const absl::Time began_;
  // The messages' alone.
  bool streaming_ = false;  // the head of a stream is sent
  bool finished_ = false;   // `done` came
  std::string body_;        // of a whole answer
  ExchangeOutcome outcome_;
};

}  // namespace pregate::gateway
