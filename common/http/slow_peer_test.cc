// Peers of the metrics port that never stop and never finish: one byte now and then.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/http/http_get.h"
#include "common/http/metrics_server.h"
#include "common/tls/certs_dir.h"
#include "common/tls/testing/test_certs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

// Sends `text` one byte every 100 ms, then its last byte for ever, until it is cut off.
class SlowPeer {
 public:
  SlowPeer(int port, std::string text) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    thread_ = std::thread([this, text = std::move(text)] {
      for (size_t at = 0; !stop_; at += at + 1 < text.size()) {
        if (send(fd_, &text[at], 1, MSG_NOSIGNAL) != 1) break;
        absl::SleepFor(absl::Milliseconds(100));
      }
      cut_off_ = !stop_;
    });
  }
  ~SlowPeer() {
    stop_ = true;
    thread_.join();
    close(fd_);
  }
  bool cut_off() const { return cut_off_; }

 private:
  const int fd_;
  std::atomic<bool> stop_{false}, cut_off_{false};
  std::thread thread_;
};

class SlowPeerTest : public ::testing::Test {
 protected:
  static constexpr int kPeers = 8;

  SlowPeerTest() {
    std::string name = (std::filesystem::temp_directory_path() / "pregate-slow-XXXXXX").string();
    dir_ = mkdtemp(name.data());
  }
  ~SlowPeerTest() override {
    server_.reset();
    std::filesystem::remove_all(dir_);
  }

  void StartPlain() { Start(nullptr); }
  void StartTls() {
    const testing::TestAuthority authority;
    EXPECT_EQ(WriteTlsDir(dir_, authority.Issue(Role::kMonitor)), absl::OkStatus());
    gate_.files = *TlsFiles::Load({.dir = dir_});
    gate_.refusals = std::make_shared<RefusalLog>(&log_, &clock_);
    Start(&gate_);
  }
  void Start(const TlsGate* gate) {
    auto started = MetricsServer::Start(
        {.host = "127.0.0.1"}, &registry_, [] { return true; }, gate);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }
  void Beset(const std::string& text) {
    for (int i = 0; i < kPeers; ++i)
      peers_.push_back(std::make_unique<SlowPeer>(server_->bound().port, text));
    absl::SleepFor(absl::Milliseconds(300));
  }
  bool AllCutOff() const {
    const absl::Time end = absl::Now() + absl::Milliseconds(2 * kMetricsTimeoutMs + 3000);
    const auto all = [&] {
      return std::all_of(peers_.begin(), peers_.end(), [](auto& p) { return p->cut_off(); });
    };
    while (!all() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(10));
    return all();
  }
  absl::Duration TimeToStop() {
    const absl::Time start = absl::Now();
    server_.reset();
    return absl::Now() - start;
  }

  std::string dir_;
  std::mutex mutex_;
  std::string lines_;  // guarded by mutex_
  const Log log_{"test", {}, [this](absl::string_view line) {
                   std::lock_guard lock(mutex_);
                   absl::StrAppend(&lines_, line);
                 }};
  SystemClock clock_;
  MetricsRegistry registry_{"tiny"};
  TlsGate gate_;
  std::unique_ptr<MetricsServer> server_;
  std::vector<std::unique_ptr<SlowPeer>> peers_;
};

constexpr char kEndlessHeader[] = "GET /healthz HTTP/1.1\r\nHost: x";
// A client's hello of 16 KB that never comes.
const std::string kEndlessHello("\x16\x03\x01\x3f\xff\x01\x00\x3f\xf0\x03\x03\x00", 12);
constexpr absl::Duration kPatience = absl::Seconds(1);  // they hold nobody up

TEST_F(SlowPeerTest, EndlessHeadersDoNotHoldPlainHttp) {
  StartPlain();
  Beset(kEndlessHeader);
  const auto response = HttpGet(server_->bound(), "/healthz", {.timeout = kPatience});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_TRUE(AllCutOff());
}

TEST_F(SlowPeerTest, EndlessHandshakesDoNotHoldHttps) {
  StartTls();
  Beset(kEndlessHello);
  const auto material = gate_.files->Taken();
  const auto response =
      HttpGet(server_->bound(), "/metrics", {.timeout = kPatience, .tls = material.get()});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_TRUE(AllCutOff());
  std::lock_guard lock(mutex_);
  EXPECT_THAT(lines_, HasSubstr("handshake: not done in 2000 ms"));
}

TEST_F(SlowPeerTest, TheEndDoesNotWaitForThem) {
  StartPlain();
  Beset(kEndlessHeader);
  EXPECT_LT(TimeToStop(), absl::Seconds(1));
  peers_.clear();
  StartTls();
  Beset(kEndlessHello);
  EXPECT_LT(TimeToStop(), absl::Seconds(1));
}

}  // namespace
}  // namespace pregate
