#include "common/tls/tls_material.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/tls/peer_check.h"

namespace pregate {

absl::StatusOr<std::string> ReadPemFile(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(std::strerror(errno));
  std::string bytes(kTlsFileBytesMax + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(in.gcount());
  if (bytes.size() > static_cast<size_t>(kTlsFileBytesMax)) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kTlsFileBytesMax, " bytes"));
  }
  if (bytes.empty()) return absl::InvalidArgumentError("is empty or no file");
  return std::string(WithoutByteOrderMark(bytes));
}

namespace {

constexpr int kReadsMax = 3;

absl::Status AtFault(const std::string& dir, absl::string_view file, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--tls-dir: ", dir, "/", file, ": ", why));
}

absl::StatusOr<std::string> Read(const std::string& dir, const char* file) {
  absl::StatusOr<std::string> bytes = ReadPemFile(absl::StrCat(dir, "/", file));
  if (!bytes.ok()) return AtFault(dir, file, bytes.status().message());
  return bytes;
}

absl::StatusOr<TlsPem> ReadOnce(const std::string& dir) {
  TlsPem pem;
  ASSIGN_OR_RETURN(pem.certificate, Read(dir, kTlsCertificateFile));
  ASSIGN_OR_RETURN(pem.key, Read(dir, kTlsKeyFile));
  ASSIGN_OR_RETURN(pem.authority, Read(dir, kTlsAuthorityFile));
  return pem;
}

absl::StatusOr<X509StorePtr> MakeTrust(const std::vector<X509Ptr>& authorities) {
  X509StorePtr store(X509_STORE_new());
  for (const X509Ptr& authority : authorities) {
    if (X509_STORE_add_cert(store.get(), authority.get()) != 1) {
      return absl::InvalidArgumentError(TakeOpenSslError());
    }
  }
  return store;
}

absl::Status CheckOwn(const TlsMaterial& own) {
  if (X509_check_private_key(own.certificate.get(), own.key.get()) != 1) {
    TakeOpenSslError();
    return absl::InvalidArgumentError(
        absl::StrCat("the certificate does not fit the key in ", kTlsKeyFile));
  }
  // A service is a client too: of its peers, or of its own health probe.
  for (const PeerUse use : {PeerUse::kServer, PeerUse::kClient}) {
    RETURN_IF_ERROR(CheckChain(own, own.certificate.get(), own.intermediates, use));
  }
  return absl::OkStatus();
}

}  // namespace

void DeclareTlsOptions(OptionSet& set, TlsOptions* options) {
  set.Group("TLS");
  set.String("tls-dir", &options->dir,
             "Directory with tls.crt, tls.key and ca.crt: all connections are mutual TLS; empty: "
             "plaintext, on loopback and unix sockets only");
  set.String("tls-trust-domain", &options->trust_domain,
             "Trust domain of all certificates' spiffe://TRUST_DOMAIN/pregate/ROLE");
  set.Group();
}

// The three are replaced at once, but read one by one: twice the same is of one version.
absl::StatusOr<TlsPem> ReadTlsDir(const std::string& dir) {
  ASSIGN_OR_RETURN(TlsPem pem, ReadOnce(dir));
  for (int i = 0; i < kReadsMax; ++i) {
    ASSIGN_OR_RETURN(TlsPem again, ReadOnce(dir));
    if (again == pem) break;
    pem = std::move(again);
  }
  return pem;
}

absl::StatusOr<TlsMaterial> ParseTlsMaterial(const TlsPem& pem, const TlsOptions& options) {
  if (absl::Status bad = CheckTrustDomain(options.trust_domain); !bad.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--tls-trust-domain: ", bad.message()));
  }
  const auto at_fault = [&options](const char* file, const absl::Status& why) {
    return AtFault(options.dir, file, why.message());
  };
  TlsMaterial material;
  material.pem = pem;
  material.trust_domain = options.trust_domain;
  auto certificates = ParseCertificates(pem.certificate);
  if (!certificates.ok()) return at_fault(kTlsCertificateFile, certificates.status());
  material.certificate = std::move(certificates->front());
  certificates->erase(certificates->begin());
  material.intermediates = *std::move(certificates);
  auto key = ParsePrivateKey(pem.key);
  if (!key.ok()) return at_fault(kTlsKeyFile, key.status());
  material.key = *std::move(key);
  auto authorities = ParseCertificates(pem.authority);
  if (!authorities.ok()) return at_fault(kTlsAuthorityFile, authorities.status());
  material.authorities = *std::move(authorities);
  auto trust = MakeTrust(material.authorities);
  if (!trust.ok()) return at_fault(kTlsAuthorityFile, trust.status());
  material.trust = *std::move(trust);
  if (absl::Status bad = CheckOwn(material); !bad.ok()) return at_fault(kTlsCertificateFile, bad);
  const auto role = RoleOf(material, material.certificate.get());
  if (!role.ok()) return at_fault(kTlsCertificateFile, role.status());
  material.role = *role;
  return material;
}

}  // namespace pregate
