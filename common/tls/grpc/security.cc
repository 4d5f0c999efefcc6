#include "common/tls/grpc/security.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/tls/grpc/checks.h"
#include "common/tls/grpc/credential_files.h"

namespace pregate {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

void LogMaterial(const Log* log, absl::string_view message, const TlsMaterial& material) {
  log->Info(message, {{"role", RoleName(material.role)},
                      {"serial", SerialOf(material.certificate.get())},
                      {"not_after", absl::FormatTime(NotAfter(material.certificate.get()))},
                      {"authorities", material.authorities.size()}});
}

void LogChange(const TlsFiles::Change& change, const Log* log) {
  if (change.status.ok()) return LogMaterial(log, "tls files changed", *change.material);
  log->Error("tls files refused", {{"reason", change.status.message()}});
}

std::shared_ptr<FileWatcherCertificateProvider> Follow(const CredentialFiles& files) {
  return std::make_shared<FileWatcherCertificateProvider>(
      files.key_path(), files.certificate_path(), files.authority_path(), kTlsRefreshMs / 1000);
}

}  // namespace

struct Security::State {
  ~State();

  TlsGate gate;                            // empty: plaintext
  std::optional<CredentialFiles> checked;  // what the files held; changed under its lock
  // Hands `checked` to gRPC, and follows it on a thread of its own.
  std::shared_ptr<FileWatcherCertificateProvider> provider;
  absl::Notification stop;
  std::thread watcher;  // looks for changed files, also while nobody connects

  absl::Status OpenTls(const TlsOptions& options, RoleSet own, const Log* log, Clock* clock);
  void Watch();
};

// Copies of `gate` may live on for a moment: they must not come back here or to the log.
Security::State::~State() {
  stop.Notify();
  if (watcher.joinable()) watcher.join();
  if (gate.files != nullptr) gate.files->set_on_change(nullptr);
  if (gate.refusals != nullptr) gate.refusals->Stop();
}

void Security::State::Watch() {
  while (!stop.WaitForNotificationWithTimeout(absl::Milliseconds(kTlsRefreshMs)))
    gate.files->Current();
}

absl::Status Security::State::OpenTls(const TlsOptions& options, RoleSet own, const Log* log,
                                      Clock* clock) {
  ASSIGN_OR_RETURN(gate.files, TlsFiles::Load(options));
  const auto material = gate.files->Current();
  if (!own.Has(material->role)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--tls-dir: ", options.dir, "/", kTlsCertificateFile, ": wrong role ",
        RoleName(material->role), ", this program needs a certificate of ", own.ToString()));
  }
  LogMaterial(log, "tls", *material);
  ASSIGN_OR_RETURN(checked, CredentialFiles::Make(material->pem));
  gate.files->set_on_change(
      [log](const TlsFiles::Change& change) { LogChange(change, log); },
      [this](const TlsMaterial& fresh) { return checked->Replace(fresh.pem); });
  gate.refusals = std::make_shared<RefusalLog>(log, clock);
  provider = Follow(*checked);
  watcher = std::thread([this] { Watch(); });
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Security>> Security::Load(const TlsOptions& options, RoleSet own,
                                                         const Log* log, Clock* clock) {
  auto state = std::make_unique<State>();
  if (!options.dir.empty()) RETURN_IF_ERROR(state->OpenTls(options, own, log, clock));
  return std::unique_ptr<Security>(new Security(std::move(state)));
}

Security::Security(std::unique_ptr<State> state) : state_(std::move(state)) {}
Security::~Security() = default;

bool Security::encrypted() const { return state_->gate.files != nullptr; }
Role Security::role() const { return state_->gate.files->Taken()->role; }
const TlsGate* Security::gate() const { return encrypted() ? &state_->gate : nullptr; }

absl::StatusOr<Address> Security::ParseAddress(absl::string_view option,
                                               absl::string_view text) const {
  return ParseAddressOption(option, text, encrypted());
}

// gRPC demands a certificate and the proof of its key; whether it is to be believed is
// PeerVerifier's to say, because only so the reason is known and can be logged.
std::shared_ptr<grpc::ServerCredentials> Security::MakeServerCredentials(RoleSet clients) const {
  if (!encrypted()) return grpc::InsecureServerCredentials();
  grpc::experimental::TlsServerCredentialsOptions options(state_->provider);
  options.watch_identity_key_cert_pairs();
  options.watch_root_certs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
  options.set_certificate_verifier(MakeClientVerifier(state_->gate, clients));
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(std::make_shared<CallAuthorizer>(state_->gate));
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> Security::MakeChannelCredentials(RoleSet server) const {
  if (!encrypted()) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(state_->provider);
  options.watch_identity_key_cert_pairs();
  options.watch_root_certs();
  options.set_verify_server_certs(false);
  options.set_check_call_host(false);
  options.set_certificate_verifier(MakeServerVerifier(state_->gate, server));
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace pregate
