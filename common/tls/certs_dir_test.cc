#include "common/tls/certs_dir.h"

#include <sys/stat.h>

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
    EXPECT_FALSE(fs::exists(options_.dir + "/router")) << host;
    fs::remove_all(options_.dir);
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

}  // namespace
}  // namespace pregate
