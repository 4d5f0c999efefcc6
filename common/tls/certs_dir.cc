#include "common/tls/certs_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/process.h"
#include "common/base/remove_on_signal.h"
#include "common/base/status.h"
#include "common/tls/certificate_authority.h"
#include "common/tls/tls_material.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3652);
constexpr absl::Duration kClockSkew = absl::Minutes(5);  // of machines that compare notBefore
constexpr char kAuthorityKeyFile[] = "ca.key";
constexpr char kData[] = "..data";
constexpr const char* kFiles[] = {kTlsKeyFile, kTlsCertificateFile, kTlsAuthorityFile};
constexpr mode_t kSecretMode = 0600, kPublicMode = 0644;

absl::Status Failed(const std::string& path, int error) {
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(error)));
}

// Whose a role's files are; nullopt where there is no key yet.
using Owner = std::optional<std::pair<uid_t, gid_t>>;

Owner OwnerOf(const std::string& file) {
  struct stat status = {};
  if (stat(file.c_str(), &status) != 0) return std::nullopt;
  return std::pair(status.st_uid, status.st_gid);
}

// Gives the file or directory of `fd` to `owner`. Another group alone is no reason to fail: keys
// are their user's only.
absl::Status Give(int fd, const std::string& path, const Owner& owner) {
  struct stat status = {};
  if (fstat(fd, &status) != 0) return Failed(path, errno);
  if (!owner || *owner == std::pair(status.st_uid, status.st_gid)) return absl::OkStatus();
  const auto [uid, gid] = *owner;
  if (fchown(fd, uid, gid) == 0 || uid == status.st_uid) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(path, ": the file before it belongs to uid ", uid, ", which uid ", geteuid(),
                   " may not give files to: ", std::strerror(errno)));
}

absl::Status WriteFile(const std::string& path, absl::string_view bytes, mode_t mode,
                       const Owner& owner = std::nullopt) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return Failed(path, errno);
  absl::Status status = Give(fd, path, owner);
  if (status.ok() && (write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
                      fsync(fd) != 0)) {
    status = Failed(path, errno);
  }
  close(fd);
  return status;
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  absl::StatusOr<std::string> bytes = ReadPemFile(path);
  if (bytes.ok()) return bytes;
  return absl::Status(bytes.status().code(), absl::StrCat(path, ": ", bytes.status().message()));
}

absl::Status MakeDirectory(const std::string& path, const Owner& owner = std::nullopt) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return Failed(path, error.value());
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Failed(path, errno);
  const absl::Status given = Give(fd, path, owner);
  close(fd);
  return given;
}

// Makes `link` point to `target`, in one step also where it points elsewhere now.
absl::Status PointLink(const std::string& link, const std::string& target) {
  const std::string fresh = absl::StrCat(link, ".new");
  unlink(fresh.c_str());
  if (symlink(target.c_str(), fresh.c_str()) != 0) return Failed(fresh, errno);
  if (rename(fresh.c_str(), link.c_str()) != 0) return Failed(link, errno);
  return absl::OkStatus();
}

void RemoveOtherVersions(const std::string& role_dir, const std::string& kept) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(role_dir, error)) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "..v-") && name != kept) fs::remove_all(entry.path(), error);
  }
}

absl::StatusOr<CertificateAuthority> ReadAuthority(const std::string& dir) {
  ASSIGN_OR_RETURN(const std::string certificate, ReadText(dir + "/ca/ca.crt"));
  ASSIGN_OR_RETURN(const std::string key, ReadText(dir + "/ca/ca.key"));
  auto authority = CertificateAuthority::Parse(certificate, key);
  if (authority.ok()) return authority;
  return absl::InvalidArgumentError(absl::StrCat(dir, "/ca: ", authority.status().message()));
}

std::string LinkTarget(const char* file) { return absl::StrCat(kData, "/", file); }

// A link to anywhere else would stay, and with it what it shows.
absl::Status CheckLinks(const std::string& role_dir) {
  for (const char* file : kFiles) {
    const std::string link = absl::StrCat(role_dir, "/", file);
    std::error_code error;
    if (!fs::is_symlink(link, error)) continue;
    const std::string target = fs::read_symlink(link, error);
    if (target == LinkTarget(file)) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        link, ": is a link to ", target, " and not to ", LinkTarget(file), ": remove it first"));
  }
  return absl::OkStatus();
}

// A role's new files, beside the ones in use until Publish.
struct Staged {
  std::string role_dir, version;
  std::string dir() const { return absl::StrCat(role_dir, "/", version); }
};

absl::Status WriteStaged(const Staged& staged, const TlsPem& pem) {
  RETURN_IF_ERROR(CheckLinks(staged.role_dir));
  const Owner owner = OwnerOf(absl::StrCat(staged.role_dir, "/", kTlsKeyFile));
  const std::string dir = staged.dir();
  RETURN_IF_ERROR(MakeDirectory(dir, owner));
  RETURN_IF_ERROR(WriteFile(absl::StrCat(dir, "/", kTlsKeyFile), pem.key, kSecretMode, owner));
  RETURN_IF_ERROR(
      WriteFile(absl::StrCat(dir, "/", kTlsCertificateFile), pem.certificate, kPublicMode, owner));
  return WriteFile(absl::StrCat(dir, "/", kTlsAuthorityFile), pem.authority, kPublicMode, owner);
}

absl::StatusOr<Staged> Stage(const std::string& role_dir, const TlsPem& pem) {
  Staged staged{role_dir, absl::StrCat("..v-", absl::Hex(RandomId(), absl::kZeroPad16))};
  RemoveOnSignal(staged.dir());
  absl::Status written = WriteStaged(staged, pem);
  if (written.ok()) return staged;
  std::error_code ignored;
  fs::remove_all(staged.dir(), ignored);
  KeepOnSignal(staged.dir());
  return written;
}

absl::Status Publish(const Staged& staged) {
  KeepOnSignal(staged.dir());
  RETURN_IF_ERROR(PointLink(absl::StrCat(staged.role_dir, "/", kData), staged.version));
  for (const char* file : kFiles) {
    const std::string link = absl::StrCat(staged.role_dir, "/", file);
    std::error_code error;
    if (!fs::is_symlink(link, error)) RETURN_IF_ERROR(PointLink(link, LinkTarget(file)));
  }
  RemoveOtherVersions(staged.role_dir, staged.version);
  return absl::OkStatus();
}

using Leaves = std::vector<std::pair<std::string, TlsPem>>;  // by a role's directory

absl::StatusOr<Leaves> IssueLeaves(const CertsOptions& options,
                                   const CertificateAuthority& authority,
                                   const std::string& trusted, absl::Time now) {
  RETURN_IF_ERROR(CheckTrustDomain(options.trust_domain));
  LeafRequest leaf;
  leaf.hosts = {"localhost", "127.0.0.1", "::1"};
  leaf.hosts.insert(leaf.hosts.end(), options.hosts.begin(), options.hosts.end());
  leaf.not_before = now - kClockSkew;
  leaf.not_after = std::min(now + options.lifetime, NotAfter(authority.certificate()));
  Leaves issued;
  for (const Role role : AllRoles()) {
    leaf.common_name = RoleName(role);
    leaf.uris = {IdentityUri(options.trust_domain, role)};
    ASSIGN_OR_RETURN(const IssuedPem pem, authority.Issue(leaf));
    issued.emplace_back(absl::StrCat(options.dir, "/", RoleName(role)),
                        TlsPem{pem.certificate, pem.key, trusted});
  }
  return issued;
}

// No role's files change before all roles' can.
absl::Status WriteLeaves(const Leaves& leaves) {
  std::vector<Staged> all;
  absl::Status status;
  for (const auto& [dir, pem] : leaves) {
    auto staged = Stage(dir, pem);
    status = staged.status();
    if (!status.ok()) break;
    all.push_back(*std::move(staged));
  }
  for (const Staged& staged : all) {
    if (status.ok()) {
      RETURN_IF_ERROR(Publish(staged));
    } else {
      std::error_code ignored;
      fs::remove_all(staged.dir(), ignored);
    }
  }
  return status;
}

absl::StatusOr<CertInfo> InfoOf(const std::string& name, const std::string& file) {
  ASSIGN_OR_RETURN(const std::string pem, ReadText(file));
  const auto certificates = ParseCertificates(pem);
  if (!certificates.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", certificates.status().message()));
  }
  X509* const certificate = certificates->front().get();
  CertInfo info{.name = name,
                .file = file,
                .subject = SubjectOf(certificate),
                .serial = SerialOf(certificate),
                .fingerprint_sha256 = FingerprintOf(certificate),
                .not_before = NotBefore(certificate),
                .not_after = NotAfter(certificate)};
  if (const auto uri = UriNameOf(certificate); uri.ok()) info.uri = *uri;
  return info;
}

absl::StatusOr<CertInfo> LeafInfo(const std::string& name, const std::string& role_dir) {
  ASSIGN_OR_RETURN(CertInfo info, InfoOf(name, absl::StrCat(role_dir, "/", kTlsCertificateFile)));
  const std::string file = absl::StrCat(role_dir, "/", kTlsAuthorityFile);
  ASSIGN_OR_RETURN(const std::string pem, ReadText(file));
  const auto authorities = ParseCertificates(pem);
  if (!authorities.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", authorities.status().message()));
  }
  for (const X509Ptr& authority : *authorities) {
    info.trusts.push_back(FingerprintOf(authority.get()));
  }
  return info;
}

}  // namespace

absl::Status WriteTlsDir(const std::string& role_dir, const TlsPem& pem) {
  ASSIGN_OR_RETURN(const Staged staged, Stage(role_dir, pem));
  return Publish(staged);
}

absl::Status InitCerts(const CertsOptions& options, absl::Time now) {
  const std::string ca = options.dir + "/ca";
  std::error_code error;
  if (fs::exists(ca, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat("--dir: ", ca,
                     " is there already: `pregate certs renew` keeps it, and a new "
                     "authority wants a new directory"));
  }
  ASSIGN_OR_RETURN(
      const auto authority,
      CertificateAuthority::Make("pregate authority", now - kClockSkew, now + kAuthorityLifetime));
  const IssuedPem pem = authority.ToPem();
  // What the options may spoil comes before the first file: DIR/ca would refuse the next try.
  ASSIGN_OR_RETURN(const Leaves leaves, IssueLeaves(options, authority, pem.certificate, now));
  for (const auto& [dir, leaf] : leaves) RETURN_IF_ERROR(CheckLinks(dir));
  RETURN_IF_ERROR(MakeDirectory(ca));
  if (chmod(ca.c_str(), 0700) != 0) return Failed(ca, errno);
  RETURN_IF_ERROR(WriteFile(absl::StrCat(ca, "/", kAuthorityKeyFile), pem.key, kSecretMode));
  RETURN_IF_ERROR(
      WriteFile(absl::StrCat(ca, "/", kTlsAuthorityFile), pem.certificate, kPublicMode));
  return WriteLeaves(leaves);
}

absl::Status RenewCerts(const CertsOptions& options, absl::Time now) {
  ASSIGN_OR_RETURN(const auto authority, ReadAuthority(options.dir));
  // The whole file, which is a bundle while an authority is being replaced.
  ASSIGN_OR_RETURN(const std::string trusted, ReadText(options.dir + "/ca/ca.crt"));
  ASSIGN_OR_RETURN(const Leaves leaves, IssueLeaves(options, authority, trusted, now));
  return WriteLeaves(leaves);
}

absl::StatusOr<std::vector<CertInfo>> ShowCerts(const std::string& dir) {
  std::vector<CertInfo> all;
  std::error_code error;
  if (fs::exists(dir + "/ca/ca.crt", error)) {
    ASSIGN_OR_RETURN(CertInfo info, InfoOf("ca", dir + "/ca/ca.crt"));
    all.push_back(std::move(info));
  }
  for (const Role role : AllRoles()) {
    const std::string role_dir = absl::StrCat(dir, "/", RoleName(role));
    if (!fs::exists(role_dir, error)) continue;
    ASSIGN_OR_RETURN(CertInfo info, LeafInfo(RoleName(role), role_dir));
    all.push_back(std::move(info));
  }
  if (all.empty()) {
    return absl::NotFoundError(absl::StrCat("--dir: ", dir, " holds no certificates of pregate"));
  }
  return all;
}

}  // namespace pregate
