// OpenSSL's objects with owners, its errors as text, and PEM from strings. The only place besides
// certificate_authority.cc and peer_check.cc that speaks libcrypto's dialect.
#pragma once

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pregate {

template <auto free>
struct OpenSslDeleter {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
inline void FreeCertificates(STACK_OF(X509) * stack) { sk_X509_pop_free(stack, X509_free); }

using X509Ptr = std::unique_ptr<X509, OpenSslDeleter<X509_free>>;
using X509StackPtr = std::unique_ptr<STACK_OF(X509), OpenSslDeleter<FreeCertificates>>;
using X509StorePtr = std::unique_ptr<X509_STORE, OpenSslDeleter<X509_STORE_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpenSslDeleter<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, OpenSslDeleter<BIO_free_all>>;

// What the calling thread's error queue says last, which it empties; "unknown error" if nothing.
std::string TakeOpenSslError();

// All certificates of a PEM text, in order; other blocks are skipped. INVALID_ARGUMENT when there
// is none, more than kTlsCertificatesMax, or one that does not parse.
absl::StatusOr<std::vector<X509Ptr>> ParseCertificates(absl::string_view pem);
// The first private key; one under a passphrase is refused.
absl::StatusOr<KeyPtr> ParsePrivateKey(absl::string_view pem);

std::string ToPem(X509* certificate);
std::string ToPem(EVP_PKEY* key);  // PKCS#8, no passphrase

std::string SubjectOf(X509* certificate);      // "CN=router,O=pregate"
std::string FingerprintOf(X509* certificate);  // SHA-256 of the DER, 64 hex digits
std::string SerialOf(X509* certificate);       // hex
absl::Time NotBefore(X509* certificate);
absl::Time NotAfter(X509* certificate);

// The one URI name of a certificate. PERMISSION_DENIED when it has none or several.
absl::StatusOr<std::string> UriNameOf(X509* certificate);

}  // namespace pregate
