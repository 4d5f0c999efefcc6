// Bounds on what a model file may claim; each is checked before anything is allocated from the
// claim.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pregate {

inline constexpr int64_t kVocabSizeMax = int64_t{1} << 20;     // tokens
inline constexpr int64_t kHiddenMax = int64_t{1} << 16;        // channels
inline constexpr int64_t kFfnWidthMax = int64_t{1} << 20;      // neurons of one layer
inline constexpr int64_t kLayersMax = 1024;                    // layers of a backbone
inline constexpr int64_t kHeadsMax = 1024;                     // query heads
inline constexpr int64_t kHeadDimMax = 1024;                   // channels of one head
inline constexpr int64_t kPositionMax = int64_t{1} << 24;      // tokens of context
inline constexpr int64_t kExpertsMax = 256;                    // experts of a layer
inline constexpr int64_t kRouterLayersMax = 64;                // layers of a router
inline constexpr int64_t kRouterHiddenMax = int64_t{1} << 14;  // channels of a router
inline constexpr int64_t kEosTokensMax = 64;                   // ids that end a text
inline constexpr int64_t kArchitecturesMax = 16;               // names in a config.json

inline constexpr int64_t kTensorsMax = int64_t{1} << 17;                // tensors of a checkpoint
inline constexpr int kTensorRankMax = 4;                                // axes of a tensor
inline constexpr size_t kTensorNameBytesMax = 256;                      // bytes
inline constexpr int64_t kShardsMax = 1024;                             // files of a checkpoint
inline constexpr size_t kSafetensorsHeaderBytesMax = size_t{16} << 20;  // bytes
inline constexpr size_t kConfigBytesMax = size_t{1} << 20;              // bytes of a config.json
inline constexpr size_t kIndexBytesMax = size_t{32} << 20;          // bytes of an index or manifest
inline constexpr uint64_t kPipedFileBytesMax = uint64_t{16} << 30;  // bytes read from a pipe
inline constexpr int kJsonDepthMax = 32;                            // nested objects and arrays
inline constexpr size_t kTokenTextBytesMax = 4096;                  // bytes of one token's text
inline constexpr size_t kSentencePieceModelBytesMax = size_t{16} << 20;  // of a tokenizer.model
inline constexpr int64_t kGgufKeysMax = 4096;                            // metadata entries
inline constexpr size_t kGgufStringBytesMax = size_t{1} << 24;           // bytes of one string
inline constexpr int64_t kGgufAlignmentMax = int64_t{1} << 20;           // bytes
inline constexpr unsigned kHashThreadsMax = 16;                          // threads that hash a file

}  // namespace pregate
