#include "common/tls/openssl.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

BioPtr ReadOnly(absl::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string Drain(const BioPtr& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, size);
}

int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Time ToTime(const ASN1_TIME* asn1) {
  std::tm tm = {};
  if (ASN1_TIME_to_tm(asn1, &tm) != 1) return absl::InfinitePast();
  return absl::FromTM(tm, absl::UTCTimeZone());
}

}  // namespace

std::string TakeOpenSslError() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown error" : reason;
}

absl::StatusOr<std::vector<X509Ptr>> ParseCertificates(absl::string_view pem) {
  ERR_clear_error();
  const BioPtr bio = ReadOnly(pem);
  std::vector<X509Ptr> certificates;
  while (X509Ptr next{PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)}) {
    if (certificates.size() >= static_cast<size_t>(kTlsCertificatesMax)) {
      return absl::InvalidArgumentError(
          absl::StrCat("holds more than ", kTlsCertificatesMax, " certificates"));
    }
    certificates.push_back(std::move(next));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = TakeOpenSslError();
  if (!at_end) {
    return absl::InvalidArgumentError(
        absl::StrCat("certificate ", certificates.size() + 1, " does not parse: ", why));
  }
  if (certificates.empty()) return absl::InvalidArgumentError("holds no certificate in PEM");
  return certificates;
}

absl::StatusOr<KeyPtr> ParsePrivateKey(absl::string_view pem) {
  ERR_clear_error();
  const BioPtr bio = ReadOnly(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  const std::string why = TakeOpenSslError();
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("holds no private key in PEM without passphrase: ", why));
  }
  return key;
}

std::string ToPem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PREGATE_CHECK(PEM_write_bio_X509(bio.get(), certificate) == 1, "OpenSSL: ", TakeOpenSslError());
  return Drain(bio);
}

std::string ToPem(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PREGATE_CHECK(
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
      "OpenSSL: ", TakeOpenSslError());
  return Drain(bio);
}

std::string SubjectOf(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  return Drain(bio);
}

std::string FingerprintOf(X509* certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  PREGATE_CHECK(X509_digest(certificate, EVP_sha256(), digest, &size) == 1,
                "OpenSSL: ", TakeOpenSslError());
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), size));
}

std::string SerialOf(X509* certificate) {
  const ASN1_INTEGER* const serial = X509_get0_serialNumber(certificate);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(serial->data), serial->length));
}

absl::Time NotBefore(X509* certificate) { return ToTime(X509_get0_notBefore(certificate)); }
absl::Time NotAfter(X509* certificate) { return ToTime(X509_get0_notAfter(certificate)); }

absl::StatusOr<std::string> UriNameOf(X509* certificate) {
  using NamesPtr = std::unique_ptr<GENERAL_NAMES, OpenSslDeleter<GENERAL_NAMES_free>>;
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> uris;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
    uris.emplace_back(reinterpret_cast<const char*>(uri->data), uri->length);
  }
  if (uris.size() == 1) return uris.front();
  return absl::PermissionDeniedError(
      absl::StrCat("the certificate has ", uris.empty() ? "no" : std::to_string(uris.size()),
                   " URI name", uris.size() == 1 ? "" : "s",
                   " (subject alternative name), not one spiffe://TRUST_DOMAIN/pregate/ROLE"));
}

}  // namespace pregate
