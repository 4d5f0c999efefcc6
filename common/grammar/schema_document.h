// One JSON Schema as a document: its parts by pointer, references followed, and what two schemas
// allow together as one schema.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/grammar/schema_keywords.h"

namespace pregate {

// A schema and where it stands, for errors and references.
struct SchemaAt {
  Schema schema;
  std::string pointer;
};

// Work is counted: a small schema can ask for much by references. Not thread-safe.
class SchemaDocument {
 public:
  explicit SchemaDocument(Schema root) : root_(std::move(root)) {}

  const Schema& root() const { return root_; }
  absl::Status Count(int64_t steps, std::string_view pointer);

  // What "$ref" of `schema` names: "#" or "#/..." alone.
  absl::StatusOr<SchemaAt> Resolve(const Schema& schema, std::string_view pointer);
  // `at` without references and "allOf": one schema of keywords, maybe with "anyOf" or "oneOf".
  // Errors name what cannot be said in one schema.
  absl::StatusOr<SchemaAt> Flatten(SchemaAt at, int depth = 0);
  // One schema that allows what both allow.
  absl::StatusOr<Schema> Merge(const Schema& a, const Schema& b, std::string_view pointer,
                               int depth = 0);

 private:
  absl::Status MergeKeyword(const std::string& keyword, const Schema& value,
                            std::string_view pointer, int depth, Schema* into);
  absl::Status MergeProperties(const Schema& value, std::string_view pointer, int depth,
                               Schema* into);

  Schema root_;
  int64_t steps_ = 0;
};

}  // namespace pregate
