#include "common/tls/certs_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/time/clock.h"
#include "common/tls/tls_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CertsDirTest : public ::testing::Test {
 protected:
  CertsDirTest() {
    std::string name = (fs::temp_directory_path() / "pregate-certs-XXXXXX").string();
    root_ = mkdtemp(name.data());
    options_.dir = root_ + "/certs";
  }
  ~CertsDirTest() override { fs::remove_all(root_); }

  // Every certificate is one of `before`, and nothing lies beside them.
  void ExpectUntouched(const std::vector<CertInfo>& before) {
    const auto after = *ShowCerts(options_.dir);
    ASSERT_EQ(after.size(), before.size());
    for (size_t i = 0; i < after.size(); ++i)
      EXPECT_EQ(after[i].fingerprint_sha256, before[i].fingerprint_sha256) << after[i].name;
    int versions = 0;
    for (const auto& entry : fs::recursive_directory_iterator(options_.dir))
      versions += entry.path().filename().string().rfind("..v-", 0) == 0;
    EXPECT_EQ(versions, static_cast<int>(AllRoles().size()));
  }

  std::string root_;
  CertsOptions options_;
};

mode_t ModeOf(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 0777;
}

TEST_F(CertsDirTest, InitMakesWhatEveryProgramTakes) {
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  for (const Role role : AllRoles()) {
    const std::string dir = options_.dir + "/" + RoleName(role);
    const auto files = TlsFiles::Load({.dir = dir});
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ((*files)->Current()->role, role);
    EXPECT_EQ(ModeOf(dir + "/tls.key"), 0600);
    const absl::Duration left = NotAfter((*files)->Current()->certificate.get()) - absl::Now();
    EXPECT_GT(left, absl::Hours(24 * 89));
    EXPECT_LE(left, absl::Hours(24 * 90));
  }
  EXPECT_EQ(ModeOf(options_.dir + "/ca/ca.key"), 0600);
  EXPECT_EQ(ModeOf(options_.dir + "/ca"), 0700);
}

TEST_F(CertsDirTest, HostsAreInTheCertificate) {
  options_.hosts = {"pregate.example.com", "10.1.2.3"};
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  const auto files = *TlsFiles::Load({.dir = options_.dir + "/scheduler"});
  X509* const certificate = files->Current()->certificate.get();
  for (const char* name : {"localhost", "pregate.example.com"}) {
    EXPECT_EQ(X509_check_host(certificate, name, 0, 0, nullptr), 1) << name;
  }
  for (const char* ip : {"127.0.0.1", "::1", "10.1.2.3"}) {
    EXPECT_EQ(X509_check_ip_asc(certificate, ip, 0), 1) << ip;
  }
  EXPECT_EQ(X509_check_host(certificate, "example.com", 0, 0, nullptr), 0);
}

TEST_F(CertsDirTest, InitRefusesAnAuthorityThatIsThere) {
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  const auto before = *ShowCerts(options_.dir);
  const absl::Status again = InitCerts(options_, absl::Now());
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(again.message()), HasSubstr("renew"));
  EXPECT_EQ(ShowCerts(options_.dir)->at(0).fingerprint_sha256, before[0].fingerprint_sha256);
}

TEST_F(CertsDirTest, BadHostsAndDomainsWriteNothing) {
  for (const char* host : {"a,URI:spiffe://x/pregate/operator", "", "a b", "IP:1.2.3.4"}) {
    options_.hosts = {host};
    EXPECT_EQ(InitCerts(options_, absl::Now()).code(), absl::StatusCode::kInvalidArgument) << host;
    EXPECT_FALSE(fs::exists(options_.dir)) << host;
  }
  options_.hosts.clear();
  options_.trust_domain = "a,URI:spiffe://b";
  EXPECT_EQ(InitCerts(options_, absl::Now()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(fs::exists(options_.dir));
}

TEST_F(CertsDirTest, RenewKeepsTheAuthorityAndChangesTheLeaves) {
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  const auto before = *ShowCerts(options_.dir);
  ASSERT_EQ(RenewCerts(options_, absl::Now()), absl::OkStatus());
  const auto after = *ShowCerts(options_.dir);
  ASSERT_EQ(before.size(), 7u);
  ASSERT_EQ(after.size(), 7u);
  EXPECT_EQ(before[0].name, "ca");
  EXPECT_EQ(before[0].fingerprint_sha256, after[0].fingerprint_sha256);
  for (size_t i = 1; i < before.size(); ++i) {
    EXPECT_EQ(before[i].uri, after[i].uri);
    EXPECT_NE(before[i].fingerprint_sha256, after[i].fingerprint_sha256);
    EXPECT_THAT(after[i].trusts, ElementsAre(after[0].fingerprint_sha256));
  }
  EXPECT_EQ(RenewCerts({.dir = root_ + "/none"}, absl::Now()).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ShowCerts(root_ + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CertsDirTest, AReaderNeverSeesAKeyWithoutItsCertificate) {
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  const std::string dir = options_.dir + "/router";
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 0; i < 30; ++i) EXPECT_EQ(RenewCerts(options_, absl::Now()), absl::OkStatus());
    done = true;
  });
  // All three through one resolved link, as in one mount of a secret: always of one version.
  int reads = 0;
  while (!done) {
    const std::string version = fs::read_symlink(dir + "/..data");
    const auto pem = ReadTlsDir(dir + "/" + version);
    if (!pem.ok()) continue;  // replaced and removed meanwhile
    EXPECT_TRUE(ParseTlsMaterial(*pem, {.dir = dir}).ok());
    ++reads;
  }
  writer.join();
  EXPECT_GT(reads, 0);
  EXPECT_TRUE(TlsFiles::Load({.dir = dir}).ok());
  int versions = 0;
  for (const auto& entry : fs::directory_iterator(dir)) {
    versions += entry.path().filename().string().rfind("..v-", 0) == 0;
  }
  EXPECT_EQ(versions, 1);
}

constexpr uid_t kServiceUser = 65532;  // of the images

TEST_F(CertsDirTest, RenewKeepsTheOwner) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may give files away";
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  const std::string dir = options_.dir + "/router";
  for (const auto& entry : fs::recursive_directory_iterator(dir))
    ASSERT_EQ(lchown(entry.path().c_str(), kServiceUser, kServiceUser), 0);
  const std::string before = fs::read_symlink(dir + "/..data");
  ASSERT_EQ(RenewCerts(options_, absl::Now()), absl::OkStatus());
  EXPECT_NE(fs::read_symlink(dir + "/..data"), before);
  for (const char* path : {"/..data", "/tls.key", "/tls.crt", "/ca.crt"}) {
    struct stat status = {};
    ASSERT_EQ(stat((dir + path).c_str(), &status), 0) << path;
    EXPECT_EQ(status.st_uid, kServiceUser) << path;
    EXPECT_EQ(status.st_gid, kServiceUser) << path;
  }
  EXPECT_EQ(ModeOf(dir + "/tls.key"), 0600);
  struct stat other = {};
  ASSERT_EQ(stat((options_.dir + "/worker/tls.key").c_str(), &other), 0);
  EXPECT_EQ(other.st_uid, 0u);
}

// The directories are the user's, one key is another's: only root could keep that.
TEST_F(CertsDirTest, RenewByWhoMayNotKeepTheOwnerReplacesNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may give files away";
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  ASSERT_EQ(chown(root_.c_str(), kServiceUser, kServiceUser), 0);
  for (const auto& entry : fs::recursive_directory_iterator(root_))
    ASSERT_EQ(lchown(entry.path().c_str(), kServiceUser, kServiceUser), 0);
  const std::string key = options_.dir + "/worker/tls.key";
  ASSERT_EQ(chown(key.c_str(), 12345, kServiceUser), 0);
  const auto before = *ShowCerts(options_.dir);
  ASSERT_EQ(seteuid(kServiceUser), 0);
  const absl::Status renewed = RenewCerts(options_, absl::Now());
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_EQ(renewed.code(), absl::StatusCode::kPermissionDenied) << renewed;
  EXPECT_THAT(std::string(renewed.message()), HasSubstr(options_.dir + "/worker/"));
  EXPECT_THAT(std::string(renewed.message()), HasSubstr("uid 12345"));
  ExpectUntouched(before);
}

TEST_F(CertsDirTest, RenewRefusesAForeignLink) {
  ASSERT_EQ(InitCerts(options_, absl::Now()), absl::OkStatus());
  const auto before = *ShowCerts(options_.dir);
  const std::string link = options_.dir + "/worker/tls.crt";
  const std::string elsewhere = root_ + "/elsewhere.crt";
  fs::copy_file(link, elsewhere);
  fs::remove(link);
  fs::create_symlink(elsewhere, link);
  const absl::Status renewed = RenewCerts(options_, absl::Now());
  EXPECT_EQ(renewed.code(), absl::StatusCode::kFailedPrecondition) << renewed;
  EXPECT_THAT(std::string(renewed.message()), HasSubstr(link + ": is a link to " + elsewhere));
  ExpectUntouched(before);
  fs::remove(link);
  EXPECT_EQ(RenewCerts(options_, absl::Now()), absl::OkStatus());
}

}  // namespace
}  // namespace pregate
