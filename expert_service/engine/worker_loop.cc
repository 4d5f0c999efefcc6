#include "expert_service/engine/worker_loop.h"

#include <utility>
#include <vector>

#include "common/base/limits.h"

namespace pregate {

WorkerLoop::WorkerLoop(std::unique_ptr<Worker> worker)
    : worker_(std::move(worker)),
      mailbox_(kWorkerInboxMessages),
      alive_end_(1),
      thread_([this] { Run(); }),
      alive_thread_([this] { SayAlive(); }) {}

WorkerLoop::~WorkerLoop() { Stop(); }

LinkId WorkerLoop::Attach(Worker::Send send) {
  if (mailbox_.closed()) return 0;
  const LinkId link = next_link_++;
  worker_->links().Attach(link, std::move(send));
  return link;
}

bool WorkerLoop::Submit(LinkId link, ToWorker message) {
  if (mailbox_.closed()) return false;
  std::optional<std::stop_token> epoch = worker_->links().Arrive(link, message);
  return !epoch || mailbox_.Push({link, std::move(message), *std::move(epoch)});
}

void WorkerLoop::Stop() {
  mailbox_.Close();
  alive_end_.Close();
  worker_->links().Close();
  std::lock_guard lock(stop_mutex_);
  if (thread_.joinable()) thread_.join();
  if (alive_thread_.joinable()) alive_thread_.join();
}

void WorkerLoop::Run() {
  while (!mailbox_.closed()) {
    std::vector<Received> messages = mailbox_.Wait(worker_->heartbeat_period());
    if (messages.empty()) worker_->Heartbeat();
    for (Received& m : messages) worker_->Handle(m.link, std::move(m.message), std::move(m.epoch));
  }
}

void WorkerLoop::SayAlive() {
  while (!alive_end_.closed()) {
    alive_end_.Wait(absl::Milliseconds(kWorkerAliveMs));
    worker_->SendAlive();
  }
}

}  // namespace pregate
