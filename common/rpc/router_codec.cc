#include "common/rpc/router_codec.h"

#include <string>
#include <utility>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/decode.h"

namespace pregate {
namespace {

constexpr int kDigestBytesMax = 64;
// A varint of a negative int32 takes 10 bytes.
static_assert(kRouteTokensMax * 10 + 1024 < kRouteMessageBytesMax,
              "a route request fits its message");

void Encode(const RouteRequest& in, v1::RouteRequest* out) {
  v1::RouteTokens* tokens = out->mutable_tokens();
  tokens->set_seq_id(in.seq_id);
  tokens->set_base(in.base);
  tokens->mutable_tokens()->Add(in.tokens.begin(), in.tokens.end());
  if (!in.traceparent.empty()) tokens->set_traceparent(in.traceparent);
}

void Encode(const CloseSession& in, v1::RouteRequest* out) {
  out->mutable_close()->set_seq_id(in.seq_id);
}

void Encode(const RouterPing&, v1::RouteRequest* out) { out->mutable_ping(); }
void Encode(const RouterPong&, v1::RouteResponse* out) { out->mutable_pong(); }

void Encode(const RouterHello& in, v1::RouteResponse* out) {
  v1::RouterHello* hello = out->mutable_hello();
  hello->set_boot_id(in.boot_id);
  hello->set_router_digest(in.router_digest);
  hello->set_num_experts(in.num_experts);
  hello->set_vocab_size(in.vocab_size);
  hello->set_answers_pings(in.answers_pings);
}

void Encode(const RouteResponse& in, v1::RouteResponse* out) {
  if (!in.error.empty()) {
    v1::RouteError* error = out->mutable_error();
    error->set_seq_id(in.seq_id);
    error->set_base(in.base);
    error->set_message(std::string(Clip(in.error, kErrorTextBytesMax)));
  } else if (in.gap) {
    v1::RouteGap* gap = out->mutable_gap();
    gap->set_seq_id(in.seq_id);
    gap->set_base(in.base);
    gap->set_have(in.have);
  } else {
    v1::Routes* routes = out->mutable_routes();
    routes->set_seq_id(in.seq_id);
    routes->set_base(in.base);
    routes->mutable_routes()->Add(in.routes.begin(), in.routes.end());
  }
}

absl::StatusOr<ToRouter> Decode(const v1::RouteTokens& in) {
  RETURN_IF_ERROR(CheckBytes("tokens.traceparent", in.traceparent(), kIdBytesMax));
  return RouteRequest{.seq_id = in.seq_id(),
                      .base = in.base(),
                      .tokens = ToVector(in.tokens()),
                      .traceparent = in.traceparent()};
}

absl::StatusOr<FromRouter> Decode(const v1::RouterHello& in) {
  RETURN_IF_ERROR(CheckCount("hello.router_digest", in.router_digest().size(), kDigestBytesMax));
  RETURN_IF_ERROR(CheckBetween("hello.num_experts", in.num_experts(), 1, kExpertsMax));
  RETURN_IF_ERROR(CheckBetween("hello.vocab_size", in.vocab_size(), 1, INT32_MAX));
  return RouterHello{.boot_id = in.boot_id(),
                     .router_digest = in.router_digest(),
                     .num_experts = in.num_experts(),
                     .vocab_size = in.vocab_size(),
                     .answers_pings = in.answers_pings()};
}

absl::StatusOr<FromRouter> Decode(const v1::Routes& in) {
  RETURN_IF_ERROR(CheckCount("routes.routes", in.routes_size(), kRouteTokensMax));
  for (const int32_t route : in.routes()) {
    RETURN_IF_ERROR(CheckBetween("routes.routes", route, 0, kExpertsMax - 1));
  }
  return RouteResponse{.seq_id = in.seq_id(), .base = in.base(), .routes = ToVector(in.routes())};
}

absl::StatusOr<FromRouter> Decode(const v1::RouteGap& in) {
  RETURN_IF_ERROR(CheckBetween("gap.have", in.have(), 0, INT32_MAX));
  return RouteResponse{.seq_id = in.seq_id(), .base = in.base(), .gap = true, .have = in.have()};
}

absl::StatusOr<FromRouter> Decode(const v1::RouteError& in) {
  if (in.message().empty()) return BadField("error.message", "is empty");
  return RouteResponse{.seq_id = in.seq_id(),
                       .base = in.base(),
                       .error = std::string(Clip(in.message(), kErrorTextBytesMax))};
}

}  // namespace

v1::RouteRequest EncodeToRouter(const ToRouter& message) {
  v1::RouteRequest out;
  std::visit([&](const auto& in) { Encode(in, &out); }, message);
  return out;
}

v1::RouteResponse EncodeFromRouter(const FromRouter& message) {
  v1::RouteResponse out;
  std::visit([&](const auto& in) { Encode(in, &out); }, message);
  return out;
}

absl::StatusOr<ToRouter> DecodeToRouter(const v1::RouteRequest& message) {
  switch (message.message_case()) {
    case v1::RouteRequest::kTokens:
      return Decode(message.tokens());
    case v1::RouteRequest::kClose:
      return CloseSession{.seq_id = message.close().seq_id()};
    case v1::RouteRequest::kPing:
      return RouterPing{};
    case v1::RouteRequest::MESSAGE_NOT_SET:
      break;
  }
  return BadField("message", "is not set, or of a newer version than this router");
}

absl::StatusOr<FromRouter> DecodeFromRouter(const v1::RouteResponse& message) {
  switch (message.message_case()) {
    case v1::RouteResponse::kHello:
      return Decode(message.hello());
    case v1::RouteResponse::kRoutes:
      return Decode(message.routes());
    case v1::RouteResponse::kGap:
      return Decode(message.gap());
    case v1::RouteResponse::kError:
      return Decode(message.error());
    case v1::RouteResponse::kPong:
      return RouterPong{};
    case v1::RouteResponse::MESSAGE_NOT_SET:
      break;
  }
  return BadField("message", "is not set, or of a newer version than this scheduler");
}

}  // namespace pregate
