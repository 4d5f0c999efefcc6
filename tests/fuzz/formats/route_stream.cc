// Between scheduler and router, both ways.
#include "common/rpc/router_codec.h"
#include "tests/fuzz/proto_format.h"

namespace pregate::fuzz::route {
namespace {

std::vector<v1::RouteRequest> Requests() {
  return {EncodeToRouter(RouteRequest{.seq_id = 3, .base = 2, .tokens = {1, 2, 300000}}),
          EncodeToRouter(CloseSession{.seq_id = 3})};
}

std::vector<v1::RouteResponse> Responses() {
  return {EncodeFromRouter(RouterHello{
              .boot_id = 5, .router_digest = "abc", .num_experts = 4, .vocab_size = 100}),
          EncodeFromRouter(RouteResponse{.seq_id = 3, .base = 2, .routes = {0, 3, 1}}),
          EncodeFromRouter(RouteResponse{.seq_id = 3, .gap = true, .have = 1}),
          EncodeFromRouter(RouteResponse{.seq_id = 3, .error = "token 7 is outside"})};
}

const Registration request(ProtoFormat<v1::RouteRequest>("route_request", Requests,
                                                         [](const v1::RouteRequest& message) {
                                                           if (!DecodeToRouter(message).ok())
                                                             return false;
                                                           CheckRoundTrip(message, EncodeToRouter,
                                                                          DecodeToRouter);
                                                           return true;
                                                         }));

const Registration response(ProtoFormat<v1::RouteResponse>("route_response", Responses,
                                                           [](const v1::RouteResponse& message) {
                                                             if (!DecodeFromRouter(message).ok())
                                                               return false;
                                                             CheckRoundTrip(message,
                                                                            EncodeFromRouter,
                                                                            DecodeFromRouter);
                                                             return true;
                                                           }));

}  // namespace
}  // namespace pregate::fuzz::route
