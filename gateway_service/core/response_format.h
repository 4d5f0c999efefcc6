// What the text of an answer has to be: OpenAI's `response_format`, and vLLM's `structured_outputs`.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway {

// {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema", "json_schema": {"schema":
// {...}, ...}}, whose name, description and strict say nothing about the text.
absl::Status ReadResponseFormat(absl::string_view name, const Json& value, Generation* out);

// One of {"json": schema}, {"json_object": true}, {"regex": "..."}, {"choice": ["...", ...]}.
absl::Status ReadStructuredOutputs(absl::string_view name, const Json& value, Generation* out);

}  // namespace pregate::gateway
