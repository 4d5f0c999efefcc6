// How rows become elements of a packed weight.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "common/device/types.h"

namespace pregate::cpu {

// Rows r of [num_rows, inputs] as columns of a panel: element k of row r goes to columns[32 k + r].
void PackColumns(const float* rows, int num_rows, int inputs, WeightFormat format, void* columns);
// Of rows in bf16. REQUIRES: so is the format.
void PackColumns(const uint16_t* rows, int num_rows, int inputs, WeightFormat format,
                 void* columns);
// Zeros in their place.
void ClearColumns(int num_rows, int inputs, WeightFormat format, void* columns);
// Rounded, one after the other.
void PackRows(absl::Span<const float> rows, WeightFormat format, void* out);
void PackRows(absl::Span<const uint16_t> rows, WeightFormat format, void* out);  // likewise

}  // namespace pregate::cpu
