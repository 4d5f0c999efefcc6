// `pregate top`: a running cluster's metrics, interval by interval.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "cli/command.h"
#include "cli/terminal.h"
#include "cli/top/fetch.h"
#include "cli/top/view.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/option_set.h"

namespace pregate::cli {
namespace {

constexpr size_t kSourcesMax = 258;  // scheduler, router and kWorkersMax workers
constexpr int kPlainColumns = 200;

struct TopOptions {
  std::vector<std::string> metrics = {"127.0.0.1:7601", "127.0.0.1:7611", "127.0.0.1:7621"};
  TlsOptions tls;
  absl::Duration interval = absl::Seconds(1), timeout = absl::Seconds(1);
  bool once = false, as_json = false;
};

void Declare(OptionSet& set, TopOptions* o) {
  set.Strings("metrics", &o->metrics,
              "metrics addresses of scheduler, router and workers, in any order");
  DeclareTlsOptions(set, &o->tls);
  set.Duration("interval-s", &o->interval, absl::Milliseconds(100), absl::Hours(1),
               "between two looks");
  set.Duration("timeout-s", &o->timeout, absl::Milliseconds(10), absl::Minutes(1),
               "before an address that does not answer counts as down")
      .Environment("PREGATE_TOP_TIMEOUT_S");  // 0 means no limit to others, and nothing here
  set.Switch("once", &o->once, "print one interval and end; fails when every address is down");
  set.Switch("json", &o->as_json, "print one JSON object an interval");
}

constexpr char kLeaveScreen[] = "\x1b[?25h\x1b[?1049l";

// A screen of its own, redrawn line by line so that nothing flickers; off a terminal plain text.
class Screen {
 public:
  explicit Screen(bool terminal) : terminal_(terminal) {
    if (terminal_) Put("\x1b[?1049h\x1b[?25l");  // other screen, no cursor
  }
  ~Screen() {
    if (terminal_) Put(kLeaveScreen);
  }
  void Show(const TopView& view) {
    if (!terminal_) {
      Put((shown_++ > 0 ? "\n" : "") + ToText(view, kPlainColumns));
      return;
    }
    const std::string text = ToText(view, Columns()) + "q quits\n";
    Put(absl::StrCat("\x1b[H", absl::StrReplaceAll(text, {{"\n", "\x1b[K\n"}}), "\x1b[J"));
  }

 private:
  static int Columns() {
    winsize size = {};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
  }
  static void Put(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const bool terminal_;
  int shown_ = 0;
};

absl::StatusOr<std::vector<Address>> ParseAddresses(const std::vector<std::string>& texts,
                                                    bool encrypted) {
  if (texts.empty() || texts.size() > kSourcesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics names ", texts.size(), " addresses, must be 1..", kSourcesMax));
  }
  std::vector<Address> addresses;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(addresses.emplace_back(), ParseAddressOption("metrics", text, encrypted));
    if (addresses.back().is_unix()) {
      return absl::InvalidArgumentError(absl::StrCat("--metrics: ", text, " is no host:port"));
    }
  }
  return addresses;
}

// Waits for the interval's end; true when the user wants to go.
bool WaitOrQuit(Keys& keys, absl::Time until) {
  while (absl::Now() < until) {
    const std::optional<char> key = keys.Wait(until - absl::Now());
    if (key == 'q' || key == 'Q' || Interrupts::Take()) return true;
  }
  return false;
}

absl::Status AnyUp(const std::vector<SourceSample>& samples) {
  for (const SourceSample& sample : samples) {
    if (sample.scrape) return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("none of ", samples.size(), " addresses answers"));
}

absl::Status RunTop(const TopOptions& options) {
  std::unique_ptr<TlsFiles> tls;
  if (!options.tls.dir.empty()) {
    ASSIGN_OR_RETURN(tls, TlsFiles::Load(options.tls));
  }
  ASSIGN_OR_RETURN(const std::vector<Address> addresses,
                   ParseAddresses(options.metrics, tls != nullptr));
  const bool on_screen = !options.once && !options.as_json && isatty(STDOUT_FILENO) != 0;
  const Interrupts interrupts(on_screen ? kLeaveScreen : "");
  Keys keys;
  Screen screen(on_screen);
  const auto fetch = [&] {
    return FetchAll(addresses, tls.get(), options.timeout, Interrupts::Pending);
  };
  std::vector<SourceSample> before = fetch();
  for (absl::Time next = absl::Now() + options.interval; !WaitOrQuit(keys, next);
       next = std::max(next + options.interval, absl::Now())) {
    std::vector<SourceSample> now = fetch();
    if (Interrupts::Take()) break;  // what was fetched is cut off
    const TopView view = MakeView(before, now);
    if (options.as_json) {
      PrintJson(ToJson(view));
    } else {
      screen.Show(view);
    }
    RETURN_IF_ERROR(FlushStandardOutput());
    if (options.once) return AnyUp(now);
    before = std::move(now);
  }
  return absl::OkStatus();
}

}  // namespace

int Top(int argc, const char* const* argv) {
  TopOptions options;
  OptionSet set("pregate top", "Shows a running cluster's metrics, interval by interval; q ends.");
  Declare(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "top", argc, argv);
  const absl::Status status = RunTop(options);
  return status.ok() ? kExitOk : Fail("top", status);
}

}  // namespace pregate::cli
