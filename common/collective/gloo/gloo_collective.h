// One rank's end of a Gloo group: point-to-point messages of exact size, no message for no rows.
//
// Rows of 576 bf16 each way between two processes of one machine (2 cores, loopback), median us an
// operation for 1, 8 and 128 rows: 103, 107, 223; gloo::alltoallv 107, 115, 215. That one cannot be
// aborted and sends a message for no rows too. AllGather of 8 bytes: 97.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/collective/collective.h"
#include "common/collective/gloo/gloo_context.h"
#include "gloo/transport/unbound_buffer.h"

namespace pregate {

class GlooCollective final : public Collective {
 public:
  GlooCollective(std::unique_ptr<GlooContext> context, absl::Duration timeout)
      : context_(std::move(context)), timeout_(timeout) {}
  ~GlooCollective() override;

  int rank() const override { return context_->rank; }
  int world_size() const override { return context_->size; }
  absl::string_view name() const override { return "gloo"; }
  bool enqueues() const override { return false; }
  int64_t bytes_sent() const override { return bytes_sent_; }

  absl::Status AllGather(const void* mine, size_t bytes, void* all) override;
  absl::Status AllToAll(const void* send, absl::Span<const int32_t> send_offsets, void* recv,
                        absl::Span<const int32_t> recv_offsets, size_t row_bytes) override;
  absl::Status Wait() override;
  void Abort() override;

 private:
  // Bytes of one message in its buffer.
  struct Part {
    size_t offset = 0;
    size_t bytes = 0;
  };
  using Parts = std::vector<Part>;  // by peer; the own rank's part is empty
  struct Buffer {
    void* data;
    size_t bytes;
    Parts parts;
  };
  class Running;

  absl::Status Exchange(const Buffer& send, const Buffer& recv);
  absl::Status SendAndReceive(const Buffer& send, const Buffer& recv);
  absl::Status Fail(const absl::Status& why);

  const std::unique_ptr<GlooContext> context_;
  const absl::Duration timeout_;
  uint64_t operation_ = 0;  // the tag of its messages, so that operations never mix
  int64_t bytes_sent_ = 0;

  std::mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  // Of the operation that runs: Abort wakes its waits.
  gloo::transport::UnboundBuffer* sending_ ABSL_GUARDED_BY(mutex_) = nullptr;
  gloo::transport::UnboundBuffer* receiving_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace pregate
