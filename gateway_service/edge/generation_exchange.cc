#include "gateway_service/edge/generation_exchange.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway_service/edge/generation_codec.h"

namespace pregate::gateway {

void GenerationExchange::Begin(SchedulerPool* pool, GenerateJob job) {
  const auto call = pool->Prepare(std::move(job), shared_from_this());
  context_.http->Watch([call] { call->Cancel(); }, [call] { call->Resume(); });
  call->Begin();
}

bool GenerationExchange::Send(const std::string& text) {
  if (!context_.stream) {
    body_ += text;
    return true;
  }
  return context_.http->Write(text);
}

bool GenerationExchange::OnMessage(const v1::GenerateResponse& message) {
  switch (message.event_case()) {
    case v1::GenerateResponse::kStart: {
      const Started started = DecodeStart(message.start());
      OnStart(started);
      return Send(context_.answer->Start(started));
    }
    case v1::GenerateResponse::kTokens: {
      const Tokens tokens = DecodeTokens(message.tokens());
      OnTokens(tokens);
      return Send(context_.answer->Add(tokens));
    }
    case v1::GenerateResponse::kPrompt:
      return Send(context_.answer->AddPrompt(DecodePrompt(message.prompt())));
    case v1::GenerateResponse::kChoiceDone:
      return Send(context_.answer->FinishChoice(DecodeChoiceDone(message.choice_done())));
    case v1::GenerateResponse::kDone: {
      const Finished finished = DecodeDone(message.done());
      finished_ = true;
      outcome_.reason = finished.reason;
      // What best_of left out has been computed, too.
      context_.on_tokens(finished.usage.generated_tokens - outcome_.generated_tokens);
      return Send(context_.answer->Finish(finished));
    }
    default:
      return true;
  }
}

void GenerationExchange::OnStart(const Started& started) {
  outcome_.prompt_tokens = started.prompt_tokens;
  context_.on_tokens(started.prompt_tokens);
  if (!context_.stream) return;
  streaming_ = true;
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

void GenerationExchange::OnEnd(const absl::Status& status, absl::Duration retry_after) {
  outcome_.status = status;
  if (status.ok() && !finished_) {
    outcome_.status = absl::InternalError("the scheduler's stream ended before its time");
  }
  outcome_.total = absl::Now() - began_;
  if (outcome_.status.ok()) {
    if (!context_.stream) context_.http->Reply({.body = body_, .headers = context_.headers});
  } else {
    const ApiError error = ToApiError(outcome_.status, retry_after);
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
