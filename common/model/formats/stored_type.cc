#include "common/model/formats/stored_type.h"

#include <bit>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/formats/float16.h"

namespace pregate {
namespace {

// The blocks as they lie in a file, each with its decoder. They are made of bytes, so they may lie
// at any address. A scale d (and a minimum m or dmin) holds for the block; the larger ones have
// groups with small scales of their own. Values are those of ggml's reference to the last bit, so
// the order of the products matters. __restrict lets the compiler make vectors of the loops.

struct Half {
  uint8_t bytes[2];
};
float ToFloat(Half half) { return HalfToFloat(std::bit_cast<uint16_t>(half)); }

struct F16 {
  Half value;
};
void Decode(const F16& __restrict b, float* __restrict out) { *out = ToFloat(b.value); }

struct BF16 {
  uint8_t bytes[2];
};
void Decode(const BF16& __restrict b, float* __restrict out) {
  *out = BFloat16ToFloat(std::bit_cast<uint16_t>(b));
}

// Blocks of 32 with four bits in a byte's low half and four in its high one: element j of the first
// half of the block is in the low bits of byte j, its partner j + 16 in the high ones.

struct Q4_0 {
  Half d;
  uint8_t qs[16];
};
void Decode(const Q4_0& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d);
  for (int j = 0; j < 16; ++j) out[j] = d * ((b.qs[j] & 15) - 8);
  for (int j = 0; j < 16; ++j) out[j + 16] = d * ((b.qs[j] >> 4) - 8);
}

struct Q4_1 {
  Half d, m;
  uint8_t qs[16];
};
void Decode(const Q4_1& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d), m = ToFloat(b.m);
  for (int j = 0; j < 16; ++j) out[j] = d * (b.qs[j] & 15) + m;
  for (int j = 0; j < 16; ++j) out[j + 16] = d * (b.qs[j] >> 4) + m;
}

// The fifth bit of element j is bit j of qh.
struct Q5_0 {
  Half d;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct Q5_1 {
  Half d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};

template <typename Q5>
int LowElement(const Q5& b, uint32_t qh, int j) {
  return (b.qs[j] & 15) | ((qh >> j & 1) << 4);
}
template <typename Q5>
int HighElement(const Q5& b, uint32_t qh, int j) {
  return (b.qs[j] >> 4) | ((qh >> (j + 16) & 1) << 4);
}

void Decode(const Q5_0& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d);
  const auto qh = std::bit_cast<uint32_t>(b.qh);
  for (int j = 0; j < 16; ++j) out[j] = d * (LowElement(b, qh, j) - 16);
  for (int j = 0; j < 16; ++j) out[j + 16] = d * (HighElement(b, qh, j) - 16);
}

void Decode(const Q5_1& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d), m = ToFloat(b.m);
  const auto qh = std::bit_cast<uint32_t>(b.qh);
  for (int j = 0; j < 16; ++j) out[j] = d * LowElement(b, qh, j) + m;
  for (int j = 0; j < 16; ++j) out[j + 16] = d * HighElement(b, qh, j) + m;
}

struct Q8_0 {
  Half d;
  uint8_t qs[32];  // signed
};
void Decode(const Q8_0& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<int8_t>(b.qs[j]);
}

// K types: blocks of 256. Where elements have two bits, a byte holds element l of four groups of 32
// that follow each other; where they have four, of two. Halves of 128 (two bits) or quarters of 64
// (four bits) do so one after the other.

struct Q2_K {
  uint8_t scales[16];  // of groups of 16: the scale in the low four bits, the minimum in the high
  uint8_t qs[64];
  Half d, dmin;
};
void Decode(const Q2_K& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d), dmin = ToFloat(b.dmin);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * (b.scales[group] & 15), minimum = dmin * (b.scales[group] >> 4);
    const uint8_t* qs = b.qs + group / 8 * 32 + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int l = 0; l < 16; ++l) out[group * 16 + l] = scale * (qs[l] >> shift & 3) - minimum;
  }
}

struct Q3_K {
  uint8_t hmask[32];  // bit g of byte l: whether element l of group g of 32 is not lowered by 4
  uint8_t qs[64];
  uint8_t scales[12];  // of groups of 16, six bits each: the low four in the first 8 bytes
  Half d;
};
void Decode(const Q3_K& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d);
  for (int group = 0; group < 16; ++group) {
    const int low = b.scales[group % 8] >> group / 8 * 4 & 15;
    const int high = b.scales[8 + group % 4] >> group / 4 * 2 & 3;
    const float scale = d * ((low | high << 4) - 32);
    const uint8_t* qs = b.qs + group / 8 * 32 + group % 2 * 16;
    const uint8_t* hmask = b.hmask + group % 2 * 16;
    const int shift = group % 8 / 2 * 2, bit = group / 2;
    for (int l = 0; l < 16; ++l) {
      out[group * 16 + l] = scale * ((qs[l] >> shift & 3) - 4 + (hmask[l] >> bit & 1) * 4);
    }
  }
}

// Scale and minimum of each of eight groups of 32, six bits each: of the first four whole in the
// first eight bytes, of the others the low four bits in the last four bytes and the high two above
// those of the first four.
struct GroupScales {
  uint8_t packed[12];
  int scale(int group) const {
    if (group < 4) return packed[group] & 63;
    return (packed[group + 4] & 15) | packed[group - 4] >> 6 << 4;
  }
  int minimum(int group) const {
    if (group < 4) return packed[group + 4] & 63;
    return packed[group + 4] >> 4 | packed[group] >> 6 << 4;
  }
};

struct Q4_K {
  Half d, dmin;
  GroupScales scales;
  uint8_t qs[128];
};
void Decode(const Q4_K& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d), dmin = ToFloat(b.dmin);
  for (int group = 0; group < 8; ++group) {
    const float scale = d * b.scales.scale(group), minimum = dmin * b.scales.minimum(group);
    const uint8_t* qs = b.qs + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int l = 0; l < 32; ++l) out[group * 32 + l] = scale * (qs[l] >> shift & 15) - minimum;
  }
}

struct Q5_K {
  Half d, dmin;
  GroupScales scales;
  uint8_t qh[32];  // bit g of byte l: the fifth bit of element l of group g
  uint8_t qs[128];
};
void Decode(const Q5_K& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d), dmin = ToFloat(b.dmin);
  for (int group = 0; group < 8; ++group) {
    const float scale = d * b.scales.scale(group), minimum = dmin * b.scales.minimum(group);
    const uint8_t* qs = b.qs + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int l = 0; l < 32; ++l) {
      const int q = (qs[l] >> shift & 15) | (b.qh[l] >> group & 1) << 4;
      out[group * 32 + l] = scale * q - minimum;
    }
  }
}

struct Q6_K {
  uint8_t ql[128];     // the low four bits: of groups 0 and 1 of a half low, of 2 and 3 high
  uint8_t qh[64];      // the high two: as in Q2_K
  uint8_t scales[16];  // of groups of 16, signed
  Half d;
};
void Decode(const Q6_K& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * static_cast<int8_t>(b.scales[group]);
    const uint8_t* ql = b.ql + group / 8 * 64 + group % 4 * 16;
    const uint8_t* qh = b.qh + group / 8 * 32 + group % 2 * 16;
    const int low_shift = group % 8 / 4 * 4, high_shift = group % 8 / 2 * 2;
    for (int l = 0; l < 16; ++l) {
      const int q = (ql[l] >> low_shift & 15) | (qh[l] >> high_shift & 3) << 4;
      out[group * 16 + l] = scale * (q - 32);
    }
  }
}

struct Q8_K {
  uint8_t d[4];      // a float
  uint8_t qs[256];   // signed
  uint8_t sums[32];  // of groups of 16, for products of integers
};
void Decode(const Q8_K& __restrict b, float* __restrict out) {
  const auto d = std::bit_cast<float>(b.d);
  for (int j = 0; j < 256; ++j) out[j] = d * static_cast<int8_t>(b.qs[j]);
}

// Four bits that choose from a table, laid out as in Q4_0.

constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};

void DecodeChoices(const uint8_t* __restrict qs, const float* values, float scale,
                   float* __restrict out) {
  float scaled[16];
  for (int i = 0; i < 16; ++i) scaled[i] = scale * values[i];
  for (int j = 0; j < 16; ++j) out[j] = scaled[qs[j] & 15];
  for (int j = 0; j < 16; ++j) out[j + 16] = scaled[qs[j] >> 4];
}

struct IQ4_NL {
  Half d;
  uint8_t qs[16];
};
void Decode(const IQ4_NL& __restrict b, float* __restrict out) {
  DecodeChoices(b.qs, kIq4Values, ToFloat(b.d), out);
}

struct IQ4_XS {
  Half d;
  uint8_t scales_high[2];  // of groups of 32: the high two bits of six
  uint8_t scales_low[4];
  uint8_t qs[128];
};
void Decode(const IQ4_XS& __restrict b, float* __restrict out) {
  const float d = ToFloat(b.d);
  const auto scales_high = std::bit_cast<uint16_t>(b.scales_high);
  for (int group = 0; group < 8; ++group) {
    const int low = b.scales_low[group / 2] >> group % 2 * 4 & 15;
    const int high = scales_high >> group * 2 & 3;
    const float scale = d * ((low | high << 4) - 32);
    DecodeChoices(b.qs + group * 16, kIq4Values, scale, out + group * 32);
  }
}

// Of OCP's microscaling formats: FP4 (E2M1), here doubled so that all values are integers, with a
// power of two (E8M0), which is halved.
constexpr float kDoubledFp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct MXFP4 {
  uint8_t e;
  uint8_t qs[16];
};
void Decode(const MXFP4& __restrict b, float* __restrict out) {
  const uint32_t bits = b.e < 2 ? uint32_t{0x00200000} << b.e : (uint32_t{b.e} - 1) << 23;
  DecodeChoices(b.qs, kDoubledFp4, std::bit_cast<float>(bits), out);
}

template <typename Block, int kElements>
void DecodeBlocks(const char* __restrict blocks, size_t num_blocks, float* __restrict out) {
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (size_t i = 0; i < num_blocks; ++i) Decode(block[i], out + i * kElements);
}

void CopyFloats(const char* blocks, size_t num_blocks, float* out) {
  if (num_blocks > 0) std::memcpy(out, blocks, num_blocks * sizeof(float));
}

template <typename Block, int kElements, int kBytes>
constexpr StoredFormat Row(StoredType type, const char* name, int gguf_number) {
  static_assert(sizeof(Block) == kBytes && alignof(Block) == 1, "bytes without padding");
  return {type, name, gguf_number, {kElements, kBytes}, DecodeBlocks<Block, kElements>};
}

constexpr StoredFormat kFormats[] = {
    {StoredType::kF32, "F32", 0, {1, 4}, CopyFloats},
    Row<F16, 1, 2>(StoredType::kF16, "F16", 1),
    Row<BF16, 1, 2>(StoredType::kBF16, "BF16", 30),
    {StoredType::kI32, "I32", -1, {1, 4}, nullptr},
    {StoredType::kI8, "I8", -1, {1, 1}, nullptr},
    Row<Q4_0, 32, 18>(StoredType::kQ4_0, "Q4_0", 2),
    Row<Q4_1, 32, 20>(StoredType::kQ4_1, "Q4_1", 3),
    Row<Q5_0, 32, 22>(StoredType::kQ5_0, "Q5_0", 6),
    Row<Q5_1, 32, 24>(StoredType::kQ5_1, "Q5_1", 7),
    Row<Q8_0, 32, 34>(StoredType::kQ8_0, "Q8_0", 8),
    Row<Q2_K, 256, 84>(StoredType::kQ2_K, "Q2_K", 10),
    Row<Q3_K, 256, 110>(StoredType::kQ3_K, "Q3_K", 11),
    Row<Q4_K, 256, 144>(StoredType::kQ4_K, "Q4_K", 12),
    Row<Q5_K, 256, 176>(StoredType::kQ5_K, "Q5_K", 13),
    Row<Q6_K, 256, 210>(StoredType::kQ6_K, "Q6_K", 14),
    Row<Q8_K, 256, 292>(StoredType::kQ8_K, "Q8_K", 15),
    Row<IQ4_NL, 32, 18>(StoredType::kIQ4_NL, "IQ4_NL", 20),
    Row<IQ4_XS, 256, 136>(StoredType::kIQ4_XS, "IQ4_XS", 23),
    Row<MXFP4, 32, 17>(StoredType::kMXFP4, "MXFP4", 39),
    {StoredType::kOther, "other", -1, {}, nullptr},
};

constexpr bool InOrder() {
  for (size_t i = 0; i < std::size(kFormats); ++i) {
    if (kFormats[i].type != static_cast<StoredType>(i)) return false;
  }
  return std::size(kFormats) == static_cast<size_t>(StoredType::kOther) + 1;
}
static_assert(InOrder(), "a type is its row's index");

// By number.
constexpr const char* kGgufNames[] = {
    "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
    "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
    "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
    "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
    "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
    "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0"};

}  // namespace

const StoredFormat& FormatOf(StoredType type) { return kFormats[static_cast<size_t>(type)]; }

const StoredFormat* FindGgufFormat(uint32_t gguf_number) {
  for (const StoredFormat& format : kFormats) {
    if (format.gguf_number >= 0 && static_cast<uint32_t>(format.gguf_number) == gguf_number) {
      return &format;
    }
  }
  return nullptr;
}

std::string GgufTypeName(uint32_t gguf_number) {
  if (gguf_number < std::size(kGgufNames)) return kGgufNames[gguf_number];
  return absl::StrCat("number ", gguf_number);
}

std::string GgufTypesRead() {
  std::vector<const char*> names;
  for (const StoredFormat& format : kFormats) {
    if (format.gguf_number >= 0) names.push_back(format.name);
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace pregate
