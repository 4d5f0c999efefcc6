// What is done to a text before it is cut into words: the "normalizer" of a tokenizer.json.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace pregate {

// One step. Immutable; thread-safe.
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  // REQUIRES: `text` is well-formed UTF-8 and not empty.
  virtual std::string Apply(std::string_view text) const = 0;
  // By how much the step may lengthen a text; what it writes once for a text does not count.
  virtual double growth() const = 0;
};

// The steps one after another. Immutable; thread-safe.
class Normalizer {
 public:
  // As tokenizer.json's "normalizer" has it; null leaves texts as they are. Errors begin with
  // `where` and name the step and the field; Unimplemented for a step that is not known, and for
  // steps that together may lengthen a text more than kNormalizerGrowthMax times.
  static absl::StatusOr<Normalizer> Make(const nlohmann::json& value, const std::string& where);

  bool empty() const { return steps_.empty(); }
  std::string Normalise(std::string_view text) const;

 private:
  std::vector<std::unique_ptr<const NormalizerStep>> steps_;
};

}  // namespace pregate
