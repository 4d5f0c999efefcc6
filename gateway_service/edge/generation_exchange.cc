#include "gateway_service/edge/generation_exchange.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway_service/edge/generation_codec.h"

namespace pregate::gateway {

class GenerationExchange::Part final : public GenerateListener {
 public:
  Part(std::shared_ptr<GenerationExchange> exchange, int32_t prompt)
      : exchange_(std::move(exchange)), prompt_(prompt) {}

  bool OnMessage(const v1::GenerateResponse& message) override {
    return exchange_->OnMessage(this, message);
  }
  void OnEnd(const absl::Status& status, absl::Duration retry_after) override {
    exchange_->OnEnd(this, status, retry_after);
  }

  int32_t prompt() const { return prompt_; }
  int32_t generated_tokens = 0;
  bool done = false;

 private:
  const std::shared_ptr<GenerationExchange> exchange_;
  const int32_t prompt_;
};

void GenerationExchange::Begin(SchedulerPool* pool, std::vector<GenerateJob> jobs) {
  num_prompts_ = jobs.size();
  Calls calls;
  for (GenerateJob& job : jobs) {
    const auto part =
        std::make_shared<Part>(shared_from_this(), static_cast<int32_t>(calls.size()));
    calls.push_back(pool->Prepare(std::move(job), part));
  }
  {
    absl::MutexLock lock(&mutex_);
    calls_ = calls;
  }
  context_.http->Watch(
      [calls] {
        for (const auto& call : calls) call->Cancel();
      },
      [calls] {
        for (const auto& call : calls) call->Resume();
      });
  for (const auto& call : calls) call->Begin();
}

bool GenerationExchange::Send(const std::string& text) {
  if (!context_.stream) {
    body_ += text;
    return true;
  }
  return context_.http->Write(text);
}

bool GenerationExchange::OnMessage(Part* part, const v1::GenerateResponse& message) {
  absl::MutexLock lock(&mutex_);
  if (!failure_.ok()) return true;  // the answer has none of it
  const int32_t first = part->prompt() * context_.choices;
  switch (message.event_case()) {
    case v1::GenerateResponse::kStart: {
      Started started = DecodeStart(message.start());
      started.prompt = part->prompt();
      OnStart(started);
      return Send(context_.answer->Start(started));
    }
    case v1::GenerateResponse::kTokens: {
      Tokens tokens = DecodeTokens(message.tokens());
      part->generated_tokens += static_cast<int32_t>(tokens.ids.size());
      OnTokens(tokens);
      tokens.index += first;
      return Send(context_.answer->Add(tokens));
    }
    case v1::GenerateResponse::kPrompt: {
      PromptTokens prompt = DecodePrompt(message.prompt());
      prompt.prompt = part->prompt();
      return Send(context_.answer->AddPrompt(prompt));
    }
    case v1::GenerateResponse::kChoiceDone: {
      ChoiceFinished finished = DecodeChoiceDone(message.choice_done());
      finished.index += first;
      return Send(context_.answer->FinishChoice(finished));
    }
    case v1::GenerateResponse::kDone:
      return OnDone(part, DecodeDone(message.done()));
    default:
      return true;
  }
}

void GenerationExchange::OnStart(const Started& started) {
  outcome_.prompt_tokens += started.prompt_tokens;
  context_.on_tokens(started.prompt_tokens);
  if (!context_.stream || std::exchange(streaming_, true)) return;
  context_.on_stream(1);
  HttpReply head = {.content_type = "text/event-stream; charset=utf-8",
                    .headers = context_.headers};
  head.headers.emplace_back("Cache-Control", "no-cache");
  head.headers.emplace_back("X-Accel-Buffering", "no");  // nginx would hold tokens back
  context_.http->BeginStream(std::move(head));
}

void GenerationExchange::OnTokens(const Tokens& tokens) {
  if (outcome_.generated_tokens == 0 && !tokens.ids.empty()) {
    outcome_.ttft = absl::Now() - began_;
    context_.on_first_token(outcome_.ttft);
  }
  outcome_.generated_tokens += static_cast<int32_t>(tokens.ids.size());
  context_.on_tokens(static_cast<int64_t>(tokens.ids.size()));
}

// Of one prompt; the last one ends the answer.
bool GenerationExchange::OnDone(Part* part, const Finished& finished) {
  part->done = true;
  outcome_.reason = finished.reason;
  // What best_of left out has been computed, too.
  context_.on_tokens(finished.usage.generated_tokens - part->generated_tokens);
  usage_.prompt_tokens += finished.usage.prompt_tokens;
  usage_.generated_tokens += finished.usage.generated_tokens;
  usage_.cached_tokens += finished.usage.cached_tokens;
  std::string text;
  if (num_prompts_ > 1 && !context_.several_choices) {
    text = context_.answer->FinishChoice({.index = part->prompt(), .reason = finished.reason});
  }
  if (++num_done_ == num_prompts_) {
    Finished all = finished;
    all.usage = usage_;
    text += context_.answer->Finish(all);
  }
  return Send(text);
}

void GenerationExchange::OnEnd(Part* part, const absl::Status& status, absl::Duration retry_after) {
  Calls others;
  {
    absl::MutexLock lock(&mutex_);
    absl::Status end = status;
    if (end.ok() && !part->done) {
      end = absl::InternalError("the scheduler's stream ended before its time");
    }
    if (!end.ok() && failure_.ok()) {
      failure_ = end;
      retry_after_ = retry_after;
      others = calls_;
    }
    if (++num_ended_ == num_prompts_) {
      others.clear();
      calls_.clear();
      End();
    }
  }
  for (const auto& call : others) call->Cancel();
}

void GenerationExchange::End() {
  outcome_.status = failure_;
  outcome_.total = absl::Now() - began_;
  if (outcome_.status.ok()) {
    if (!context_.stream) context_.http->Reply({.body = body_, .headers = context_.headers});
  } else {
    const ApiError error = ToApiError(outcome_.status, retry_after_);
    outcome_.http_status = error.http_status;
    if (streaming_) {
      context_.http->Write(context_.answer->Fail(error));
    } else {
      context_.http->Reply(ErrorReply(error, context_.dialect, context_.headers));
    }
  }
  if (streaming_) {
    context_.http->EndStream();
    context_.on_stream(-1);
  }
  context_.on_end(outcome_);
}

}  // namespace pregate::gateway
