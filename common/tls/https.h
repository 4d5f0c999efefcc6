// TLS for an HTTP server that demands a client certificate, with certificates that rotate while it
// runs.
#pragma once

#include <openssl/ssl.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/tls/openssl.h"
#include "common/tls/tls_gate.h"

namespace pregate {

using SslContextPtr = std::unique_ptr<SSL_CTX, OpenSslDeleter<SSL_CTX_free>>;

// Each connection takes the files as they are then. Handshakes that are refused are logged. `gate`
// outlives the context.
absl::StatusOr<SslContextPtr> MakeHttpsContext(const TlsGate* gate);

// OK or PERMISSION_DENIED, logged: whether the peer of a connection of that context may make
// `call`, "GET /path", by the access table.
absl::Status CheckHttpAccess(const TlsGate& gate, const SSL* peer, absl::string_view call);

// Logs why a connection was given up.
void NoteHttpsRefusal(const TlsGate& gate, absl::string_view reason);

}  // namespace pregate
