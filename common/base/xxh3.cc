#include "common/base/xxh3.h"

#include <xxhash.h>

#include "absl/strings/escaping.h"
#include "common/base/status.h"

namespace pregate {
namespace {

std::string Hex(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest));
}

}  // namespace

struct Xxh3::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) {
  PREGATE_CHECK(state_->xxh != nullptr && XXH3_128bits_reset(state_->xxh) == XXH_OK);
}

Xxh3::~Xxh3() = default;

void Xxh3::Update(std::string_view bytes) {
  PREGATE_CHECK(XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}

std::string Xxh3::HexDigest() const { return Hex(XXH3_128bits_digest(state_->xxh)); }

std::string Xxh3Hex(std::string_view bytes) {
  return Hex(XXH3_128bits(bytes.data(), bytes.size()));
}

}  // namespace pregate
