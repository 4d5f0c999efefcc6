#include "expert_service/edge/attach_service.h"

#include "common/base/status.h"
#include "common/rpc/worker_codec.h"

namespace pregate {
namespace {

const absl::Status& Draining() {
  static const auto* status = new absl::Status(absl::UnavailableError("the worker is stopping"));
  return *status;
}

}  // namespace

ServerBytesReactor* AttachService::Attach(grpc::CallbackServerContext*) {
  auto stream = std::make_shared<Stream>();
  const LinkId link = port_->Attach(
      [stream](const FromWorker& message) { stream->Send(EncodeFromWorker(message)); });
  stream->Begin({.on_message = [this, link](const v1::AttachRequest& request) -> absl::Status {
                   ASSIGN_OR_RETURN(ToWorker message, DecodeToWorker(request));
                   if (port_->Submit(link, std::move(message))) return absl::OkStatus();
                   return absl::ResourceExhaustedError("the worker's inbox is full");
                 },
                 .on_closed =
                     [this, link](const absl::Status& why) {
                       port_->Disconnected(link);
                       if (faults_ != nullptr && absl::IsInvalidArgument(why)) {
                         faults_->Add("ExpertWorker.Attach", why.message());
                       }
                     }});
  MakeCurrent(stream);
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

void AttachService::MakeCurrent(const std::shared_ptr<Stream>& stream) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return stream->Close(Draining());
  if (const auto older = current_.lock()) {
    older->Close(absl::AbortedError("a newer scheduler stream took its place"));
  }
  current_ = stream;
}

void AttachService::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  if (const auto stream = current_.lock()) stream->Close(Draining());
}

}  // namespace pregate
