// What an OpenAI request is to go on from: "messages" of a chat, "prompt" of a completion.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gateway_service/core/generation.h"
#include "nlohmann/json.hpp"

namespace pregate::gateway::openai {

// Readers of RequestField.
absl::Status ReadMessages(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadPrompt(absl::string_view name, const Json& value, Generation* out);

}  // namespace pregate::gateway::openai
