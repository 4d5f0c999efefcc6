#include "common/tls/https.h"

#include <openssl/err.h>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/tls/access_table.h"
#include "common/tls/peer_check.h"

namespace pregate {
namespace {

constexpr char kWhere[] = "https";

// Before the server's certificate is chosen: this connection gets the current files.
int UseCurrentFiles(SSL* ssl, void* arg) {
  const auto material = static_cast<const TlsGate*>(arg)->files->Taken();
  const bool used = SSL_use_certificate(ssl, material->certificate.get()) == 1 &&
                    SSL_use_PrivateKey(ssl, material->key.get()) == 1 &&
                    SSL_clear_chain_certs(ssl) == 1;
  bool chained = used;
  for (const X509Ptr& next : material->intermediates) {
    chained = chained && SSL_add1_chain_cert(ssl, next.get()) == 1;
  }
  return chained ? 1 : 0;
}

// In place of OpenSSL's own verification: the same check as on every other port.
int Verify(X509_STORE_CTX* context, void* arg) {
  const auto* const gate = static_cast<const TlsGate*>(arg);
  const auto material = gate->files->Taken();
  X509* const certificate = X509_STORE_CTX_get0_cert(context);
  absl::Status status =
      CheckChain(*material, certificate, X509_STORE_CTX_get0_untrusted(context), PeerUse::kClient);
  if (status.ok()) status = RoleOf(*material, certificate).status();
  X509_STORE_CTX_set_error(context, status.ok() ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
  if (!status.ok()) gate->refusals->Add(kWhere, status.message());
  return status.ok() ? 1 : 0;
}

// Not OpenSSL's app data, in which Boost.Asio keeps its own.
int GateIndex() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// What OpenSSL refuses without asking Verify: no certificate, plain HTTP, no common cipher.
void NoteEnd(const SSL* ssl, int where, int result) {
  if ((where & SSL_CB_EXIT) == 0 || result > 0) return;
  const unsigned long error = ERR_peek_last_error();
  if (error == 0 || ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED) return;
  const char* const reason = ERR_reason_error_string(error);
  const auto* const gate =
      static_cast<const TlsGate*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), GateIndex()));
  NoteHttpsRefusal(*gate, absl::StrCat("handshake: ", reason == nullptr ? "failed" : reason));
}

}  // namespace

absl::StatusOr<SslContextPtr> MakeHttpsContext(const TlsGate* gate) {
  void* const arg = const_cast<TlsGate*>(gate);
  SslContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("HTTPS: " + TakeOpenSslError());
  SSL_CTX* const ctx = context.get();
  SSL_CTX_set_ex_data(ctx, GateIndex(), arg);
  SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
  SSL_CTX_set_cert_cb(ctx, UseCurrentFiles, arg);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(ctx, Verify, arg);
  SSL_CTX_set_info_callback(ctx, NoteEnd);
  // A resumed session would skip Verify.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 0);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  return context;
}

absl::Status CheckHttpAccess(const TlsGate& gate, const SSL* peer, absl::string_view call) {
  const X509Ptr certificate(SSL_get1_peer_certificate(peer));
  if (certificate == nullptr) return absl::PermissionDeniedError("no client certificate");
  absl::StatusOr<Role> role = RoleOf(*gate.files->Taken(), certificate.get());
  absl::Status status = role.ok() ? CheckAccess(*role, call) : role.status();
  if (!status.ok()) NoteHttpsRefusal(gate, status.message());
  return status;
}

void NoteHttpsRefusal(const TlsGate& gate, absl::string_view reason) {
  gate.refusals->Add(kWhere, reason);
}

}  // namespace pregate
