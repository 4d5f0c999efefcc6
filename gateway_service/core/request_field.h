// How a request's fields are treated: one table for each kind of request. A field that is in no
// table is refused, as a misspelt one would change the text without a word.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway {

enum class Treatment {
  kHonoured,
  kIgnored,  // on purpose: it cannot change the text
  kRefused,  // by name and value, but for the value that asks for nothing
};

struct RequestField {
  const char* name;
  Treatment treatment;
  // Of an honoured one: reads `value`, which is not null, into `out`. Of a refused one: OK where the
  // value asks for nothing.
  absl::Status (*read)(absl::string_view name, const Json& value, Generation* out);
};

// Reads all members of `body`, an object; `fields` names those that may be there. Null is as absent.
absl::Status ReadFields(const Json& body, absl::Span<const RequestField> fields, Generation* out);

// Readers of honoured fields that several requests have.
absl::Status ReadModelName(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadStream(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadMaxTokens(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadTopP(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadTopK(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadStopStrings(absl::string_view name, const Json& value, Generation* out);
absl::Status ReadPregate(absl::string_view name, const Json& value, Generation* out);

// What a refused field may hold all the same.
absl::Status OnlyEmpty(absl::string_view name, const Json& value, Generation* out);
absl::Status OnlyNull(absl::string_view name, const Json& value, Generation* out);

}  // namespace pregate::gateway
