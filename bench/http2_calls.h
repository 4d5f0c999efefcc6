// Calls of one gRPC method over one connection, as stream_bench needs them: HTTP/2's frames are
// written and read here by one thread, for what gRPC's own client does with a message costs more
// than what the server does that is measured. Plaintext; answers alone may be long.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/files.h"

namespace pregate {

class Http2Calls {
 public:
  struct Events {
    std::function<void(int call, absl::string_view message)> on_message;
    std::function<void(int call)> on_end;  // with status 0; may open others
  };

  // "127.0.0.1:7601", "/pregate.v1.Inference/Generate".
  static absl::StatusOr<Http2Calls> Connect(const std::string& address, const std::string& path);

  // Sends the only message of a call, from Run or before it. `call` is the caller's number.
  void Open(int call, absl::string_view message);
  // Until no call is open. An error where one ends with another status than 0, or the connection.
  absl::Status Run(const Events& events);

 private:
  struct Stream {
    int call = 0;
    bool open = true;
    std::string unread;  // a message that has come in part
  };
  struct Frame {
    uint8_t type = 0, flags = 0;
    uint32_t stream = 0;
    absl::string_view payload;
  };

  Http2Calls(UniqueFd fd, const std::string& path);

  void AddFrame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload);
  // What the connection's window allows; the rest waits for a larger one.
  absl::Status Flush();
  absl::Status ReadFrames(const Events& events);
  absl::Status Take(const Frame& frame, const Events& events);
  absl::Status TakeSettings(const Frame& frame);
  absl::Status TakeData(const Frame& frame, const Events& events);
  absl::Status TakeHeaders(const Frame& frame, const Events& events);
  absl::StatusOr<Stream*> Find(uint32_t id);

  UniqueFd fd_;
  std::string header_block_;
  std::string unsent_, unread_;
  std::vector<Stream> streams_;  // stream 2i + 1 is streams_[i]
  int num_open_ = 0;
  std::deque<std::pair<uint32_t, std::string>> waiting_;  // a stream and its message, in its frame
  int64_t send_window_ = 65535, stream_window_ = 65535;   // as HTTP/2 begins
  int64_t unacknowledged_ = 0;                            // bytes of data read
};

}  // namespace pregate
