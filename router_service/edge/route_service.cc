#include "router_service/edge/route_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/router_codec.h"

namespace pregate {
namespace {

absl::Status Stopping() { return absl::UnavailableError("the router is stopping"); }

}  // namespace

ServerBytesReactor* RouteService::Route(grpc::CallbackServerContext* context) {
  auto stream = std::make_shared<Stream>();
  const auto tell_end = self_told_.Begin(*context);
  if (const absl::Status status = Admit(stream); !status.ok()) {
    stream->Begin({.on_message = [status](const v1::RouteRequest&) { return status; },
                   .on_closed = [tell_end](const absl::Status&) { tell_end(); }});
    stream->Close(status);
    return stream.get();
  }
  const LinkId link = peer_->Attach(
      [stream](const FromRouter& message) { stream->Send(EncodeFromRouter(message)); });
  stream->Begin({.on_message = [this, link](const v1::RouteRequest& request) -> absl::Status {
                   ASSIGN_OR_RETURN(ToRouter message, DecodeToRouter(request));
                   if (peer_->Submit(link, std::move(message))) return absl::OkStatus();
                   return absl::ResourceExhaustedError("the router's inbox is full or closed");
                 },
                 .on_closed =
                     [this, link, tell_end, raw = stream.get()](const absl::Status& why) {
                       tell_end();
                       peer_->Detach(link);
                       if (faults_ != nullptr && absl::IsInvalidArgument(why)) {
                         faults_->Add("Router.Route", why.message());
                       }
                       Forget(raw);
                     }});
  return stream.get();
}

absl::Status RouteService::Admit(const std::shared_ptr<Stream>& stream) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return Stopping();
  if (static_cast<int>(streams_.size()) >= streams_max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("streams: ", streams_.size(), " are open, the limit is ", streams_max_));
  }
  streams_[stream.get()] = stream;
  return absl::OkStatus();
}

void RouteService::Forget(const Stream* stream) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(stream);
}

void RouteService::Drain() {
  std::vector<std::shared_ptr<Stream>> open;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    for (const auto& [raw, stream] : streams_) open.push_back(stream.lock());
  }
  // Outside of the lock: a stream that ends calls Forget.
  for (const auto& stream : open) {
    if (stream != nullptr) stream->Close(Stopping());
  }
}

}  // namespace pregate
