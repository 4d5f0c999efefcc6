// The bodies of POST /v1/chat/completions and POST /v1/completions.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/core/json_field.h"
#include "gateway_service/core/request_field.h"

namespace pregate::gateway::openai {

// Errors are INVALID_ARGUMENT and UNIMPLEMENTED, which name the field. Any JSON may come. What only
// the scheduler can know (the model's name, the context, ids of the vocabulary) is its to refuse.
absl::StatusOr<Generation> ReadChatRequest(const Json& body);
absl::StatusOr<Generation> ReadCompletionRequest(const Json& body);

// docs/API.md has them all; a test compares.
absl::Span<const RequestField> ChatFields();
absl::Span<const RequestField> CompletionFields();

}  // namespace pregate::gateway::openai
