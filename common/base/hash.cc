#include "common/base/hash.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include "absl/strings/escaping.h"
#include "common/base/status.h"

namespace pregate {

namespace {

// EVP_sha256() would be looked up at each use, under a lock of the whole process.
const EVP_MD* Sha256Method() {
  static const EVP_MD* const method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return method;
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* ctx = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(ctx); }
  void Begin() { PREGATE_CHECK(EVP_DigestInit_ex2(ctx, Sha256Method(), nullptr) == 1); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) { state_->Begin(); }

Sha256::~Sha256() = default;

void Sha256::Update(std::string_view bytes) {
  PREGATE_CHECK(EVP_DigestUpdate(state_->ctx, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::HexDigest() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  PREGATE_CHECK(EVP_DigestFinal_ex(state_->ctx, digest, &size) == 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 sha;
  sha.Update(bytes);
  return sha.HexDigest();
}

// Short texts are hashed by the thousand: a context of each thread's own is kept.
std::array<uint8_t, 32> Sha256Digest(std::string_view bytes) {
  struct Context {
    EVP_MD_CTX* const ctx = EVP_MD_CTX_new();
    ~Context() { EVP_MD_CTX_free(ctx); }
  };
  thread_local const Context context;
  std::array<uint8_t, 32> digest;
  PREGATE_CHECK(EVP_DigestInit_ex2(context.ctx, Sha256Method(), nullptr) == 1 &&
                EVP_DigestUpdate(context.ctx, bytes.data(), bytes.size()) == 1 &&
                EVP_DigestFinal_ex(context.ctx, digest.data(), nullptr) == 1);
  return digest;
}

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
