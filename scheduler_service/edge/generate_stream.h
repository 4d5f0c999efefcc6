// One Generate call: the engine's thread puts answers into a bounded queue, gRPC's threads write
// them one at a time.
//
//   engine: StartInfo, TokensOut, DoneInfo ─▶ queue ─▶ StartWrite ─▶ OnWriteDone ─▶ ... ─▶ Finish
//   client gone, deadline, queue full ─▶ Detach from the engine, Finish
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/base/limits.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/step/peer.h"
#include "pregate/v1/inference.pb.h"
#include "scheduler_service/core/request.h"
#include "scheduler_service/edge/request_spans.h"

namespace pregate {

class Generations;
class RequestLog;
class SchedulerMetrics;

// After which a client that was refused for lack of room may find some.
inline constexpr absl::Duration kRetryAfter = absl::Seconds(1);

// Alive until gRPC is done with it and the engine has let go of its link.
class GenerateStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                             public std::enable_shared_from_this<GenerateStream> {
 public:
  struct Context {
    RequestIdentity identity;
    bool return_routes = false;
    bool echo = false;
    bool has_routes = false;               // the model has experts
    const Tokenizer* tokenizer = nullptr;  // outlives the stream
    grpc::CallbackServerContext* grpc = nullptr;
    Peer<GenerateRequest, ToClient>* engine = nullptr;  // outlives the stream
    SchedulerMetrics* metrics = nullptr;                // the same
    RequestLog* log = nullptr;                          // the same
    std::function<void()> on_closed;                    // once and last, as long as `grpc` is there
  };
  explicit GenerateStream(Context context) : context_(std::move(context)) {}

  // Before Submit or Refuse where they come later, on another thread: gRPC may end the call first.
  void Hold();
  // Call one of them, once, on a stream made by make_shared: hands the request to the engine ...
  void Submit(GenerateRequest request);
  // ... or refuses it, and says when to try again where that helps (zero: never).
  void Refuse(const absl::Status& status, absl::Duration retry_after = absl::ZeroDuration());

  // Cancels the call where the client has not taken a message for kSlowClientMsMax: what waits for
  // it must not stay for as long as it likes.
  void CancelIfStuck(absl::Time now);

 private:
  // What the engine says.
  void Answer(const StartInfo& info);
  void Answer(const PromptOut& out);
  void Answer(const TokensOut& out);
  void Answer(const ChoiceDone& done);
  void Answer(const DoneInfo& info);
  // Of a request that never reached the engine.
  void EndRefused(const absl::Status& status, absl::Duration retry_after);
  // What the client is told, where the engine says `engine`: the stream may have ended before.
  absl::Status StatusGiven(const absl::Status& engine);
  void Enqueue(v1::GenerateResponse response);
  void Enqueue(grpc::ByteBuffer message);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call when everything queued is written (`drop`: at once, after the write under way).
  void End(const absl::Status& status, absl::Duration retry_after, bool drop)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends a call whose write is under way and may never end.
  void CancelCall(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Detach();

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  const Context context_;
  std::shared_ptr<GenerateStream> self_;  // gRPC's reference
  bool held_ = false;                     // self_ was set by Hold
  // Set by Submit, before there is an answer.
  std::vector<TokenId> prompt_;  // to be echoed
  size_t queue_max_ = kStreamQueueMessages;

  absl::Mutex mutex_;
  std::shared_ptr<Generations> generations_ ABSL_GUARDED_BY(mutex_);  // null: never at the engine
  std::deque<grpc::ByteBuffer> queue_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer writing_message_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_);
  bool cancelling_ ABSL_GUARDED_BY(mutex_) =
      false;                                       // Finish waits: it would end the call's context
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;     // nothing more is queued
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
  absl::Status status_ ABSL_GUARDED_BY(mutex_);    // the client's, once ended_
  grpc::Status sent_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate
