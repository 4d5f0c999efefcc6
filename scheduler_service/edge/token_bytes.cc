#include "scheduler_service/edge/token_bytes.h"

#include <string>

#include "common/base/proto_wire.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "pregate/v1/inference.pb.h"

namespace pregate {

grpc::ByteBuffer TokenBytes(const TokensOut& out, bool has_routes) {
  PREGATE_CHECK(out.logprobs.empty(), "log-probabilities: ", out.logprobs.size());
  using Tokens = v1::GenerateTokens;
  std::string tokens;
  AppendWireInt32s(Tokens::kIdsFieldNumber, out.tokens, &tokens);
  if (!out.text.empty()) {
    AppendWireBytes(Tokens::kTextFieldNumber,
                    IsUtf8(out.text) ? out.text : ReplaceStrayBytes(out.text), &tokens);
  }
  if (has_routes) AppendWireSint32s(Tokens::kRoutesFieldNumber, out.routes, &tokens);
  if (out.index != 0) {
    AppendWireVarint(Tokens::kIndexFieldNumber, WireInt32(out.index), &tokens);
  }
  std::string response;
  AppendWireBytes(v1::GenerateResponse::kTokensFieldNumber, tokens, &response);
  const grpc::Slice slice(response.data(), response.size());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace pregate
