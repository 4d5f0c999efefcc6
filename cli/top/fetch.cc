#include "cli/top/fetch.h"

#include <httplib.h>

#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"

namespace pregate::cli {
namespace {

absl::StatusOr<std::string> Get(const Address& address, absl::Duration timeout) {
  httplib::Client client(address.host, address.port);
  client.set_connection_timeout(absl::ToChronoMicroseconds(timeout));
  client.set_read_timeout(absl::ToChronoMicroseconds(timeout));
  const absl::Time end = absl::Now() + timeout;
  std::string body;
  int code = 0;
  const auto result = client.Get(
      "/metrics", httplib::Headers{},
      [&](const httplib::Response& response) { return (code = response.status) == 200; },
      [&](const char* data, size_t size) {  // a body without an end, or one that trickles
        if (body.size() + size > kExpositionBytesMax || absl::Now() > end) return false;
        body.append(data, size);
        return true;
      });
  if (code != 0 && code != 200) return absl::UnavailableError(absl::StrCat("HTTP ", code));
  if (result) return body;
  if (body.empty()) return absl::UnavailableError(httplib::to_string(result.error()));
  return absl::UnavailableError(
      absl::StrCat("more than ", kExpositionBytesMax, " bytes or ", absl::FormatDuration(timeout)));
}

absl::StatusOr<Scrape> Fetch(const Address& address, absl::Duration timeout) {
  ASSIGN_OR_RETURN(const std::string body, Get(address, timeout));
  ASSIGN_OR_RETURN(std::vector<Sample> samples, ParseExposition(body));
  return Scrape(std::move(samples));
}

}  // namespace

std::vector<SourceSample> FetchAll(const std::vector<Address>& addresses, absl::Duration timeout) {
  std::vector<std::future<SourceSample>> pending;
  for (const Address& address : addresses) {
    pending.push_back(std::async(std::launch::async, [&address, timeout] {
      SourceSample sample{.address = address.ToString()};
      auto scrape = Fetch(address, timeout);
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
