// Decodes GGUF files, one JSON object a line from stdin to stdout, so that tests in other languages
// compare with them:
//   {"path": FILE, "out": FILE}, perhaps with "rows": [ROW, ...] and "cols": [COLUMN, ...] of every
//   tensor
//   -> {"tensors": [{"name": NAME, "type": TYPE, "shape": [ROWS, COLUMNS]}, ...]} by name, their
//      values as f32 one after the other in `out`
//   or {"error": MESSAGE}
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/model/formats/gguf.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

using nlohmann::json;

std::vector<float> ReadWhole(const TensorView& view) {
  int64_t size = 1;
  for (const int64_t axis : view.shape()) size *= axis;
  std::vector<float> values(static_cast<size_t>(size));
  ReadView(view, absl::MakeSpan(values));
  return values;
}

json Answer(const json& question) {
  const auto file = GgufFile::OpenModel(question.at("path").get<std::string>());
  if (!file.ok()) return {{"error", std::string(file.status().message())}};
  std::ofstream out(question.at("out").get<std::string>(), std::ios::binary | std::ios::trunc);
  json tensors = json::array();
  for (const auto& [name, stored] : (*file)->tensors()) {
    const TensorView view{.stored = stored,
                          .rows = question.value("rows", std::vector<int32_t>()),
                          .cols = question.value("cols", std::vector<int32_t>())};
    const std::vector<float> values = ReadWhole(view);
    out.write(reinterpret_cast<const char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
    tensors.push_back(
        {{"name", name}, {"type", StoredTypeName(stored.type)}, {"shape", view.shape()}});
  }
  out.close();
  PREGATE_CHECK(static_cast<bool>(out), "cannot write values");
  return {{"tensors", std::move(tensors)}};
}

}  // namespace
}  // namespace pregate

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << pregate::Answer(nlohmann::json::parse(line)).dump() << std::endl;
  }
}
