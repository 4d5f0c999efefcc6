// The body of Anthropic's POST /v1/messages.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/core/json_field.h"
#include "gateway_service/core/request_field.h"

namespace pregate::gateway::anthropic {

// As openai::ReadChatRequest. `system` becomes the first message.
absl::StatusOr<Generation> ReadRequest(const Json& body);

// docs/API.md has them all; a test compares.
absl::Span<const RequestField> Fields();

}  // namespace pregate::gateway::anthropic
