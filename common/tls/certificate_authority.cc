#include "common/tls/certificate_authority.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr int kSerialBytes = 16;
constexpr size_t kNameBytesMax = 64;  // X.520's bound of a common name
constexpr size_t kHostBytesMax = 253;

absl::Status Failed(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", TakeOpenSslError()));
}

KeyPtr NewKey() { return KeyPtr(EVP_EC_gen("P-256")); }

absl::Status SetSerial(X509* certificate) {
  unsigned char bytes[kSerialBytes];
  if (RAND_bytes(bytes, sizeof(bytes)) != 1) return Failed("random serial");
  bytes[0] = (bytes[0] & 0x7f) | 0x40;  // positive, and always as long
  using NumberPtr = std::unique_ptr<BIGNUM, OpenSslDeleter<BN_free>>;
  const NumberPtr number(BN_bin2bn(bytes, sizeof(bytes), nullptr));
  BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate));
  return absl::OkStatus();
}

absl::Status SetSubject(X509* certificate, const std::string& common_name) {
  X509_NAME* const name = X509_get_subject_name(certificate);
  const auto add = [name](const char* field, const std::string& value) {
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(value.data()),
                                      static_cast<int>(value.size()), -1, 0) == 1;
  };
  if (common_name.empty() || common_name.size() > kNameBytesMax || !add("O", "pregate") ||
      !add("CN", common_name)) {
    TakeOpenSslError();
    return absl::InvalidArgumentError(absl::StrCat("common name '", common_name, "'"));
  }
  return absl::OkStatus();
}

void SetTimes(X509* certificate, absl::Time not_before, absl::Time not_after) {
  ASN1_TIME_set(X509_getm_notBefore(certificate), absl::ToTimeT(not_before));
  ASN1_TIME_set(X509_getm_notAfter(certificate), absl::ToTimeT(not_after));
}

absl::Status AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  using ExtensionPtr = std::unique_ptr<X509_EXTENSION, OpenSslDeleter<X509_EXTENSION_free>>;
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    TakeOpenSslError();
    return absl::InvalidArgumentError(
        absl::StrCat("certificate extension ", OBJ_nid2sn(nid), " '", value, "'"));
  }
  return absl::OkStatus();
}

bool IsIpAddress(const std::string& host) {
  unsigned char address[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), address) == 1;
}

bool IsDnsName(const std::string& host) {
  bool good = !host.empty() && host.size() <= kHostBytesMax;
  for (const char c : host)
    good &= absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_' || c == '*';
  return good;
}

// A name is put into OpenSSL's configuration syntax, in which ',' and ':' mean something.
absl::StatusOr<std::string> SubjectAlternativeNames(const LeafRequest& request) {
  std::string names;
  const auto add = [&names](absl::string_view kind, const std::string& name) {
    absl::StrAppend(&names, names.empty() ? "" : ",", kind, ":", name);
  };
  for (const std::string& uri : request.uris) {
    if (uri.find_first_of(", \n\t\"\\#;$@") != std::string::npos || uri.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("URI name '", uri, "'"));
    }
    add("URI", uri);
  }
  for (const std::string& host : request.hosts) {
    if (IsIpAddress(host)) {
      add("IP", host);
    } else if (IsDnsName(host)) {
      add("DNS", host);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("host '", host, "' is neither a DNS name nor an IP address"));
    }
  }
  return names;
}

absl::Status Sign(X509* certificate, EVP_PKEY* key) {
  return X509_sign(certificate, key, EVP_sha256()) > 0 ? absl::OkStatus() : Failed("signing");
}

absl::StatusOr<X509Ptr> Begin(const std::string& common_name, EVP_PKEY* key) {
  X509Ptr certificate(X509_new());
  if (certificate == nullptr || key == nullptr) return Failed("a new key");
  X509_set_version(certificate.get(), X509_VERSION_3);
  RETURN_IF_ERROR(SetSerial(certificate.get()));
  RETURN_IF_ERROR(SetSubject(certificate.get(), common_name));
  X509_set_pubkey(certificate.get(), key);
  return certificate;
}

}  // namespace

absl::StatusOr<CertificateAuthority> CertificateAuthority::Make(const std::string& common_name,
                                                                absl::Time not_before,
                                                                absl::Time not_after) {
  KeyPtr key = NewKey();
  ASSIGN_OR_RETURN(X509Ptr own, Begin(common_name, key.get()));
  X509* const certificate = own.get();
  SetTimes(certificate, not_before, not_after);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  RETURN_IF_ERROR(
      AddExtension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  RETURN_IF_ERROR(
      AddExtension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign"));
  RETURN_IF_ERROR(AddExtension(certificate, certificate, NID_subject_key_identifier, "hash"));
  RETURN_IF_ERROR(Sign(certificate, key.get()));
  return CertificateAuthority(std::move(own), std::move(key));
}

absl::StatusOr<CertificateAuthority> CertificateAuthority::Parse(absl::string_view certificate_pem,
                                                                 absl::string_view key_pem) {
  ASSIGN_OR_RETURN(std::vector<X509Ptr> certificates, ParseCertificates(certificate_pem));
  ASSIGN_OR_RETURN(KeyPtr key, ParsePrivateKey(key_pem));
  // After a rotation the file is a bundle: the one that fits the key issues.
  for (X509Ptr& certificate : certificates) {
    if (X509_check_private_key(certificate.get(), key.get()) != 1) continue;
    if (X509_check_ca(certificate.get()) == 0) {
      return absl::InvalidArgumentError("the certificate is no authority's");
    }
    return CertificateAuthority(std::move(certificate), std::move(key));
  }
  TakeOpenSslError();
  return absl::InvalidArgumentError("no certificate fits the authority's key");
}

absl::StatusOr<IssuedPem> CertificateAuthority::Issue(const LeafRequest& request) const {
  const KeyPtr key = NewKey();
  ASSIGN_OR_RETURN(const X509Ptr leaf, Begin(request.common_name, key.get()));
  X509* const certificate = leaf.get();
  SetTimes(certificate, request.not_before, request.not_after);
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate_.get()));
  const auto add = [&](int nid, const std::string& value) {
    return AddExtension(certificate, certificate_.get(), nid, value);
  };
  RETURN_IF_ERROR(add(NID_basic_constraints, "critical,CA:FALSE"));
  RETURN_IF_ERROR(add(NID_key_usage, "critical,digitalSignature"));
  if (!request.extended_key_usage.empty()) {
    RETURN_IF_ERROR(add(NID_ext_key_usage, request.extended_key_usage));
  }
  RETURN_IF_ERROR(add(NID_subject_key_identifier, "hash"));
  RETURN_IF_ERROR(add(NID_authority_key_identifier, "keyid:always"));
  ASSIGN_OR_RETURN(const std::string names, SubjectAlternativeNames(request));
  if (!names.empty()) RETURN_IF_ERROR(add(NID_subject_alt_name, names));
  RETURN_IF_ERROR(Sign(certificate, key_.get()));
  return IssuedPem{pregate::ToPem(certificate), pregate::ToPem(key.get())};
}

IssuedPem CertificateAuthority::ToPem() const {
  return {pregate::ToPem(certificate_.get()), pregate::ToPem(key_.get())};
}

}  // namespace pregate
