#include "expert_service/engine/unit_reader.h"

#include <vector>

#include "common/base/status.h"

namespace pregate {

absl::StatusOr<UnitImage> ReadUnit(const Checkpoint& checkpoint, const Device& device,
                                   const std::string& prefix, const UnitShape& shape) {
  std::vector<float> gate, up, down;
  for (const auto& [name, values] : {std::pair{"gate", &gate}, {"up", &up}, {"down", &down}}) {
    values->resize(size_t(shape.width) * shape.hidden);
    RETURN_IF_ERROR(checkpoint.ReadAs(ValueType(shape.format),
                                      absl::StrCat(prefix, name, "_proj.weight"),
                                      absl::MakeSpan(*values)));
  }
  return PackUnitImage(device, shape, gate, up, down);
}

}  // namespace pregate
