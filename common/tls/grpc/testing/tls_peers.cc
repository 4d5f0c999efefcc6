#include "common/tls/grpc/testing/tls_peers.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/server_stream.h"
#include "common/tls/certs_dir.h"

namespace pregate::testing {
namespace {

template <typename Request, typename Response>
ServerBytesReactor* Echo() {
  auto stream = std::make_shared<ServerStream<Request, Response>>();
  auto* const raw = stream.get();
  raw->Begin({.on_message =
                  [raw](const Request&) {
                    raw->Send(Response());
                    return absl::OkStatus();
                  },
              .on_closed = [](const absl::Status&) {}});
  return raw;
}

grpc::ServerUnaryReactor* Ok(grpc::CallbackServerContext* context) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

class EmptyStream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  EmptyStream() { Finish(grpc::Status::OK); }
  void OnDone() override { delete this; }
};

}  // namespace

TlsPeer::TlsPeer(const TlsPem& pem) {
  std::string name = (std::filesystem::temp_directory_path() / "pregate-peer-XXXXXX").string();
  dir_ = mkdtemp(name.data());
  PREGATE_CHECK(WriteTlsDir(dir_, pem).ok());
  log_ = std::make_unique<Log>("peer", LogOptions{}, [this](absl::string_view line) {
    absl::MutexLock lock(&mutex_);
    lines_.emplace_back(line);
  });
  auto security = Security::Load({.dir = dir_}, RoleSet::All(), log_.get(), &clock_);
  PREGATE_CHECK(security.ok(), "", security.status().message());
  security_ = *std::move(security);
}

TlsPeer::~TlsPeer() { std::filesystem::remove_all(dir_); }

bool TlsPeer::Logged(const std::string& text, absl::Duration timeout) const {
  const auto has = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const std::string& line : lines_) {
      if (absl::StrContains(line, text)) return true;
    }
    return false;
  };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&has), timeout);
}

std::string TlsPeer::Lines() const {
  absl::MutexLock lock(&mutex_);
  return absl::StrJoin(lines_, "\n");
}

grpc::ServerUnaryReactor* EveryService::Inference::Tokenize(grpc::CallbackServerContext* context,
                                                            const v1::TokenizeRequest*,
                                                            v1::TokenizeResponse*) {
  return Ok(context);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* EveryService::Inference::Generate(
    grpc::CallbackServerContext*, const v1::GenerateRequest*) {
  return new EmptyStream;
}

ServerBytesReactor* EveryService::Router::Route(grpc::CallbackServerContext*) {
  return Echo<v1::RouteRequest, v1::RouteResponse>();
}

ServerBytesReactor* EveryService::Worker::Attach(grpc::CallbackServerContext*) {
  return Echo<v1::AttachRequest, v1::AttachResponse>();
}

grpc::ServerUnaryReactor* EveryService::Worker::Meet(grpc::CallbackServerContext* context,
                                                     const v1::MeetRequest*, v1::MeetResponse*) {
  return Ok(context);
}

std::unique_ptr<RpcServer> Serve(EveryService& service, const TlsPeer& peer,
                                 const Address& listen) {
  auto server = RpcServer::Start({.listen = listen,
                                  .message_bytes_max = kServiceMessageBytesMax,
                                  .security = &peer.security()},
                                 service.services(), [] { return true; });
  PREGATE_CHECK(server.ok(), "", server.status().message());
  return *std::move(server);
}

}  // namespace pregate::testing
