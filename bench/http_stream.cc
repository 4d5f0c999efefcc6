#include "bench/http_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/tcp_connection.h"
#include "common/base/status.h"

namespace pregate {
namespace {

// What usage says; 0 without one.
int32_t CompletionTokens(absl::string_view event) {
  constexpr absl::string_view kTokens = "\"completion_tokens\":";
  const size_t begin = event.find(kTokens);
  if (begin == event.npos) return 0;
  const absl::string_view rest = event.substr(begin + kTokens.size());
  int32_t tokens = 0;
  return absl::SimpleAtoi(rest.substr(0, rest.find_first_of(",}")), &tokens) ? tokens : 0;
}

// The "ids" of one event.
std::vector<int32_t> IdsOf(absl::string_view event) {
  constexpr absl::string_view kIds = "\"ids\":[";
  const size_t begin = event.find(kIds);
  if (begin == event.npos) return {};
  const absl::string_view rest = event.substr(begin + kIds.size());
  std::vector<int32_t> ids;
  for (const absl::string_view id :
       absl::StrSplit(rest.substr(0, rest.find(']')), ',', absl::SkipEmpty())) {
    if (!absl::SimpleAtoi(id, &ids.emplace_back())) return {};
  }
  return ids;
}

}  // namespace

absl::StatusOr<HttpStream> HttpStream::Connect(const std::string& address) {
  ASSIGN_OR_RETURN(UniqueFd fd, ConnectTcp(address));
  return HttpStream(std::move(fd));
}

absl::Status HttpStream::Run(const std::string& body, bool plain,
                             const std::function<void(const std::vector<int32_t>& ids)>& on_ids) {
  const std::string request = absl::StrCat(
      "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
      "Content-Length: ",
      body.size(), "\r\n\r\n", body);
  if (send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return absl::UnavailableError("the server takes no request");
  }
  std::string unread;  // from the last event's end on
  int32_t num_texts = 0;
  char bytes[1 << 16];
  while (true) {
    const ssize_t count = recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (count <= 0) return absl::UnavailableError(absl::StrCat("cut off after ", unread));
    unread.append(bytes, count);
    if (absl::StartsWith(unread, "HTTP/") && !absl::StartsWith(unread, "HTTP/1.1 200")) {
      return absl::UnavailableError(unread);
    }
    for (size_t end; (end = unread.find("\n\n")) != unread.npos; unread.erase(0, end + 2)) {
      const absl::string_view event = absl::string_view(unread).substr(0, end);
      if (!plain) {
        on_ids(IdsOf(event));
      } else if (absl::StrContains(event, "\"finish_reason\":null")) {
        on_ids({0});
        ++num_texts;
      } else if (const int32_t tokens = CompletionTokens(event); tokens > num_texts) {
        on_ids(std::vector<int32_t>(tokens - num_texts));
      }
    }
    if (absl::EndsWith(unread, "0\r\n\r\n")) return absl::OkStatus();
  }
}

}  // namespace pregate
