#include "gateway_service/core/tools.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"

namespace pregate::gateway {
namespace {

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status NeedObject(absl::string_view place, const Json& value) {
  if (value.is_object()) return absl::OkStatus();
  return Invalid(place, absl::StrCat("is ", Shown(value), ", not an object"));
}

absl::StatusOr<Tool> ReadTool(const std::string& place, const Json& value) {
  RETURN_IF_ERROR(NeedObject(place, value));
  const Json& type = Member(value, "type");
  if (type != "function") {
    return Unsupported(absl::StrCat(place, ".type"),
                       absl::StrCat("is ", Shown(type), ": only \"function\" is supported"));
  }
  RETURN_IF_ERROR(CheckMembers(place, value, {"type", "function"}));
  const Json& function = Member(value, "function");
  const std::string at = absl::StrCat(place, ".function");
  RETURN_IF_ERROR(NeedObject(at, function));
  RETURN_IF_ERROR(CheckMembers(at, function, {"name", "description", "parameters", "strict"}));
  ASSIGN_OR_RETURN(Tool tool,
                   MakeTool(at, Member(function, "name"), Member(function, "description"),
                            Member(function, "parameters")));
  if (const Json& strict = Member(function, "strict"); !strict.is_null()) {
    ASSIGN_OR_RETURN(tool.strict, ReadBool(at + ".strict", strict));
  }
  return tool;
}

bool UsesTools(const Generation& generation) {
  const auto* const messages = std::get_if<Conversation>(&generation.prompt);
  return messages != nullptr && std::any_of(messages->begin(), messages->end(), [](const auto& m) {
           return m.role == "tool" || !m.tool_calls.empty();
         });
}

// "#/$defs/x" of a schema that stands at `base` of another one.
void MoveReferences(const std::string& base, Json* schema) {
  if (schema->is_array()) {
    for (Json& member : *schema) MoveReferences(base, &member);
  }
  if (!schema->is_object()) return;
  for (auto& [key, member] : schema->items()) {
    if (key == "$ref" && member.is_string()) {
      const std::string to = member.get<std::string>();
      if (to == "#" || to.starts_with("#/")) member = base + to.substr(1);
    } else if (key != "const" && key != "enum" && key != "default" && key != "examples") {
      MoveReferences(base, &member);
    }
  }
}

// A call of one of `tools`, as JSON Schema. With `all_strict` all arguments are held to their schemas,
// else those of strict tools.
Json SchemaOfCall(const std::vector<const Tool*>& tools, bool all_strict) {
  Json calls = Json::array(), schemas = Json::object();
  for (size_t i = 0; i < tools.size(); ++i) {
    const bool strict = all_strict || tools[i]->strict;
    Json parameters = strict ? Json::parse(tools[i]->parameters) : Json{{"type", "object"}};
    MoveReferences(absl::StrCat("#/$defs/", i), &parameters);
    schemas[std::to_string(i)] = std::move(parameters);
    Json call = {{"type", "object"}};
    call["properties"]["name"] = {{"const", tools[i]->name}};
    call["properties"]["arguments"] = {{"$ref", absl::StrCat("#/$defs/", i)}};
    call["required"] = Json::array({"name", "arguments"});
    call["additionalProperties"] = false;
    calls.push_back(std::move(call));
  }
  return {{"anyOf", std::move(calls)}, {"$defs", std::move(schemas)}};
}

// A list of calls of `tools`, as the JSON Schema that a scheduler takes.
std::string SchemaOfCalls(const std::vector<const Tool*>& tools, bool several) {
  Json call = SchemaOfCall(tools, /*all_strict=*/true);
  Json schema = {
      {"type", "array"}, {"minItems", 1}, {"maxItems", several ? kToolCallsRequiredMax : 1}};
  schema["items"]["anyOf"] = std::move(call["anyOf"]);
  schema["$defs"] = std::move(call["$defs"]);
  return Dump(schema);
}

// Arguments of strict tools, where the model calls if it likes to: the text is free until it writes the
// mark that begins a call.
absl::Status HoldStrictCalls(const ToolFormat& format, const std::string& model,
                             Generation* generation) {
  const auto& tools = generation->tools;
  const auto strict = std::find_if(tools.begin(), tools.end(), [](auto& t) { return t.strict; });
  if (strict == tools.end()) return absl::OkStatus();
  const std::string place = absl::StrCat("tools[", strict - tools.begin(), "]");
  if (format.begin.empty() || format.is_list) {
    return Unsupported(
        place, absl::StrCat("is strict, which with tool_choice auto goes with models that write ",
                            "<tool_call>, and ", Shown(model), " writes calls as ", format.name,
                            ": ask for a call (required or any, or a tool by its name)"));
  }
  if (!std::holds_alternative<std::monostate>(generation->constraint)) {
    return Invalid(place, "is strict, which does not go with another constraint");
  }
  std::vector<const Tool*> all;
  for (const Tool& tool : tools) all.push_back(&tool);
  generation->constraint = MarkedJson{.begin = format.begin,
                                      .end = format.end,
                                      .schema = {Dump(SchemaOfCall(all, /*all_strict=*/false))},
                                      .once = !generation->parallel_tool_calls};
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckMembers(absl::string_view place, const Json& object,
                          const std::vector<absl::string_view>& names) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      return UnknownField(absl::StrCat(place, ".", key));
    }
  }
  return absl::OkStatus();
}

bool IsToolName(absl::string_view name) {
  return !name.empty() && name.size() <= static_cast<size_t>(kToolNameBytesMax) &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '_' || c == '-';
         });
}

absl::StatusOr<Tool> MakeTool(const std::string& place, const Json& name, const Json& description,
                              const Json& schema) {
  Tool tool;
  ASSIGN_OR_RETURN(tool.name, ReadString(place + ".name", name));
  if (!IsToolName(tool.name)) {
    return Invalid(place + ".name", absl::StrCat("is ", Shown(name), ", not 1 to ",
                                                 kToolNameBytesMax, " letters, digits, _ and -"));
  }
  Json function = {{"name", tool.name}, {"description", ""}};  // which some templates insist on
  if (!description.is_null()) {
    ASSIGN_OR_RETURN(function["description"], ReadString(place + ".description", description));
  }
  Json parameters =
      schema.is_null() ? Json{{"type", "object"}, {"properties", Json::object()}} : schema;
  RETURN_IF_ERROR(NeedObject(place + ".parameters", parameters));
  function["parameters"] = parameters;
  tool.definition = Dump(Json{{"type", "function"}, {"function", std::move(function)}});
  // Arguments are an object, whatever else is said of them.
  if (!parameters.contains("type")) parameters["type"] = "object";
  tool.parameters = Dump(parameters);
  return tool;
}

absl::Status ReadTools(absl::string_view name, const Json& value, Generation* out) {
  if (!value.is_array() || value.size() > static_cast<size_t>(kToolsMax)) {
    return Invalid(
        name, absl::StrCat("is ", Shown(value), ", not an array of at most ", kToolsMax, " tools"));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    ASSIGN_OR_RETURN(Tool tool, ReadTool(absl::StrCat(name, "[", i, "]"), value[i]));
    out->tools.push_back(std::move(tool));
  }
  return absl::OkStatus();
}

absl::Status ReadToolChoice(absl::string_view name, const Json& value, Generation* out) {
  if (value == "auto" || value == "none" || value == "required") {
    out->tool_use = value == "auto"   ? ToolUse::kAuto
                    : value == "none" ? ToolUse::kNone
                                      : ToolUse::kRequired;
    return absl::OkStatus();
  }
  if (!value.is_object()) {
    return Invalid(name, absl::StrCat("is ", Shown(value),
                                      ", not none, auto, required or a function's object"));
  }
  const Json& type = Member(value, "type");
  if (type != "function") {
    return Unsupported(absl::StrCat(name, ".type"),
                       absl::StrCat("is ", Shown(type), ": only \"function\" is supported"));
  }
  RETURN_IF_ERROR(CheckMembers(name, value, {"type", "function"}));
  const Json& function = Member(value, "function");
  const std::string at = absl::StrCat(name, ".function");
  RETURN_IF_ERROR(NeedObject(at, function));
  RETURN_IF_ERROR(CheckMembers(at, function, {"name"}));
  ASSIGN_OR_RETURN(out->tool_name, ReadString(at + ".name", Member(function, "name")));
  out->tool_use = ToolUse::kRequired;
  return absl::OkStatus();
}

absl::Status ReadParallelToolCalls(absl::string_view name, const Json& value, Generation* out) {
  ASSIGN_OR_RETURN(out->parallel_tool_calls, ReadBool(name, value));
  return absl::OkStatus();
}

absl::Status CheckTools(Generation* generation) {
  std::map<std::string, std::string> names;  // of tools, by the ids of calls so far
  if (auto* const messages = std::get_if<Conversation>(&generation->prompt)) {
    for (size_t i = 0; i < messages->size(); ++i) {
      Message& message = (*messages)[i];
      for (const ToolCall& call : message.tool_calls) names[call.id] = call.name;
      if (message.role != "tool") continue;
      const auto called = names.find(message.tool_call_id);
      if (called == names.end()) {
        return Invalid(
            absl::StrCat("messages[", i, "].tool_call_id"),
            absl::StrCat("is ", Shown(message.tool_call_id), ", which no call before it has"));
      }
      message.name = called->second;
    }
  }
  std::vector<std::string> tools;
  for (const Tool& tool : generation->tools) {
    if (std::find(tools.begin(), tools.end(), tool.name) != tools.end()) {
      return Invalid("tools", absl::StrCat("has ", Shown(tool.name), " twice"));
    }
    tools.push_back(tool.name);
  }
  const bool required = generation->tool_use == ToolUse::kRequired;
  if (required && tools.empty())
    return Invalid("tool_choice", "asks for a call, but tools has none");
  const std::string& name = generation->tool_name;
  if (!name.empty() && std::find(tools.begin(), tools.end(), name) == tools.end()) {
    return Invalid("tool_choice", absl::StrCat("names ", Shown(name), ", which is not in tools"));
  }
  const bool constrained = !std::holds_alternative<std::monostate>(generation->constraint);
  if (required && constrained) {
    return Invalid("tool_choice", "asks for a call, which does not go with another constraint");
  }
  return absl::OkStatus();
}

absl::Status ApplyTools(const ToolFormat* format, const std::string& model,
                        Generation* generation) {
  if (generation->tool_use == ToolUse::kNone) generation->tools.clear();
  if (generation->tools.empty() && !UsesTools(*generation)) return absl::OkStatus();
  if (format == nullptr) {
    return Unsupported(generation->tools.empty() ? "messages" : "tools",
                       absl::StrCat("are not supported by model ", Shown(model),
                                    ": its chat template has no tools, or a form of calls that is "
                                    "not known"));
  }
  if (generation->tools.empty()) return absl::OkStatus();
  generation->tool_format = *format;
  if (generation->tool_use != ToolUse::kRequired) {
    return HoldStrictCalls(*format, model, generation);
  }
  std::vector<const Tool*> may;
  for (const Tool& tool : generation->tools) {
    if (generation->tool_name.empty() || tool.name == generation->tool_name) may.push_back(&tool);
  }
  const bool several = generation->parallel_tool_calls && generation->tool_name.empty();
  generation->constraint = JsonSchema{SchemaOfCalls(may, several)};
  generation->tool_format = ToolFormat{.name = "list", .is_list = true};
  return absl::OkStatus();
}

}  // namespace pregate::gateway
