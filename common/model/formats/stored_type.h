// How the elements of a tensor are encoded in a file: one table, of which an encoding is a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pregate {

// Encodings that are read. From kQ4_0 on they are GGUF's blocks of elements along the last axis.
// kOther is any other: such a tensor may lie in a file that is read, but is not read itself.
enum class StoredType {
  kF32,
  kF16,
  kBF16,
  kI32,
  kI8,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
  kOther,
};

// A block is the smallest unit that can be decoded.
struct BlockLayout {
  int elements = 1;
  int bytes = 4;
};

struct StoredFormat {
  StoredType type;
  const char* name;  // "F32", "Q4_1", ...
  int gguf_number;   // of the type in a GGUF file; -1: not read from there
  BlockLayout block;
  // Decodes whole blocks, at any address; null where the elements are no floats.
  void (*decode)(const char* blocks, size_t num_blocks, float* out);
};

const StoredFormat& FormatOf(StoredType type);
inline const char* StoredTypeName(StoredType type) { return FormatOf(type).name; }
inline BlockLayout BlockLayoutOf(StoredType type) { return FormatOf(type).block; }

// What to do where weights are not read.
inline constexpr const char* kGiveOtherWeights =
    "give a checkpoint of F32, F16 or BF16, or a GGUF file";

// Null where GGUF's type of that number is not read.
const StoredFormat* FindGgufFormat(uint32_t gguf_number);
// Of any type that GGUF has or had; "number 999" of others.
std::string GgufTypeName(uint32_t gguf_number);
// "F32, F16, ...": the types that are read from GGUF files.
std::string GgufTypesRead();

}  // namespace pregate
