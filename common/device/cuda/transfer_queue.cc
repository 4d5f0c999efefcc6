#include "common/device/cuda/transfer_queue.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace pregate::cuda {
namespace {

// Takes one from the pool, or makes one: the pool ends up as large as ever many were in use.
Event Take(std::vector<Event>& pool, bool timed) {
  if (pool.empty()) return Event(timed);
  Event event = std::move(pool.back());
  pool.pop_back();
  return event;
}

}  // namespace

StreamTransferQueue::StreamTransferQueue(CudaRuntime* runtime) : runtime_(*runtime) {
  runtime_.Use();
  runtime_.Note(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}

StreamTransferQueue::~StreamTransferQueue() {
  runtime_.Use();
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
}

void StreamTransferQueue::ForgetPassedMarks() {
  while (!marks_.empty() && marks_.front().event.Passed()) {
    free_events_.push_back(std::move(marks_.front().event));
    marks_.pop_front();
  }
}

uint64_t StreamTransferQueue::Mark() {
  runtime_.Use();
  ForgetPassedMarks();
  Event event = Take(free_events_, /*timed=*/false);
  runtime_.Note(cudaEventRecord(event.get(), runtime_.handle()), "cudaEventRecord");
  marks_.push_back({++num_marks_, std::move(event)});
  return num_marks_;
}

uint64_t StreamTransferQueue::Copy(void* dst, const void* host_src, size_t bytes, uint64_t after) {
  PREGATE_CHECK(after <= num_marks_, "mark ", after, " of ", num_marks_);
  runtime_.Use();
  num_done();
  const auto mark = std::find_if(marks_.begin(), marks_.end(),
                                 [after](const Numbered& m) { return m.number == after; });
  if (mark != marks_.end()) {
    runtime_.Note(cudaStreamWaitEvent(stream_, mark->event.get(), 0), "cudaStreamWaitEvent");
  }
  NumberedCopy copy = {TakeTimed(), ++num_copies_};
  runtime_.Note(cudaEventRecord(copy.begin.get(), stream_), "cudaEventRecord");
  if (bytes > 0) {
    runtime_.Note(cudaMemcpyAsync(dst, host_src, bytes, cudaMemcpyHostToDevice, stream_),
                  "cudaMemcpyAsync of a transfer");
  }
  runtime_.Note(cudaEventRecord(copy.end.get(), stream_), "cudaEventRecord");
  copies_.push_back(std::move(copy));
  return num_copies_;
}

void StreamTransferQueue::Await(uint64_t number) {
  PREGATE_CHECK(number <= num_copies_, "copy ", number, " of ", num_copies_);
  runtime_.Use();
  CollectWaits();
  if (number <= num_done()) return;
  const NumberedCopy& copy = copies_[number - num_done_ - 1];
  Wait wait = TakeTimed();
  runtime_.Note(cudaEventRecord(wait.begin.get(), runtime_.handle()), "cudaEventRecord");
  runtime_.Note(cudaStreamWaitEvent(runtime_.handle(), copy.end.get(), 0), "cudaStreamWaitEvent");
  runtime_.Note(cudaEventRecord(wait.end.get(), runtime_.handle()), "cudaEventRecord");
  waits_.push_back(std::move(wait));
}

uint64_t StreamTransferQueue::num_done() {
  while (!copies_.empty() && copies_.front().end.Passed()) {
    num_done_ = copies_.front().number;
    Finish(copies_.front(), /*is_wait=*/false);
    copies_.pop_front();
  }
  return num_done_;
}

void StreamTransferQueue::CollectWaits() {
  while (!waits_.empty() && waits_.front().end.Passed()) {
    const TransferSpan span = Finish(waits_.front(), /*is_wait=*/true);
    stalled_ += span.end - span.begin;
    waits_.pop_front();
  }
}

StreamTransferQueue::Wait StreamTransferQueue::TakeTimed() {
  return {Take(free_timed_, /*timed=*/true), Take(free_timed_, /*timed=*/true)};
}

TransferSpan StreamTransferQueue::Finish(Wait& events, bool is_wait) {
  float ms = 0;
  runtime_.Note(cudaEventElapsedTime(&ms, events.begin.get(), events.end.get()),
                "cudaEventElapsedTime");
  const absl::Time begin = runtime_.TimeOf(events.begin);
  const TransferSpan span = {is_wait, begin, begin + absl::Milliseconds(ms)};
  if (spans_.size() < kTransferSpansMax) spans_.push_back(span);
  free_timed_.push_back(std::move(events.begin));
  free_timed_.push_back(std::move(events.end));
  return span;
}

std::vector<TransferSpan> StreamTransferQueue::TakeSpans() {
  num_done();
  CollectWaits();
  return std::exchange(spans_, {});
}

absl::Duration StreamTransferQueue::stalled() {
  CollectWaits();
  return stalled_;
}

}  // namespace pregate::cuda
