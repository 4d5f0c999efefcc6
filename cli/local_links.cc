#include "cli/local_links.h"

#include <utility>

namespace pregate::cli {

void ClosablePush::operator()(EngineEvent event) {
  absl::MutexLock lock(&mutex_);
  if (push_) push_(std::move(event));
}

void ClosablePush::Close() {
  absl::MutexLock lock(&mutex_);
  push_ = nullptr;
}

LocalWorkerLink::LocalWorkerLink(int32_t rank, WorkerPort* worker, PushEvent push)
    : rank_(rank), worker_(worker), push_(std::make_shared<ClosablePush>(std::move(push))) {
  link_ = worker_->Attach([push = push_, rank](FromWorker message) {
    (*push)(WorkerEvent{rank, std::move(message)});
  });
}

LocalWorkerLink::~LocalWorkerLink() {
  worker_->Disconnected(link_);
  push_->Close();
}

void LocalWorkerLink::Send(ToWorker message) {
  if (!worker_->Submit(link_, std::move(message))) {
    (*push_)(WorkerDown{rank_, "the worker's mailbox is full or closed"});
  }
}

LocalRouterLink::LocalRouterLink(RouterEngine* engine, PushEvent push)
    : engine_(engine), push_(std::make_shared<ClosablePush>(std::move(push))) {
  connection_ = engine_->Connect(
      [push = push_](FromRouter message) { (*push)(RouterEvent{std::move(message)}); });
}

LocalRouterLink::~LocalRouterLink() {
  engine_->Disconnect(connection_);
  push_->Close();
}

void LocalRouterLink::Send(ToRouter message) {
  if (!engine_->Submit(connection_, std::move(message))) {
    (*push_)(RouterDown{"the router's mailbox is full or closed"});
  }
}

}  // namespace pregate::cli
