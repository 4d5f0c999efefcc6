#include "common/tls/tls_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/tls/certs_dir.h"
#include "common/tls/testing/test_certs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TestAuthority;

class TlsFilesTest : public ::testing::Test {
 protected:
  TlsFilesTest() {
    std::string name = (fs::temp_directory_path() / "pregate-tls-XXXXXX").string();
    dir_ = mkdtemp(name.data());
  }
  ~TlsFilesTest() override { fs::remove_all(dir_); }

  void Put(const std::string& file, const std::string& text) {
    std::ofstream(dir_ + "/" + file, std::ios::binary) << text;
  }
  void Put(const TlsPem& pem) {
    Put(kTlsCertificateFile, pem.certificate);
    Put(kTlsKeyFile, pem.key);
    Put(kTlsAuthorityFile, pem.authority);
  }
  std::string Error(const std::string& trust_domain = testing::kTrustDomain) {
    const auto files = TlsFiles::Load({dir_, trust_domain});
    return files.ok() ? "" : std::string(files.status().message());
  }

  const TestAuthority authority_;
  std::string dir_;
};

TEST_F(TlsFilesTest, LoadsWhatIsGood) {
  for (const Role role : AllRoles()) {
    Put(authority_.Issue(role));
    const auto files = TlsFiles::Load({dir_, testing::kTrustDomain});
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ((*files)->Current()->role, role);
  }
}

TEST_F(TlsFilesTest, ErrorsNameOptionAndFileAndFault) {
  const TlsPem good = authority_.Issue(Role::kRouter);
  const TestAuthority other;
  const auto issue = [&](const testing::Spoil& corrupt) {
    return authority_.Issue(Role::kRouter, corrupt);
  };
  const struct {
    const char* what;
    TlsPem pem;
    const char* file;
    const char* fault;
  } kCases[] = {
      {"expired", issue([](auto& r) { r.not_after = absl::Now() - absl::Minutes(1); }), "tls.crt",
       "certificate has expired on 2"},
      {"not yet valid", issue([](auto& r) { r.not_before = absl::Now() + absl::Minutes(1); }),
       "tls.crt", "certificate is not yet valid before 2"},
      {"another's key",
       {good.certificate, issue(nullptr).key, good.authority},
       "tls.crt",
       "does not fit the key in tls.key"},
      {"another authority",
       {good.certificate, good.key, other.pem()},
       "tls.crt",
       "unable to get local issuer certificate"},
      {"no URI", issue([](auto& r) { r.uris.clear(); }), "tls.crt", "has no URI name"},
      {"two URIs", issue([](auto& r) { r.uris.push_back("spiffe://x/y"); }), "tls.crt",
       "has 2 URI names"},
      {"another trust domain",
       issue([](auto& r) { r.uris = {"spiffe://evil.internal/pregate/router"}; }), "tls.crt",
       "wrong trust domain, 'pregate.internal' is trusted"},
      {"no role of ours",
       issue([](auto& r) { r.uris = {"spiffe://pregate.internal/pregate/root"}; }), "tls.crt",
       "unknown role"},
      {"for servers only", issue([](auto& r) { r.extended_key_usage = "serverAuth"; }), "tls.crt",
       "unsuitable certificate purpose"},
      {"for clients only", issue([](auto& r) { r.extended_key_usage = "clientAuth"; }), "tls.crt",
       "unsuitable certificate purpose"},
      {"for no named use", issue([](auto& r) { r.extended_key_usage.clear(); }), "tls.crt",
       "names no extended key usage"},
      {"a key as certificate",
       {good.key, good.key, good.authority},
       "tls.crt",
       "no certificate in PEM"},
      {"a certificate as key",
       {good.certificate, good.certificate, good.authority},
       "tls.key",
       "no private key in PEM"},
      {"text as authority",
       {good.certificate, good.key, "hello"},
       "ca.crt",
       "no certificate in PEM"},
      {"a broken authority",
       {good.certificate, good.key,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
       "ca.crt",
       "certificate 1 does not parse"},
      {"a leaf as authority",
       {good.certificate, good.key, issue(nullptr).certificate},
       "tls.crt",
       "unable to get local issuer certificate"},
      {"an empty file", {good.certificate, "", good.authority}, "tls.key", "is empty"},
      {"a giant file",
       {good.certificate, good.key, std::string(kTlsFileBytesMax + 1, 'x')},
       "ca.crt",
       "more than 1048576 bytes"},
  };
  for (const auto& c : kCases) {
    Put(c.pem);
    EXPECT_THAT(Error(), AllOf(HasSubstr("--tls-dir"), HasSubstr(dir_ + "/" + c.file + ": "),
                               HasSubstr(c.fault)))
        << c.what;
  }
  Put(good);
  EXPECT_EQ(Error(), "");
  EXPECT_THAT(Error("Bad Domain"), HasSubstr("--tls-trust-domain"));
  EXPECT_THAT(Error("other.internal"), HasSubstr("wrong trust domain"));
}

TEST_F(TlsFilesTest, AMissingFileIsNamed) {
  for (const char* file : {kTlsCertificateFile, kTlsKeyFile, kTlsAuthorityFile}) {
    Put(authority_.Issue(Role::kRouter));
    fs::remove(dir_ + "/" + file);
    EXPECT_THAT(Error(), AllOf(HasSubstr("--tls-dir"), HasSubstr(file), HasSubstr("No such file")));
    fs::create_directory(dir_ + "/" + file);
    EXPECT_THAT(Error(), AllOf(HasSubstr("--tls-dir"), HasSubstr(file)));
    fs::remove(dir_ + "/" + file);
  }
}

TEST_F(TlsFilesTest, RandomBytesAreRefusedAndNothingWorse) {
  std::mt19937_64 random(20231024);
  const TlsPem good = authority_.Issue(Role::kRouter);
  const auto corrupt = [&](std::string text) {
    const int hits = 1 + static_cast<int>(random() % 8);
    for (int i = 0; i < hits; ++i) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 40);
          break;
        default:
          text.insert(at, std::string(random() % 40, static_cast<char>(random())));
      }
      if (text.empty()) text = "x";
    }
    return text;
  };
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    TlsPem pem = good;
    std::string* const file = std::array{&pem.certificate, &pem.key, &pem.authority}[random() % 3];
    *file = random() % 4 == 0 ? std::string(random() % 3000, static_cast<char>(random()))
                              : corrupt(*file);
    refused += !ParseTlsMaterial(pem, {.dir = "d"}).ok();
  }
  EXPECT_GT(refused, 1500);  // some hits fall beside the blocks
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 300, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_FALSE(ParseCertificates(bytes).ok());
    EXPECT_FALSE(ParsePrivateKey(bytes).ok());
  }
}

TEST_F(TlsFilesTest, NewFilesAreTakenAndBadOnesAreNot) {
  const TlsPem first = authority_.Issue(Role::kRouter), second = authority_.Issue(Role::kRouter);
  Put(first);
  const auto files = *TlsFiles::Load({dir_, testing::kTrustDomain});
  std::vector<absl::Status> changes;
  files->set_on_change([&](const TlsFiles::Change& change) { changes.push_back(change.status); });
  const auto fingerprint = [&] { return FingerprintOf(files->Current()->certificate.get()); };
  const std::string before = fingerprint();
  const auto settle = [&](size_t num_changes) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (changes.size() < num_changes && absl::Now() < end) fingerprint();
    return changes.size() == num_changes;
  };
  Put(kTlsCertificateFile, second.certificate);  // without its key
  ASSERT_TRUE(settle(1));
  EXPECT_THAT(std::string(changes[0].message()), HasSubstr("does not fit the key"));
  EXPECT_EQ(fingerprint(), before);
  Put(kTlsKeyFile, second.key);
  ASSERT_TRUE(settle(2));
  EXPECT_TRUE(changes[1].ok()) << changes[1];
  EXPECT_NE(fingerprint(), before);
  Put(authority_.Issue(Role::kWorker));
  ASSERT_TRUE(settle(3));
  EXPECT_THAT(std::string(changes[2].message()), HasSubstr("role worker in place of router"));
  EXPECT_EQ(files->Current()->role, Role::kRouter);
}

// This host's clock is a little behind the issuer's.
TEST_F(TlsFilesTest, ACertificateThatIsNotYetValidIsTakenOnceItIs) {
  Put(authority_.Issue(Role::kRouter));
  const auto files = *TlsFiles::Load({dir_, testing::kTrustDomain});
  std::vector<absl::Status> changes;
  files->set_on_change([&](const TlsFiles::Change& change) { changes.push_back(change.status); });
  const absl::Time valid = absl::Now() + absl::Seconds(3);
  const TlsPem early =
      authority_.Issue(Role::kRouter, [&](LeafRequest& r) { r.not_before = valid; });
  Put(early);
  while (absl::Now() < valid + absl::Seconds(20) && files->Current()->pem.key != early.key)
    absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(files->Taken()->pem.key, early.key);
  ASSERT_EQ(changes.size(), 2u);  // refused once, though looked at each second; then taken
  EXPECT_THAT(std::string(changes[0].message()), HasSubstr("not yet valid"));
  EXPECT_EQ(changes[1], absl::OkStatus());
}

TEST_F(TlsFilesTest, AHandOverThatFailsIsTriedAgainAndNothingIsTakenMeanwhile) {
  const TlsPem first = authority_.Issue(Role::kRouter), second = authority_.Issue(Role::kRouter);
  Put(first);
  const auto files = *TlsFiles::Load({dir_, testing::kTrustDomain});
  std::vector<absl::Status> changes;
  int tries = 0;
  files->set_on_change([&](const TlsFiles::Change& change) { changes.push_back(change.status); },
                       [&](const TlsMaterial& material) {
                         EXPECT_EQ(material.pem.key, second.key);
                         EXPECT_EQ(files->Taken()->pem.key, first.key);
                         return ++tries < 3 ? absl::InternalError("too many open files")
                                            : absl::OkStatus();
                       });
  Put(second);
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (absl::Now() < end && files->Current()->pem.key == first.key)
    absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(files->Taken()->pem.key, second.key);
  EXPECT_EQ(tries, 3);
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].message(), "too many open files");
  EXPECT_EQ(changes[1], absl::OkStatus());
}

// A mount that hangs must not stop handshakes: here a pipe nobody writes to.
TEST_F(TlsFilesTest, TakenDoesNotWaitForTheDisk) {
  const TlsPem pem = authority_.Issue(Role::kRouter);
  Put(pem);
  const auto files = *TlsFiles::Load({dir_, testing::kTrustDomain});
  absl::SleepFor(absl::Milliseconds(kTlsRefreshMs));
  const std::string file = dir_ + "/" + kTlsCertificateFile;
  fs::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  std::atomic<bool> done{false};
  std::thread looks([&] {
    files->Current();
    done = true;
  });
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(files->Taken()->pem.key, pem.key);
  EXPECT_FALSE(done);
  const int writer = open(file.c_str(), O_WRONLY | O_CLOEXEC);
  fs::remove(file);
  Put(pem);
  close(writer);
  looks.join();
}

}  // namespace
}  // namespace pregate
