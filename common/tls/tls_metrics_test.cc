#include "common/tls/tls_metrics.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/tls/testing/test_certs.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;
using testing::TestAuthority;

class TlsMetricsTest : public ::testing::Test {
 protected:
  TlsMetricsTest() {
    std::string name = (fs::temp_directory_path() / "pregate-tls-XXXXXX").string();
    dir_ = mkdtemp(name.data());
    Put(now_ + absl::Hours(5));
    files_ = *TlsFiles::Load({dir_, testing::kTrustDomain});
    AddTlsMetrics(files_, &registry_);
  }
  ~TlsMetricsTest() override { fs::remove_all(dir_); }

  void Put(absl::Time not_after) {
    const TlsPem pem =
        authority_.Issue(Role::kRouter, [&](auto& request) { request.not_after = not_after; });
    std::ofstream(dir_ + "/tls.crt") << pem.certificate;
    std::ofstream(dir_ + "/tls.key") << pem.key;
    std::ofstream(dir_ + "/ca.crt") << pem.authority;
  }
  // Seconds from now until the exported end.
  double Left(const std::string& certificate) {
    const std::string text = registry_.Serialize();
    const std::string series = "certificate=\"" + certificate + "\"} ";
    const size_t at = text.find(series);
    double value = 0;
    if (at == std::string::npos) return -1;
    EXPECT_TRUE(absl::SimpleAtod(
        text.substr(at + series.size(), text.find('\n', at) - at - series.size()), &value))
        << text;
    return value - absl::ToDoubleSeconds(now_ - absl::UnixEpoch());
  }

  const absl::Time now_ = absl::Now();
  const TestAuthority authority_;
  std::string dir_;
  std::shared_ptr<TlsFiles> files_;
  MetricsRegistry registry_{"tiny"};
};

TEST_F(TlsMetricsTest, SaysWhenTheCertificatesInUseEnd) {
  EXPECT_NEAR(Left("own"), 5 * 3600, 2);
  EXPECT_GT(Left("authority"), 0);
}

TEST_F(TlsMetricsTest, FollowsARenewalOnceItIsTaken) {
  Put(now_ + absl::Hours(7));
  EXPECT_NEAR(Left("own"), 5 * 3600, 2);
  absl::SleepFor(absl::Milliseconds(kTlsRefreshMs));
  files_->Current();
  EXPECT_NEAR(Left("own"), 7 * 3600, 2);
}

TEST_F(TlsMetricsTest, FilesThatAreRefusedChangeNothing) {
  Put(now_ - absl::Hours(1));
  absl::SleepFor(absl::Milliseconds(kTlsRefreshMs));
  files_->Current();
  EXPECT_NEAR(Left("own"), 5 * 3600, 2);
}

}  // namespace
}  // namespace pregate
