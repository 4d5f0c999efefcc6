// A generation over HTTP as stream_bench needs it: blocking, on a plain socket that is kept.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/files.h"

namespace pregate {

class HttpStream {
 public:
  // "127.0.0.1:7680".
  static absl::StatusOr<HttpStream> Connect(const std::string& address);

  // POSTs `body` to /v1/completions, which must ask for a stream with routes; calls `on_ids`
  // with the tokens of each event. `plain`: for a stream with the usage in its end and without routes,
  // with a 0 for each event of text, and at the end for each token that had none.
  absl::Status Run(const std::string& body, bool plain,
                   const std::function<void(const std::vector<int32_t>& ids)>& on_ids);

 private:
  explicit HttpStream(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace pregate
