#include "common/tls/grpc/credential_files.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "common/tls/testing/test_certs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

time_t ChangedAt(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mtime;
}

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// Reads as gRPC's watcher does, which compares whole seconds of modification times, while the files
// change as fast as they can.
TEST(CredentialFilesTest, AWatcherNeverTakesAKeyWithoutItsCertificate) {
  const testing::TestAuthority authority;
  const TlsPem pems[] = {authority.Issue(Role::kRouter), authority.Issue(Role::kRouter)};
  auto files = CredentialFiles::Make(pems[0]);
  ASSERT_TRUE(files.ok()) << files.status();
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 1; !done; ++i) EXPECT_EQ(files->Replace(pems[i % 2]), absl::OkStatus());
  });
  int num_taken = 0, num_torn = 0;
  for (int i = 0; i < 20000; ++i) {
    const time_t key_before = ChangedAt(files->key_path());
    const time_t certificate_before = ChangedAt(files->certificate_path());
    const std::string key = Read(files->key_path());
    const std::string certificate = Read(files->certificate_path());
    if (ChangedAt(files->key_path()) != key_before) continue;
    if (ChangedAt(files->certificate_path()) != certificate_before) continue;
    ++num_taken;
    for (const TlsPem& pem : pems) {
      num_torn += (key.find(pem.key) != std::string::npos) !=
                  (certificate.find(pem.certificate) != std::string::npos);
    }
  }
  done = true;
  writer.join();
  EXPECT_GT(num_taken, 0);
  EXPECT_EQ(num_torn, 0) << "of " << num_taken;
}

// Room for the identity but not for the authorities.
TEST(CredentialFilesTest, WhatCannotBeReplacedWholeStays) {
  const testing::TestAuthority authority;
  const TlsPem before = authority.Issue(Role::kRouter);
  TlsPem after = authority.Issue(Role::kRouter);
  after.authority = std::string(100000, '\n') + before.authority;
  auto files = CredentialFiles::Make(before);
  ASSERT_TRUE(files.ok()) << files.status();
  signal(SIGXFSZ, SIG_IGN);
  rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit low = {.rlim_cur = 50000, .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const absl::Status replaced = files->Replace(after);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_FALSE(replaced.ok());
  EXPECT_THAT(Read(files->key_path()), ::testing::HasSubstr(before.key));
  EXPECT_EQ(Read(files->authority_path()), before.authority);
  EXPECT_EQ(files->Replace(after), absl::OkStatus());
  EXPECT_THAT(Read(files->key_path()), ::testing::HasSubstr(after.key));
  EXPECT_EQ(Read(files->authority_path()), after.authority);
}

}  // namespace
}  // namespace pregate
