// A Worker on its own thread, and a second thread that says that the process lives while the first
// is busy.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <variant>

#include "common/base/mailbox.h"
#include "expert_service/engine/worker.h"

namespace pregate {

// Every public method is thread-safe and returns at once, except Stop.
class WorkerLoop {
 public:
  explicit WorkerLoop(std::unique_ptr<Worker> worker);
  ~WorkerLoop();  // Stop()

  // Opens a link; its first message is Hello, before this returns. `send` runs on the loop's
  // threads, must not block, and may still be called once after Disconnected: let it own what it
  // touches. 0: the loop has stopped.
  LinkId Attach(Worker::Send send);
  // False when the mailbox is full or the loop has stopped: the caller should break the stream.
  bool Submit(LinkId link, ToWorker message);
  void Disconnected(LinkId link) { worker_->links().Detach(link); }
  // The link whose scheduler holds the worker; 0: none.
  LinkId holder() const { return worker_->links().holder(); }
  // Ends what runs (a step at its next layer, joining and exchanging at once, reading experts at
  // the next one), then the loop. Idempotent.
  void Stop();

  absl::Time last_progress() const { return worker_->last_progress(); }
  ResidencyStats residency() const { return worker_->residency(); }

 private:
  struct Received {
    LinkId link;
    ToWorker message;
    std::stop_token epoch;  // of a Form
  };

  void Run();
  void SayAlive();

  const std::unique_ptr<Worker> worker_;
  Mailbox<Received> mailbox_;
  Mailbox<std::monostate> alive_end_;  // only ever closed
  std::atomic<LinkId> next_link_{1};
  std::mutex stop_mutex_;
  std::thread thread_, alive_thread_;  // joined under stop_mutex_
};

}  // namespace pregate
