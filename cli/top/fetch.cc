#include "cli/top/fetch.h"

#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/printable.h"
#include "common/base/status.h"
#include "common/http/http_get.h"

namespace pregate::cli {
namespace {

constexpr size_t kErrorBytesMax = 160;

// Of an error's page the first line is enough.
absl::Status HttpError(const HttpPage& page) {
  const std::string line =
      page.body.substr(0, std::min(page.body.find_first_of("\r\n"), kErrorBytesMax));
  return absl::UnavailableError(
      absl::StrCat("HTTP ", page.status, line.empty() ? "" : ": ", Printable(line, Layout::kCell)));
}

absl::StatusOr<Scrape> Fetch(const Address& address, const HttpGetOptions& options) {
  ASSIGN_OR_RETURN(const HttpPage page, HttpGet(address, "/metrics", options));
  if (page.status != 200) return HttpError(page);
  ASSIGN_OR_RETURN(std::vector<Sample> samples, ParseExposition(page.body));
  return Scrape(std::move(samples));
}

}  // namespace

std::vector<SourceSample> FetchAll(const std::vector<Address>& addresses, TlsFiles* tls,
                                   absl::Duration timeout, const std::function<bool()>& cancelled) {
  const auto material = tls == nullptr ? nullptr : tls->Current();
  const HttpGetOptions options = {.timeout = timeout,
                                  .body_bytes_max = kExpositionBytesMax,
                                  .tls = material.get(),
                                  .servers = {Role::kScheduler, Role::kRouter, Role::kWorker},
                                  .cancelled = cancelled};
  std::vector<std::future<SourceSample>> pending;
  for (const Address& address : addresses) {
    pending.push_back(std::async(std::launch::async, [&address, &options] {
      SourceSample sample{.address = address.ToString()};
      auto scrape = Fetch(address, options);
      sample.time = absl::Now();
      if (scrape.ok()) {
        sample.scrape = *std::move(scrape);
      } else {
        sample.why_down = std::string(scrape.status().message());
      }
      return sample;
    }));
  }
  std::vector<SourceSample> samples;
  for (auto& future : pending) samples.push_back(future.get());
  return samples;
}

}  // namespace pregate::cli
