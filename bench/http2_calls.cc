#include "bench/http2_calls.h"

#include <sys/socket.h>

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "bench/tcp_connection.h"
#include "common/base/status.h"
#include "common/rpc/testing/http2_frames.h"

namespace pregate {
namespace {

using testing::BigEndian;
using testing::kAck;
using testing::kContinuation;
using testing::kData;
using testing::kEndHeaders;
using testing::kEndStream;
using testing::kGoAway;
using testing::kHeaders;
using testing::kPadded;
using testing::kPing;
using testing::kRstStream;
using testing::kSettings;
using testing::kWindowUpdate;

constexpr uint16_t kHeaderTableSize = 1, kInitialWindowSize = 4;  // settings
constexpr size_t kFrameHeaderBytes = 9, kFrameBytesMax = 1 << 14, kMessageHeaderBytes = 5;
// As good as none: what the server may send is no part of the question.
constexpr uint32_t kWindowBytes = 1 << 30;

uint32_t ReadBigEndian(absl::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

// The value of a header that stands in the block as it is. Empty where it does not: without a table
// gRPC writes all of its own so.
absl::string_view ValueOf(absl::string_view name, absl::string_view block) {
  const size_t begin = block.find(name);
  if (begin == block.npos) return "";
  const absl::string_view rest = block.substr(begin + name.size());
  if (rest.empty() || static_cast<uint8_t>(rest[0]) >= 127) return "";
  return rest.substr(1, static_cast<uint8_t>(rest[0]));
}

absl::Status Broken(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat("HTTP/2: ", what));
}

}  // namespace

Http2Calls::Http2Calls(UniqueFd fd, const std::string& path)
    : fd_(std::move(fd)),
      header_block_(testing::GrpcCallHeaders(path, "bench")),
      unsent_(testing::kHttp2Preface) {
  AddFrame(kSettings, 0, 0,
           absl::StrCat(BigEndian(kHeaderTableSize), BigEndian(uint32_t{0}),
                        BigEndian(kInitialWindowSize), BigEndian(kWindowBytes)));
  AddFrame(kWindowUpdate, 0, 0, BigEndian(kWindowBytes));
}

absl::StatusOr<Http2Calls> Http2Calls::Connect(const std::string& address,
                                               const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd fd, ConnectTcp(address));
  const timeval patience = {.tv_sec = 60};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return Http2Calls(std::move(fd), path);
}

void Http2Calls::AddFrame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload) {
  absl::StrAppend(&unsent_, testing::Http2Frame(type, flags, stream, payload));
}

void Http2Calls::Open(int call, absl::string_view message) {
  const auto id = static_cast<uint32_t>(2 * streams_.size() + 1);
  streams_.push_back({.call = call});
  ++num_open_;
  std::string framed(1, '\0');  // not compressed
  absl::StrAppend(&framed, BigEndian(static_cast<uint32_t>(message.size())), message);
  PREGATE_CHECK(framed.size() <= kFrameBytesMax, "a request of ", message.size(), " bytes");
  AddFrame(kHeaders, kEndHeaders, id, header_block_);
  waiting_.emplace_back(id, std::move(framed));
}

absl::Status Http2Calls::Flush() {
  while (!waiting_.empty()) {
    const auto& [id, message] = waiting_.front();
    const auto size = static_cast<int64_t>(message.size());
    if (size > stream_window_) return Broken("a request is larger than the window of a stream");
    if (size > send_window_) break;
    send_window_ -= size;
    AddFrame(kData, kEndStream, id, message);
    waiting_.pop_front();
  }
  for (size_t sent = 0; sent < unsent_.size();) {
    const ssize_t now = send(fd_.get(), unsent_.data() + sent, unsent_.size() - sent, MSG_NOSIGNAL);
    if (now <= 0) return Broken("the server takes no more");
    sent += static_cast<size_t>(now);
  }
  unsent_.clear();
  return absl::OkStatus();
}

absl::Status Http2Calls::Run(const Events& events) {
  while (num_open_ > 0) {
    RETURN_IF_ERROR(Flush());
    RETURN_IF_ERROR(ReadFrames(events));
  }
  return Flush();
}

absl::Status Http2Calls::ReadFrames(const Events& events) {
  std::array<char, 1 << 18> bytes;
  const ssize_t count = recv(fd_.get(), bytes.data(), bytes.size(), 0);
  if (count <= 0) return Broken("the connection has ended, or is silent");
  unread_.append(bytes.data(), static_cast<size_t>(count));
  absl::string_view rest = unread_;
  while (rest.size() >= kFrameHeaderBytes) {
    const size_t size = ReadBigEndian(rest.substr(0, 3));
    if (size > kFrameBytesMax) return Broken(absl::StrCat("a frame of ", size, " bytes"));
    if (rest.size() < kFrameHeaderBytes + size) break;
    RETURN_IF_ERROR(Take({.type = static_cast<uint8_t>(rest[3]),
                          .flags = static_cast<uint8_t>(rest[4]),
                          .stream = ReadBigEndian(rest.substr(5, 4)) & 0x7FFFFFFF,
                          .payload = rest.substr(kFrameHeaderBytes, size)},
                         events));
    rest.remove_prefix(kFrameHeaderBytes + size);
  }
  unread_.erase(0, unread_.size() - rest.size());
  return absl::OkStatus();
}

absl::Status Http2Calls::Take(const Frame& frame, const Events& events) {
  switch (frame.type) {
    case kData:
      return TakeData(frame, events);
    case kHeaders:
      return TakeHeaders(frame, events);
    case kRstStream:
      return Broken(absl::StrCat("stream ", frame.stream, " was reset, error ",
                                 ReadBigEndian(frame.payload)));
    case kSettings:
      return TakeSettings(frame);
    case kPing:
      if ((frame.flags & kAck) == 0) AddFrame(kPing, kAck, 0, frame.payload);
      return absl::OkStatus();
    case kGoAway:
      return Broken(absl::StrCat("the server goes away: ", absl::ClippedSubstr(frame.payload, 8)));
    case kWindowUpdate:
      if (frame.stream == 0) send_window_ += ReadBigEndian(frame.payload);
      return absl::OkStatus();
    case kContinuation:
      return Broken("headers in several frames");
    default:
      return absl::OkStatus();  // unknown ones are skipped
  }
}

absl::Status Http2Calls::TakeSettings(const Frame& frame) {
  if ((frame.flags & kAck) != 0) return absl::OkStatus();
  for (absl::string_view rest = frame.payload; rest.size() >= 6; rest.remove_prefix(6)) {
    if (ReadBigEndian(rest.substr(0, 2)) == kInitialWindowSize) {
      stream_window_ = ReadBigEndian(rest.substr(2, 4));
    }
  }
  AddFrame(kSettings, kAck, 0, "");
  return absl::OkStatus();
}

absl::StatusOr<Http2Calls::Stream*> Http2Calls::Find(uint32_t id) {
  const size_t index = (id - 1) / 2;
  if (id % 2 == 0 || index >= streams_.size() || !streams_[index].open) {
    return Broken(absl::StrCat("a frame of stream ", id, ", which is not open"));
  }
  return &streams_[index];
}

absl::Status Http2Calls::TakeData(const Frame& frame, const Events& events) {
  ASSIGN_OR_RETURN(Stream* const stream, Find(frame.stream));
  if ((frame.flags & (kPadded | kEndStream)) != 0) return Broken("no data as gRPC sends it");
  unacknowledged_ += static_cast<int64_t>(frame.payload.size());
  if (unacknowledged_ > kWindowBytes / 2) {
    AddFrame(kWindowUpdate, 0, 0, BigEndian(static_cast<uint32_t>(unacknowledged_)));
    unacknowledged_ = 0;
  }
  const bool in_parts = !stream->unread.empty();
  if (in_parts) absl::StrAppend(&stream->unread, frame.payload);
  absl::string_view rest = in_parts ? absl::string_view(stream->unread) : frame.payload;
  while (rest.size() >= kMessageHeaderBytes) {
    const size_t size = ReadBigEndian(rest.substr(1, 4));
    if (rest.size() - kMessageHeaderBytes < size) break;
    events.on_message(stream->call, rest.substr(kMessageHeaderBytes, size));
    rest.remove_prefix(kMessageHeaderBytes + size);
  }
  stream->unread = std::string(rest);
  return absl::OkStatus();
}

absl::Status Http2Calls::TakeHeaders(const Frame& frame, const Events& events) {
  ASSIGN_OR_RETURN(Stream* const stream, Find(frame.stream));
  if ((frame.flags & kEndStream) == 0) return absl::OkStatus();  // the initial ones
  const absl::string_view status = ValueOf("grpc-status", frame.payload);
  if (status != "0") {
    return absl::UnavailableError(
        absl::StrCat("status '", status, "': ", ValueOf("grpc-message", frame.payload)));
  }
  if (!stream->unread.empty()) return Broken("a message was cut off");
  stream->open = false;
  --num_open_;
  events.on_end(stream->call);
  return absl::OkStatus();
}

}  // namespace pregate
