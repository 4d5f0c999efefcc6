#include "common/tls/peer_check.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, OpenSslDeleter<X509_STORE_CTX_free>>;

// What OpenSSL itself sets for a handshake, which asks "ssl_client" of clients' certificates.
void Demand(X509_STORE_CTX* context, PeerUse use) {
  X509_STORE_CTX_set_default(context, use == PeerUse::kServer ? "ssl_server" : "ssl_client");
  X509_VERIFY_PARAM* const param = X509_STORE_CTX_get0_param(context);
  X509_VERIFY_PARAM_set_auth_level(param, kTlsSecurityLevel);
  // ca.crt is what is trusted, whether or not it signed itself.
  X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
}

std::string ValidityOf(int error, X509* certificate) {
  const auto day = [](absl::Time t) {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", t, absl::UTCTimeZone());
  };
  if (error == X509_V_ERR_CERT_HAS_EXPIRED) return absl::StrCat(" on ", day(NotAfter(certificate)));
  if (error == X509_V_ERR_CERT_NOT_YET_VALID) {
    return absl::StrCat(" before ", day(NotBefore(certificate)));
  }
  return "";
}

absl::Status WhyNot(X509_STORE_CTX* context, X509* certificate) {
  const int error = X509_STORE_CTX_get_error(context);
  X509* const at = X509_STORE_CTX_get_current_cert(context);
  X509* const fault = at == nullptr ? certificate : at;
  return absl::UnauthenticatedError(absl::StrCat(X509_verify_cert_error_string(error),
                                                 ValidityOf(error, fault), " (subject ",
                                                 Shown(SubjectOf(fault)), ")"));
}

// OpenSSL takes a certificate that names no use for one of every use.
absl::Status CheckUsesAreNamed(X509* certificate) {
  if ((X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0) return absl::OkStatus();
  return absl::UnauthenticatedError(
      absl::StrCat("certificate names no extended key usage, serverAuth and clientAuth are needed "
                   "(subject ",
                   Shown(SubjectOf(certificate)), ")"));
}

}  // namespace

absl::Status CheckChain(const TlsMaterial& trusting, X509* certificate,
                        STACK_OF(X509) * intermediates, PeerUse use) {
  const StoreContextPtr context(X509_STORE_CTX_new());
  PREGATE_CHECK(context != nullptr && X509_STORE_CTX_init(context.get(), trusting.trust.get(),
                                                          certificate, intermediates) == 1);
  Demand(context.get(), use);
  if (X509_verify_cert(context.get()) == 1) return CheckUsesAreNamed(certificate);
  absl::Status why = WhyNot(context.get(), certificate);
  TakeOpenSslError();  // a handshake must not find what it left
  return why;
}

absl::Status CheckChain(const TlsMaterial& trusting, X509* certificate,
                        const std::vector<X509Ptr>& intermediates, PeerUse use) {
  // The stack borrows: it is freed without what it holds.
  std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)> stack(
      sk_X509_new_null(), [](STACK_OF(X509) * s) { sk_X509_free(s); });
  for (const X509Ptr& next : intermediates) sk_X509_push(stack.get(), next.get());
  return CheckChain(trusting, certificate, stack.get(), use);
}

absl::StatusOr<Role> RoleOf(const TlsMaterial& trusting, X509* certificate) {
  ASSIGN_OR_RETURN(const std::string uri, UriNameOf(certificate));
  return ParseIdentity(uri, trusting.trust_domain);
}

absl::StatusOr<Role> CheckPeer(const TlsMaterial& trusting, absl::string_view certificate_pem,
                               absl::string_view chain_pem, PeerUse use) {
  const auto certificate = ParseCertificates(certificate_pem);
  if (!certificate.ok()) {
    return absl::UnauthenticatedError(
        absl::StrCat("the peer's certificate: ", certificate.status().message()));
  }
  auto chain = chain_pem.empty() ? std::vector<X509Ptr>() : ParseCertificates(chain_pem);
  if (!chain.ok()) {
    return absl::UnauthenticatedError(absl::StrCat("the peer's chain: ", chain.status().message()));
  }
  RETURN_IF_ERROR(CheckChain(trusting, certificate->front().get(), *chain, use));
  return RoleOf(trusting, certificate->front().get());
}

}  // namespace pregate
