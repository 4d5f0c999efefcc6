// The fields that a model's files may hold, one table a kind of file: what is read, what is
// harmless, and what is refused unless its value changes nothing. A field that is in no table is
// refused by name: it may mean another function, other ids or another text than ours.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/base/json.h"
#include "common/model/formats/gguf.h"

namespace pregate {

struct Architecture;

enum class FieldUse { kRead, kHarmless, kRefused };

// A row of a table. The first row with a matching name counts.
struct Fields {
  const char* names;  // separated by spaces; one '*' in a name stands for any text
  FieldUse use;
  const char*
      neutral;      // of kRefused: a JSON array of values that change nothing; null is one always
  const char* why;  // for people; in docs/MODELS.md
  const char* member = "";  // of kRefused: what an error shows of an object that has it
  const char* advice = "";  // of kRefused: what to do; in errors
};

struct FieldTable {
  const char* file;  // what the rows are fields of
  absl::Span<const Fields> rows;
};

extern const FieldTable kConfigFields;            // config.json
extern const FieldTable kAuthorsConfigFields;     // further ones of the authors' layout
extern const FieldTable kRopeFields;              // rope_scaling, rope_parameters
extern const FieldTable kGenerationConfigFields;  // generation_config.json; also in config.json
extern const FieldTable kSpecialTokensMapFields;  // special_tokens_map.json
extern const FieldTable kTokenizerConfigFields;   // tokenizer_config.json
extern const FieldTable kTokenizerFields;         // tokenizer.json, its top level
extern const FieldTable kGgufFields;              // metadata; keys of other namespaces are harmless

// Unimplemented: names the file, the field and its value. A field counts when one of the tables has
// it.
absl::Status CheckFields(const JsonObject& object, absl::Span<const FieldTable* const> tables);
// Keys of the architecture's own namespace are ARCH.* in the table.
absl::Status CheckGgufFields(const GgufFile& file, const Architecture& architecture);

// generation_config.json is ReadGenerationConfig's. OK where a file is absent.
absl::Status CheckTokenizerFields(const std::string& dir);

// All tables as docs/MODELS.md has them.
std::string FieldsMarkdown();

}  // namespace pregate
