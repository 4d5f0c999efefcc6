#include "expert_service/edge/attach_service.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/worker_codec.h"

namespace pregate {
namespace {

const absl::Status& Draining() {
  static const auto* status = new absl::Status(absl::UnavailableError("the worker is stopping"));
  return *status;
}

}  // namespace

ServerBytesReactor* AttachService::Attach(grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<Stream>();
  const LinkId link = peer_->Attach(
      [stream](const FromWorker& message) { stream->Send(EncodeFromWorker(message)); });
  stream->Begin({.on_message = [this, link](const v1::AttachRequest& request) -> absl::Status {
                   ASSIGN_OR_RETURN(ToWorker message, DecodeToWorker(request));
                   if (peer_->Submit(link, std::move(message))) return absl::OkStatus();
                   return absl::ResourceExhaustedError("the worker's inbox is full");
                 },
                 .on_closed =
                     [this, link, tell_end = self_told_.Begin(*context)](const absl::Status& why) {
                       tell_end();
                       peer_->Detach(link);
                       if (faults_ != nullptr && absl::IsInvalidArgument(why)) {
                         faults_->Add("ExpertWorker.Attach", why.message());
                       }
                     }});
  Register(link, stream);
  return stream.get();
}

grpc::ServerUnaryReactor* AttachService::Meet(grpc::CallbackServerContext* context,
                                              const v1::MeetRequest* request,
                                              v1::MeetResponse* response) {
  if (meet_ == nullptr) {
    return WithCallbackMethod_Meet<v1::ExpertWorker::Service>::Meet(context, request, response);
  }
  return meet_->Meet(request, response);
}

void AttachService::Register(LinkId link, const std::shared_ptr<Stream>& stream) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return stream->Close(Draining());
  MakeRoom();
  open_.push_back({link, stream});
}

void AttachService::MakeRoom() {
  std::erase_if(open_, [](const Open& open) { return open.stream.expired(); });
  if (open_.size() < static_cast<size_t>(kWorkerLinksMax)) return;
  const LinkId holder = peer_->holder();
  const auto oldest = std::find_if(open_.begin(), open_.end(),
                                   [&](const Open& open) { return open.link != holder; });
  if (const auto stream = oldest->stream.lock()) {
    stream->Close(absl::AbortedError(
        absl::StrCat("a newer scheduler stream took its place: at most ", kWorkerLinksMax)));
  }
  open_.erase(oldest);
}

void AttachService::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  for (const Open& open : open_) {
    if (const auto stream = open.stream.lock()) stream->Close(Draining());
  }
}

}  // namespace pregate
