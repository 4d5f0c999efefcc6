// Tools in requests: what they are, which must be called, and what of it the model is held to.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway {

// OpenAI's "tools", "tool_choice" and "parallel_tool_calls".
absl::Status ReadTools(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadToolChoice(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadParallelToolCalls(absl::string_view name, const Json& value, Generation* out);

// A tool as chat templates take it. `place` names it in errors; `description` and `schema` may be
// null.
absl::StatusOr<Tool> MakeTool(const std::string& place, const Json& name, const Json& description,
                              const Json& schema);
// The members of an object that may be there; others are refused by name.
absl::Status CheckMembers(absl::string_view place, const Json& object,
                          const std::vector<absl::string_view>& names);
// 1 to 64 letters, digits, "_" and "-".
bool IsToolName(absl::string_view name);

// What no single field shows: the tool that is to be called is among the tools, a tool's message answers
// a call before it (whose name it gets), formats do not forbid calls. Once, when all fields are read.
absl::Status CheckTools(Generation* generation);

// For a model that writes calls as `format` says (null: it has none): refuses what it cannot do, and
// holds the text to calls where one is required, and calls of strict tools to their schemas. Tools that may not be called are left out.
absl::Status ApplyTools(const ToolFormat* format, const std::string& model, Generation* generation);

}  // namespace pregate::gateway
