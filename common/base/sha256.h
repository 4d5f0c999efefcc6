// SHA-256 (OpenSSL's) with the streaming form that large files need.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace pregate {

// Not thread-safe. Update any number of times, then HexDigest once.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  std::string HexDigest();  // 64 lower-case hex digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view bytes);

}  // namespace pregate
